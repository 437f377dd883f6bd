"""Tags of columns: what they are called, and which columns can have them."""

import datetime as dt
import enum
import uuid

import pytest
from django.core.exceptions import ValidationError
from django.db import models
from django.db.models import F
from django.utils.functional import lazystr
from django.utils.safestring import mark_safe

from django_integration.names.columns import (
    any_value_tag,
    comparable_fields,
    field_tag,
    is_comparable,
    tags_of_columns,
    tags_of_values,
)

from ..zoo.models import Aquarium, Cage, Duty, Pet, Specimen, Word

CODE = uuid.UUID("01234567-89ab-cdef-0123-456789abcdef")
DAY = dt.date(2024, 2, 29)


class Name(models.TextChoices):
    ADA = "ada"


class PlainName(str, enum.Enum):  # noqa: UP042 - its str() is not its text
    ADA = "ada"


class Number(models.IntegerChoices):
    SEVEN = 7


def tag_of(column: str, value: object) -> str:
    return field_tag(Specimen, Specimen._meta.get_field(column), value)


def test_columns_whose_equality_is_the_databases() -> None:
    assert [field.attname for field in comparable_fields(Specimen)] == [
        *("id", "number", "small", "alive", "code", "found", "changed", "name", "slug"),
        *("cage_id", "tank_id", "rank"),
    ], "a word's key is longer than text that is compared"


def test_a_child_has_the_columns_of_its_own_table() -> None:
    assert [field.attname for field in comparable_fields(Aquarium)] == ["building_ptr_id", "litres"]


def test_a_property_hides_a_column(monkeypatch: pytest.MonkeyPatch) -> None:
    name = Cage._meta.get_field("name")
    assert is_comparable(name)
    monkeypatch.setattr(Cage, "name", property(lambda cage: "another"))
    assert not is_comparable(name)


@pytest.mark.parametrize(
    ("column", "values", "tag"),
    [
        ("number", [7, "7", Number.SEVEN, 7.0], "zoo.specimen[number=7]"),
        ("number", [1, True], "zoo.specimen[number=1]"),
        ("number", [None], "zoo.specimen[number=None]"),
        ("alive", [True, 1], "zoo.specimen[alive=True]"),
        ("alive", [False, 0], "zoo.specimen[alive=False]"),
        ("code", [CODE, str(CODE), CODE.hex], f"zoo.specimen[code={CODE}]"),
        ("found", [DAY, dt.datetime(2024, 2, 29, 12), "2024-02-29"], "zoo.specimen[found=2024-02-29]"),  # noqa: DTZ001
        ("name", ["ada", Name.ADA, PlainName.ADA, mark_safe("ada"), lazystr("ada")], "zoo.specimen[name=ada]"),
        ("name", [7, "7"], "zoo.specimen[name=7]"),
        ("name", [""], "zoo.specimen[name=]"),
        ("cage", [3, "3"], "zoo.specimen[cage_id=3]"),
        ("cage", [None], "zoo.specimen[cage_id=None]"),
        ("tank", [3, "3"], "zoo.specimen[tank_id=3]"),
    ],
)
def test_equal_values_have_one_spelling(column: str, values: list[object], tag: str) -> None:
    assert [tag_of(column, value) for value in values] == [tag] * len(values)


def test_long_and_odd_text_is_hashed() -> None:
    for text in ("é", "x" * 80, "\ud800", "x" * 65):
        tag = tag_of("name", text)
        assert tag.startswith("zoo.specimen[name=~")
        assert len(tag) < 80
        assert tag != tag_of("name", text[:-1] + "y")


@pytest.mark.parametrize(
    ("column", "value"),
    [("name", "x" * 81), ("small", -1), ("small", 2**15), ("number", 2**31), ("even", 1), ("collated", "a")],
)
def test_what_the_database_may_store_as_another_value_is_not_known(column: str, value: object) -> None:
    """Text is cut, and numbers are clamped, by some databases in some modes."""
    assert tag_of(column, value) == f"zoo.specimen[{column}=*]"


@pytest.mark.parametrize(("column", "value"), [("number", "seven"), ("code", "no"), ("found", "yesterday")])
def test_a_value_that_the_field_cannot_hold_raises(column: str, value: object) -> None:
    with pytest.raises((ValueError, ValidationError)):
        tag_of(column, value)


def test_an_inherited_column_belongs_to_the_table_that_it_is_in() -> None:
    name = Aquarium._meta.get_field("name")
    assert field_tag(Aquarium, name, "shark") == "zoo.building[name=shark]"
    assert any_value_tag(Aquarium, name) == "zoo.building[name=*]"
    assert field_tag(Pet, Pet._meta.get_field("weight"), 5) == "zoo.animal[weight=5]"


def test_a_row_that_was_written_whole_has_a_value_in_every_column() -> None:
    values = {"id": 1, "keeper_id": 2, "cage_id": 3, "day": F("day") + 1}
    assert list(tags_of_values(Duty, values)) == [
        *("zoo.duty[id=1]", "zoo.duty[keeper_id=2]", "zoo.duty[cage_id=3]", "zoo.duty[day=*]")
    ]


@pytest.mark.parametrize("value", [F("day"), object(), "monday", [1], float("inf"), models.Value(3)])
def test_what_the_field_does_not_understand_is_not_known_and_raises_nothing(value: object) -> None:
    """The row is written; its invalidation must not fail."""
    tags = list(tags_of_values(Duty, {"id": 1, "keeper_id": 2, "day": value}))
    assert tags == ["zoo.duty[id=1]", "zoo.duty[keeper_id=2]", "zoo.duty[cage_id=*]", "zoo.duty[day=*]"]


def test_columns_that_were_written_have_changed_comparable_or_not() -> None:
    assert set(tags_of_columns(Specimen, ["cage", "text", "nothing"])) == {
        *("zoo.specimen[cage_id=*]", "zoo.specimen[text=*]"),
        "zoo.specimen[double=*]",  # may be computed from them
    }
    assert set(tags_of_columns(Specimen, {"cage_id"})) == {"zoo.specimen[cage_id=*]", "zoo.specimen[double=*]"}
    assert list(tags_of_columns(Aquarium, ["name"])) == [], "that is a column of another table"
    assert set(tags_of_columns(Cage, None)) == {"zoo.cage[id=*]", "zoo.cage[name=*]"}
    assert set(tags_of_columns(Word, None)) == {"zoo.word[text=*]", "zoo.word[day=*]"}
