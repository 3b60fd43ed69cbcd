"""Names of C++ functions without what surrounds them, and what attach points say of places."""

from __future__ import annotations

import pytest

from invivo.probes.user_places import Location, function_name, parse_location


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
