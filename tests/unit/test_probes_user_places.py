"""Names of C++ functions without what surrounds them, and what attach points say of places."""

from __future__ import annotations

import pytest

from fixture_elf import executable
from invivo.formats.elf import Elf
from invivo.probes.user_places import Location, cpp_functions, function_name, near_signatures, parse_location

_ADD = "_ZN4shop4Cart3addEiRKNSt7__cxx1112basic_stringIcSt11char_traitsIcESaIcEEE"


@pytest.mark.parametrize(
    ("signature", "name"),
    [
        ("main", "main"),
        ("ns::f(int)", "ns::f"),
        ("ns::C::method(int (*)(char)) const", "ns::C::method"),
        ("int ns::twice<int>(int)", "ns::twice<int>"),
        ("std::vector<int, std::allocator<int> > make<unsigned long>(unsigned long)", "make<unsigned long>"),
        ("ns::C::operator()(int)", "ns::C::operator()"),
        ("ns::operator+(A const&, A const&)", "ns::operator+"),
        ("ns::C::operator unsigned long() const", "ns::C::operator unsigned long"),
        ("(anonymous namespace)::g()", "(anonymous namespace)::g"),
        ("ns::f(int) [clone .cold]", "ns::f(int) [clone .cold]"),
    ],
)
def test_function_name(signature: str, name: str) -> None:
    assert function_name(signature) == name


@pytest.mark.parametrize(
    ("text", "cpp", "location"),
    [
        ("f", False, Location("f")),
        ("f+0x10", False, Location("f", 16)),
        ("4096", False, Location("", address=4096)),
        ("ns::f(int)+4", True, Location("ns::f(int)", 4, cpp=True)),
        ("ns::operator+", True, Location("ns::operator+", cpp=True)),
        ("ns::operator+(int)", True, Location("ns::operator+(int)", cpp=True)),
    ],
)
def test_location(text: str, cpp: bool, location: Location) -> None:
    assert parse_location("uprobe", text, cpp=cpp) == location


@pytest.mark.parametrize(
    "signature",
    [
        "shop::Cart::add",
        "shop::Cart::add(int, std::string const&)",
        "shop::Cart::add(int,std::__cxx11::basic_string<char,std::char_traits<char>,std::allocator<char>>const&)",
    ],
)
def test_strings_may_be_called_what_everybody_calls_them(signature: str) -> None:
    elf = Elf(executable([(_ADD, 0, 64), ("_ZN4shop4Cart3addEd", 64, 32)]), "/bin/shop")
    found = [symbol.name for symbol, _ in cpp_functions(elf, signature)]
    assert found[:1] == [_ADD]
    assert len(found) == (2 if signature.endswith("add") else 1)


@pytest.mark.parametrize(
    ("wanted", "hint"),
    [
        ("f(long)", "there is ns::f(int)"),
        ("ns::g", "there is ns::g(int) and ns::g(bool) and ns::g(char) (and 1 more)"),
        ("ns::ff", "did you mean ns::f or ns::g?"),
        ("other", None),
    ],
)
def test_functions_that_are_near(wanted: str, hint: str | None) -> None:
    known = {"ns::f(int)", "ns::g(int)", "ns::g(bool)", "ns::g(char)", "ns::g(double)"}
    assert near_signatures(wanted, known) == hint
