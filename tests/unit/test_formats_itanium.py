"""C++ names: by a table of what the parts of the grammar look like, and against libstdc++'s own demangler."""

from __future__ import annotations

import ctypes
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from invivo.formats.elf import Elf
from invivo.formats.itanium import demangle

LIBRARY = Path("/usr/lib/x86_64-linux-gnu/libstdc++.so.6")


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("_Z1fv", "f()"),
        ("_Z3addii", "add(int, int)"),
        ("_ZN3foo3barEi", "foo::bar(int)"),
        ("_ZNK3foo3barEPKc", "foo::bar(char const*) const"),
        ("_ZN3fooC1ERKS_", "foo::foo(foo const&)"),
        ("_ZN3fooD0Ev", "foo::~foo()"),
        ("_ZN3foopLEl", "foo::operator+=(long)"),
        ("_ZN3foocvbEv", "foo::operator bool()"),
        ("_ZN12_GLOBAL__N_14workEv", "(anonymous namespace)::work()"),
        ("_ZTV3foo", "vtable for foo"),
        ("_ZThn16_N3foo3runEv", "non-virtual thunk to foo::run()"),
        ("_ZGVZ4mainE5table", "guard variable for main::table"),
        ("_Z4sortIiEvPT_S1_", "void sort<int>(int*, int*)"),
        ("_Z3mapILi3ELb1EE3boxv", "box map<3, true>()"),
        ("_Z1fPFivE", "f(int (*)())"),
        ("_Z1fRA5_Kc", "f(char const (&) [5])"),
        ("_Z1fM3fooFivE", "f(int (foo::*)())"),
        ("_Z1fPFPFvvEiE", "f(void (*(*)(int))())"),
        ("_Z1fSt8functionIFbiEE", "f(std::function<bool (int)>)"),
        ("_Z1fSs", "f(std::string)"),
        ("_ZNSsC1Ev", "std::basic_string<char, std::char_traits<char>, std::allocator<char> >::basic_string()"),
        ("_ZZ4mainENKUliE_clEi", "main::{lambda(int)#1}::operator()(int) const"),
        ("_Z3sumIJidEEvDpT_", "void sum<int, double>(int, double)"),
        ("_Z3bigB5cxx11v", "big[abi:cxx11]()"),
        ("_ZN3foo3barEi.part.0", "foo::bar(int) [clone .part.0]"),
        ("_Z1fOiRVx", "f(int&&, long long volatile&)"),
    ],
)
def test_a_name(name: str, shown: str) -> None:
    assert demangle(name) == shown


@pytest.mark.parametrize("name", ["main", "_Z", "_ZN", "_ZN3fooE3", "_Z99999f", "_Zzz", "_ZN3fooEi extra", "_Z1fS5_"])
def test_what_is_no_name(name: str) -> None:
    assert demangle(name) is None


def test_all_names_of_the_standard_library_are_as_its_own_demangler_has_them() -> None:
    if not LIBRARY.exists():
        pytest.skip("libstdc++ is not installed")
    own = ctypes.CDLL(str(LIBRARY)).__cxa_demangle
    own.restype = ctypes.c_void_p
    own.argtypes = [ctypes.c_char_p, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p]
    free = ctypes.CDLL(None).free
    free.argtypes = [ctypes.c_void_p]
    names = {symbol.name for symbol in Elf(LIBRARY.read_bytes(), str(LIBRARY)).symbols().functions()}
    differences = []
    compared = 0
    for name in sorted(names):
        pointer = own(name.encode(), None, None, None) if name.startswith("_Z") else None
        if pointer:
            expected = ctypes.string_at(pointer).decode()
            free(pointer)
            compared += 1
            if demangle(name) != expected:
                differences.append((name, expected, demangle(name)))
    assert compared > 3000
    assert differences == []


@given(st.text("_ZNKSTIJEPRFXLDCMAdtsrvilfpo0123456789", max_size=60))
def test_no_name_is_too_much(text: str) -> None:
    shown = demangle("_Z" + text)
    assert shown is None or len(shown) < 1 << 18


def test_nesting_without_end_is_refused() -> None:
    assert demangle("_Z1f" + "P" * 5000 + "i") is None
    assert demangle("_Z1f" + "".join(f"St4pairIS{'' if i == 0 else i - 1}_S_E" for i in range(40))) is None
