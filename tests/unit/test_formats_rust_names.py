"""Names of Rust's functions, of both forms. Most were made by rustc."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from invivo.formats.rust_names import demangle_rust, readable_rust

_V0 = {
    "_RNvC5crate4main": "crate::main",
    "_RNvCs6xxl1lAjzDf_1a4main": "a::main",
    "_RINvCs6xxl1lAjzDf_1a3genxNCNvB2_4mains0_0EB2_": "a::gen::<i64, a::main::{closure#2}>",
    "_RINvMNtCsgEmfK2I1SDS_4core3stre18trim_start_matchesReECsgY6Mt91CT9J_14rustc_demangle": (
        "<str>::trim_start_matches::<&str>"
    ),
    "_RINvMs_Cs6xxl1lAjzDf_1aINtB5_2SqhE4showKj7_EB5_": "<a::Sq<u8>>::show::<7>",
    "_RNvYeNtNtC5alloc6borrow7ToOwned8to_owned": "<str as alloc::borrow::ToOwned>::to_owned",
    "_RNvXC1aSmNtC4core5Debug3fmt": "<[u32] as core::Debug>::fmt",
    "_RINvC1a1fTlEAhj8_QDNtC4core3AnyEL_E": "a::f::<(i32,), [u8; 8], &mut dyn core::Any>",
    "_RINvC1a1fFUKCPhEuE": 'a::f::<unsafe extern "C" fn(*const u8)>',
    "_RINvC1a1fFG_RL0_eEReE": "a::f::<for<'a> fn(&'a str) -> &str>",
    "_RINvC1a1fKb1_Kc41_KanF_E": "a::f::<true, 'A', -15>",
    "_RNvNvC3std5stdio4USED.0": "std::stdio::USED.0",
    "_RNvC1a1f.llvm.1234": "a::f",
    "_RNvCs6xxl1lAjzDf_1au9gre_6ka8i": "a::größe",
    "_RNSC1a6vtable": "a::{shim:vtable#0}",
}
_LEGACY = {
    "_ZN4core3fmt5write17h0123456789abcdefE": "core::fmt::write",
    "_ZN45_$LT$a..Sq$LT$f64$GT$$u20$as$u20$a..Shape$GT$4area17haa8f36703d55a081E": "<a::Sq<f64> as a::Shape>::area",
    "_ZN42_$LT$$RF$T$u20$as$u20$core..fmt..Debug$GT$3fmt17h30753ce607bf3824E": "<&T as core::fmt::Debug>::fmt",
    "_ZN1a13gr$uf6$$udf$e17h23a57e800328702bE": "a::größe",
    "_ZN3foo3barE": None,
    "_ZN3foo17hnotdigitsatall00E": None,
    "_ZN9": None,
}


@pytest.mark.parametrize(("name", "wanted"), [*_V0.items(), *_LEGACY.items()])
def test_names(name: str, wanted: str | None) -> None:
    assert demangle_rust(name) == wanted


def test_other_names_stay_as_they_are() -> None:
    for name in ("main", "_start", "_Z3foov", "std::vector<int>::push_back(int&&)", "a::b", "a::h0123456789abcdeg", ""):
        assert readable_rust(name) == name
    assert readable_rust("_$LT$T$u20$as$u20$U$GT$::f::h0123456789abcdef") == "<T as U>::f"


@given(st.text(alphabet="RNvCIMXYEBs_0123ab4TSAKLFGDpjhe", max_size=60))
@example("C0")
def test_what_is_no_name_is_none(text: str) -> None:
    result = demangle_rust(f"_R{text}")
    assert result is None or result


def test_what_is_meant_again_and_again_does_not_grow_without_end() -> None:
    name = "INvC1a1fT" + "ee" * 4 + "E"
    for _ in range(40):
        name = f"INvC1a1fT{name}BC_BC_BC_EE"
    assert demangle_rust("_R" + name) is None
    assert demangle_rust("_R" + "S" * 5000 + "e") is None
