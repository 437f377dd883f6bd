"""Templates of keys: their text, and what tells calls of one text apart."""

from datetime import date
from decimal import Decimal
from enum import Enum, IntEnum
from types import SimpleNamespace
from typing import Any

import pytest

from invalidator.errors import InvalidName
from invalidator.templates import Template, check_template


class Color(Enum):
    RED = "red"

    def __str__(self) -> str:
        return self.value


class Fruit(Enum):
    RED = "red"

    def __str__(self) -> str:
        return self.value


class Size(IntEnum):
    ONE = 1


class Text(str):
    """As Django's SafeString."""

    __slots__ = ()


def fill(text: str, **arguments: Any) -> tuple[str, str]:
    return Template(text, arguments, "f").fill(arguments)


@pytest.mark.parametrize(
    ("template", "arguments"),
    [
        ("menu", {}),
        ("page:{a}", {"a": 7}),
        ("{a}:{b}", {"a": "x", "b": None}),
        ("{a}{a}!", {"a": True}),
        ("{{a}}:{a}", {"a": 1.5}),
        ("{a.real}:{b.year}", {"a": 3, "b": date(2024, 2, 29)}),
        ("{a[0]}:{a[1].imag}", {"a": [1, 2]}),
        ("{a!r}:{a!s}:{a!a}", {"a": "é"}),
        ("{a:>5}:{b:%Y}", {"a": "x", "b": date(2024, 2, 29)}),
        ("{a:>{b}}", {"a": "x", "b": 4}),
        ("{a:.2f}", {"a": Decimal("1.005")}),
        ("{a}", {"a": Text("safe")}),
    ],
)
def test_its_text_is_that_of_str_format(template: str, arguments: dict[str, Any]) -> None:
    """People, and other processes, make it that way."""
    assert fill(template, **arguments)[0] == template.format_map(arguments)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"a": "1:2", "b": "3"}, {"a": "1", "b": "2:3"}),
        ({"a": 1, "b": 2}, {"a": "1", "b": 2}),
        ({"a": True, "b": 2}, {"a": "True", "b": 2}),
        ({"a": None, "b": ""}, {"a": "None", "b": ""}),
        ({"a": "", "b": "x:"}, {"a": ":x", "b": ""}),
        ({"a": Color.RED, "b": 1}, {"a": Fruit.RED, "b": 1}),
        ({"a": Color.RED, "b": 1}, {"a": "red", "b": 1}),
        ({"a": Size.ONE, "b": 1}, {"a": 1, "b": 1}),
    ],
)
def test_calls_of_one_text_are_told_apart(one: dict[str, Any], other: dict[str, Any]) -> None:
    """Or each would be given the other's value."""
    assert fill("{a}:{b}", **one) != fill("{a}:{b}", **other)


def test_rows_of_two_models_with_one_key_are_told_apart() -> None:
    class Row:
        def __init__(self, pk: int) -> None:
            self.pk = pk

    class Other(Row):
        pass

    assert fill("card:{row.pk}", row=Row(1)) == fill("card:{row.pk}", row=Row(1))
    assert fill("card:{row.pk}", row=Row(1))[0] == fill("card:{row.pk}", row=Other(1))[0]
    assert fill("card:{row.pk}", row=Row(1)) != fill("card:{row.pk}", row=Other(1))


def test_equal_texts_of_subclasses_are_one_value() -> None:
    assert fill("{a}", a=Text("x")) == fill("{a}", a="x")


def test_a_class_that_cannot_be_hashed_will_do() -> None:
    class Unhashable(type):
        __hash__ = None  # type: ignore[assignment]

        def __eq__(cls, other: object) -> bool:
            return cls is other

    class Odd(metaclass=Unhashable):
        pk = 1

    assert fill("{odd.pk}", odd=Odd())[0] == "1"


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{idd}", r"did you mean \{id\}\?"),
        ("{other}", "its arguments are: id, lang"),
        ("{id:>{width}}", "names 'width'"),
        ("{}", r"name its arguments, as in \{id\}"),
        ("{0}", "name its arguments"),
        ("{id", "cannot be read"),
        ("{id!x}", "there is no !x"),
    ],
)
def test_what_cannot_be_filled_in_is_refused_with_a_repair(template: str, message: str) -> None:
    with pytest.raises(InvalidName, match=f"^shop.product: .*{message}"):
        check_template(template, ("id", "lang"), "shop.product")


def test_an_error_of_a_value_is_the_callers() -> None:
    with pytest.raises(AttributeError):
        fill("{a.pk}", a=SimpleNamespace())
