"""What readers of a cached value would call different."""

import dataclasses
import math
from collections.abc import Callable
from datetime import date
from functools import cached_property
from typing import Any

import pytest
from django.http import HttpResponse

from django_integration.monitoring.differences import find, short
from invalidator.extending import keep

from ..zoo.models import Animal, Cage


@dataclasses.dataclass
class Price:
    amount: int
    copy: int = dataclasses.field(default=0, compare=False)


class Plain:
    def __init__(self, name: str) -> None:
        self.name = name

    @cached_property
    def length(self) -> int:
        return len(self.name)


class Array:
    """Answers a comparison with something that is neither yes nor no, as numpy's do."""

    def __init__(self, *items: int) -> None:
        self.items = items

    def __eq__(self, other: object) -> Any:
        raise ValueError("ambiguous")

    __hash__ = None  # type: ignore[assignment]


def test_rows_are_compared_by_their_columns() -> None:
    assert Cage(pk=1, name="old") == Cage(pk=1, name="new")
    difference = find(Cage(pk=1, name="old"), Cage(pk=1, name="new"))
    assert difference is not None
    assert str(difference) == ".name: 'old' → 'new'"
    assert find(Cage(pk=1, name="old"), Cage(pk=1, name="old")) is None


def test_related_rows_count_where_both_have_them() -> None:
    def animal(cage: str) -> Animal:
        return Animal(pk=1, cage=Cage(pk=2, name=cage))

    assert find(animal("old"), animal("old")) is None
    difference = find(animal("old"), animal("new"))
    assert difference is not None
    assert difference.where == ".cage.name"
    # A reader has followed the key of a shared row, and so has loaded what its loader did not.
    assert find(animal("old"), Animal(pk=1, cage_id=2)) is None


def test_query_sets_are_compared_row_by_row(db: None) -> None:
    Cage.objects.create(name="one")
    old = Cage.objects.order_by("pk")
    list(old)
    Cage.objects.create(name="two")
    difference = find(old, Cage.objects.order_by("pk"))
    assert difference is not None
    assert (difference.where, difference.was) == ("[1]", "(nothing)")


@pytest.mark.parametrize(
    ("old", "new", "where"),
    [
        ({"a": [1, 2]}, {"a": [1, 3]}, "['a'][1]"),
        ({"a": 1}, {}, "['a']"),
        ({}, {"a": 1}, "['a']"),
        ([1], [1, 2], "[1]"),
        ({1}, {2}, ""),
        (1, 2, ""),
        ("1", 1, ""),
        (Price(1), Price(2), ".amount"),
        (Plain("a"), Plain("b"), ".name"),
        (HttpResponse("a"), HttpResponse("b"), ".content"),
        (HttpResponse("a"), HttpResponse("a", status=404), ".status_code"),
        (HttpResponse("a"), HttpResponse("a", headers={"X-A": "1"}), ".headers['X-A']"),
        (Array(1), Array(2), ""),
        (keep({"a": [1]}), keep({"a": [2]}), "['a'][0]"),
        (Price, Plain, ""),
    ],
)
def test_it_says_where(old: object, new: object, where: str) -> None:
    difference = find(old, new)
    assert difference is not None
    assert difference.where == where


@pytest.mark.parametrize(
    "make",
    [
        lambda: {"b": 1, "a": {"c": date(2024, 1, 1)}},
        lambda: (1, 2.0, "three", None, {4}),
        lambda: math.nan,
        lambda: Price(1),
        lambda: Plain("a"),
        lambda: HttpResponse("a"),
        lambda: Array(1),
        lambda: keep(Plain("a")),
    ],
)
def test_what_is_made_alike_is_the_same(make: Callable[[], object]) -> None:
    assert find(make(), make()) is None


def test_a_field_that_does_not_compare_does_not_count() -> None:
    assert find(Price(1, copy=1), Price(1, copy=2)) is None


def test_what_a_reader_has_made_of_it_does_not_count() -> None:
    old = Plain("a")
    assert old.length == 1
    assert find(old, Plain("a")) is None


def test_a_circle_ends() -> None:
    def circle(end: int) -> list[Any]:
        found: list[Any] = [end]
        found.insert(0, found)
        return found

    assert find(circle(1), circle(1)) is None
    assert find(circle(1), circle(2)) is not None


def test_what_is_very_deep_ends() -> None:
    def deep(end: int) -> list[Any]:
        found: list[Any] = [end]
        for _ in range(200):
            found = [found]
        return found

    assert find(deep(1), deep(1)) is None
    assert find(deep(1), deep(2)) is not None


def test_a_value_that_cannot_say_what_it_is_is_no_error() -> None:
    class Mute:
        def __repr__(self) -> str:
            raise ValueError("no")

    assert "Mute" in short(Mute())
    assert len(short("x" * 10_000)) < 100
