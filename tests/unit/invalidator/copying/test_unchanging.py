"""What nobody can change is told by its type, or by all that is in it."""

import functools
import re
from dataclasses import dataclass
from typing import Any

import pytest

from invalidator.copying import add_cached_property, add_unchanging, unchanging
from invalidator.copying.unchanging import is_cached_property, is_unchanging


@dataclass(frozen=True)
class Point:
    x: Any


class lazy:  # noqa: N801 - a descriptor
    """Writes into its object, as another library's cached properties do."""


def test_code_is_never_copied() -> None:
    for value in (len, pytest.raises, Point, re, re.compile("a"), object()):
        assert is_unchanging(value)


def test_a_frozen_object_is_as_unchanging_as_what_is_in_it() -> None:
    assert is_unchanging(Point((1, Point("a"))))
    assert not is_unchanging(Point([1]))


def test_what_lies_too_deep_is_taken_for_changing() -> None:
    deep: Any = 1
    for _ in range(60):
        deep = (deep,)
    assert not is_unchanging(deep)


def test_a_type_can_be_added(monkeypatch) -> None:
    class Text(str):
        __slots__ = ()

    monkeypatch.setattr(unchanging, "UNCHANGING", set(unchanging.UNCHANGING))
    assert not is_unchanging(Text())
    add_unchanging(Text)
    assert is_unchanging(Text())


def test_a_descriptor_that_writes_into_its_object_can_be_added(monkeypatch) -> None:
    @dataclass(frozen=True)
    class Lazy:
        x: int
        y = lazy()

    monkeypatch.setattr(unchanging, "_cached_properties", unchanging._cached_properties)
    assert is_cached_property(functools.cached_property(len))
    assert is_unchanging(Lazy(1))
    add_cached_property(lazy)
    assert is_cached_property(lazy())
    assert not is_unchanging(Lazy(1))
