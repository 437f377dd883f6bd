"""What is in a value, by name."""

import functools
from collections import deque
from typing import Any

import pytest

from invalidator.copying import add_parts, may_appear, parts, parts_of


class Thing:
    def __init__(self, x: object) -> None:
        self.x = x

    @functools.cached_property
    def later(self) -> int:
        return 1


class Slotted:
    __slots__ = ("a", "b")


class Silent:
    def __reduce__(self) -> Any:
        return Silent, ()


@pytest.mark.parametrize(
    ("value", "names"),
    [({"a": 1}, ["a"]), ([1, 2], [0, 1]), ((1,), [0]), (deque([1]), [0]), ({1}, [""]), ("text", None), (1, None)],
    ids=repr,
)
def test_containers_by_index_or_key(value, names) -> None:
    found = parts_of(value)
    assert (found and [name for name, _ in found[0]]) == names


def test_objects_by_attribute_without_what_they_have_computed() -> None:
    thing = Thing(1)
    assert thing.later == 1
    assert parts_of(thing) == ([("x", 1)], True)
    slotted = Slotted()
    slotted.b = 2
    assert parts_of(slotted) == ([("b", 2)], True)


def test_nobody_looks_into_what_only_its_class_knows() -> None:
    assert parts_of(Silent()) is None


def test_an_integration_says_what_is_in_its_kinds(monkeypatch) -> None:
    monkeypatch.setattr(parts, "_by_base", {})
    monkeypatch.setattr(parts, "_may_appear", {})
    add_parts(Silent, lambda value: [("own", 1)], lambda value, name: name == "own")
    assert parts_of(Silent()) == ([("own", 1)], True)
    assert may_appear(Silent(), "own")
    assert not may_appear(Silent(), "other")
    assert not may_appear(Thing(1), "own")
