"""Records and enumerations, which replace the standard library's for the sake of start-up."""

from __future__ import annotations

import pickle

import pytest

from invivo.enums import Enum
from invivo.record import Record, replace


class Point(Record):
    x: int
    y: int = 2


class Named(Point):
    name: str = "n"


class Colour(Enum):
    """What the tests count with."""

    RED = "red"
    GREEN = (2, 3)

    @property
    def is_red(self) -> bool:
        return self is Colour.RED


def test_fields_by_position_and_by_name() -> None:
    assert (Point(1).x, Point(1).y, Point(y=5, x=4).y) == (1, 2, 5)
    assert Point(1) == Point(1, 2) != Point(1, 3)
    assert hash(Point(1)) == hash(Point(1, 2))
    assert repr(Point(1)) == "Point(x=1, y=2)"


def test_a_record_derived_from_another_has_the_fields_of_both() -> None:
    assert Named(1, name="m") == Named(1, 2, "m")
    assert Point(1) != Named(1)
    assert replace(Named(1), x=9).x == 9


@pytest.mark.parametrize("arguments", [(), (1, 2, 3)])
def test_a_wrong_number_of_values_is_an_error_each_time(arguments: tuple[int, ...]) -> None:
    for _ in range(2):
        with pytest.raises(TypeError, match="__init__"):
            Point(*arguments)


def test_there_are_no_other_attributes() -> None:
    with pytest.raises(AttributeError):
        object.__setattr__(Point(1), "z", 1)


def test_members_have_names_and_values() -> None:
    assert [(member.name, member.value) for member in Colour] == [("RED", "red"), ("GREEN", (2, 3))]
    assert len(Colour) == 2
    assert repr(Colour.GREEN) == "Colour.GREEN"
    assert (Colour.RED.is_red, Colour.GREEN.is_red) == (True, False)
    assert isinstance(Colour.RED, Colour)
    assert Colour.__doc__ == "What the tests count with."


def test_members_are_found_by_name_and_by_value_and_are_single() -> None:
    assert Colour("red") is Colour["RED"] is Colour.RED
    assert pickle.loads(pickle.dumps(Colour.GREEN)) is Colour.GREEN
    assert {Colour.RED: 1}[Colour("red")] == 1
    with pytest.raises(ValueError, match="'blue' is not a valid Colour"):
        Colour("blue")
    with pytest.raises(KeyError):
        Colour["BLUE"]
