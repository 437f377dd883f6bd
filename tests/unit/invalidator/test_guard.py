"""What is handed out live and changed by a reader is found, reported, and served to nobody after that."""

import functools
import logging
import random
import sys
from dataclasses import dataclass, field
from typing import Any

import pytest

from invalidator import Changed, Guard, InvalidSetting
from invalidator import guard as guards
from invalidator.entry import Entry
from invalidator.guard import GuardedEntry, difference, look_through


@dataclass
class Order:
    number: int = 1
    lines: list[Any] = field(default_factory=lambda: [{"price": 5}, {"price": 6}])

    @functools.cached_property
    def total(self) -> int:
        return 11


class Silent:
    """Only its own class can look into it."""

    def __init__(self) -> None:
        self.inside = [1]

    def __reduce__(self) -> Any:
        return Silent._made, (list(self.inside),)

    @staticmethod
    def _made(inside: list[int]) -> "Silent":
        made = Silent()
        made.inside = inside
        return made


shared = [1]
CHANGES: dict[str, tuple[Any, Any, str]] = {
    "an attribute": (Order(), lambda order: setattr(order, "number", 2), ".number"),
    "a new attribute": (Order(), lambda order: setattr(order, "note", 2), ".note"),
    "deep inside": (Order(), lambda order: order.lines[1].update(price=9), ".lines[1]['price']"),
    "one more": ([1, [2]], lambda value: value.append(3), "[2]"),
    "one less": ([1, [2]], lambda value: value.pop(), "[1]"),
    "another order": ([2, 1], lambda value: value.sort(), "[0]"),
    "a key": ({"a": 1}, lambda value: value.pop("a"), "['a']"),
    "another type": ({"a": 1}, lambda value: value.update(a=True), "['a']"),
    "a set": ([{1, 2}], lambda value: value[0].add(3), "[0]"),
    "bytes": (bytearray(b"ab"), lambda value: value.extend(b"c"), ""),
    "what only its class knows": ([Silent()], lambda value: value[0].inside.append(2), "[0]"),
    "an object in two places": ([shared, shared], lambda value: value[1].append(2), "[0][1]"),
}


@pytest.mark.parametrize(("value", "change", "where"), CHANGES.values(), ids=CHANGES)
def test_a_change_is_found_with_its_place(value, change, where) -> None:
    seen = look_through(value)
    assert seen is not None
    assert difference(seen, value) is None
    change(value)
    assert difference(seen, value) == where


def test_what_an_object_computes_and_keeps_is_no_change() -> None:
    order = Order()
    seen = look_through(order)
    assert seen is not None
    assert order.total == 11
    assert difference(seen, order) is None


def test_a_circle_is_walked_once() -> None:
    circle: list[Any] = []
    circle.append(circle)
    seen = look_through(circle)
    assert seen is not None
    assert difference(seen, circle) is None


@pytest.mark.parametrize("bad", [-0.1, 1.1, "1", None, float("nan")])
def test_a_share_is_a_number_from_zero_to_one(bad) -> None:
    with pytest.raises(InvalidSetting, match="guard must be a number from 0 to 1"):
        Guard(bad)


class TestInACache:
    @pytest.fixture
    def found(self) -> list[Changed]:
        return []

    @pytest.fixture
    def it(self, make, found) -> Any:
        return make(guard=Guard(1.0, found.append))

    def test_a_changed_value_is_served_to_nobody(self, it, found, caplog) -> None:
        it.cache.get_or_set("a", Order)
        mine = it.cache.get("a")
        line = sys._getframe().f_lineno - 1
        mine.lines[0]["price"] = 9
        assert it.cache.get_or_set("a", Order).lines[0]["price"] == 5
        assert found == [Changed("a", ".lines[0]['price']", f"{__file__}:{line}", f"{__name__}.Order")]
        assert it.cache.stats().evictions["changed"] == 1
        assert [(key, cause) for key, _, cause in it.evicted] == [("a", "changed")]
        [record] = [record for record in caplog.records if record.name == "invalidator.guard"]
        assert record.levelno == logging.WARNING
        assert "value_changed key='a' where=\".lines[0]['price']\"" in record.getMessage()

    def test_the_one_who_loaded_it_is_watched_as_well(self, it, found) -> None:
        """The caller of the loader has the live object, too."""
        it.cache.get_or_set("a", Order).number = 2
        assert it.cache.get("a") is None
        assert found[0].where == ".number"
        assert found[0].handed_out_at.startswith(__file__)

    @pytest.mark.parametrize("read", ["get", "get_many", "get_or_set", "cached", "get_entry"])
    def test_every_way_to_read_is_guarded(self, it, found, read) -> None:
        function = it.cache.cached(key="a")(Order)
        ways = {
            "get": lambda: it.cache.get("a", Order()),
            "get_many": lambda: it.cache.get_many(["a"]).get("a", Order()),
            "get_or_set": lambda: it.cache.get_or_set("a", Order),
            "cached": function,
            "get_entry": lambda: (it.cache.get_entry("a") or Entry(Order(), loaded_at=0, slots=())).value,
        }
        it.cache.set("a", Order())
        ways[read]().number = 7
        assert ways[read]().number == 1
        assert len(found) == 1

    def test_hits_and_misses_are_counted_as_ever(self, it) -> None:
        it.cache.set("a", Order())
        for _ in range(3):
            it.cache.get("a")
        assert (it.cache.stats().hits, it.cache.stats().misses) == (3, 0)

    def test_an_invalidation_voids_a_watched_value(self, it) -> None:
        it.cache.set("a", Order())
        it.receive("a")
        assert it.cache.get("a") is None

    def test_what_cannot_be_changed_is_not_watched(self, it) -> None:
        it.cache.set_many({"text": "x", "tuple": (1, 2)})
        assert not any(type(entry) is GuardedEntry for entry in it.cache._by_key.values())

    def test_what_is_cloned_is_not_watched(self, make) -> None:
        it = make(guard=True, copy="clone")
        it.cache.set("a", Order())
        it.cache.get("a").number = 7
        assert it.cache.get("a").number == 1
        assert type(it.cache.peek("a")) is not GuardedEntry

    def test_only_a_share_of_the_hits_is_looked_at(self, make, monkeypatch) -> None:
        it = make(guard=0.25)
        it.cache.set("a", Order())
        it.cache.get("a").number = 7
        monkeypatch.setattr(random, "random", lambda: 0.3)
        assert it.cache.get("a").number == 7
        monkeypatch.setattr(random, "random", lambda: 0.2)
        assert it.cache.get("a") is None

    def test_a_value_that_is_too_large_is_not_watched(self, it, monkeypatch) -> None:
        monkeypatch.setattr(guards, "MOST_PARTS", 3)
        it.cache.set("a", [1, 2, 3, 4])
        assert type(it.cache.peek("a")) is Entry

    def test_a_value_that_looks_different_each_time_is_not_watched(self, it) -> None:
        class Restless(Silent):
            def __reduce__(self) -> Any:
                return Silent._made, ([random.random()],)

        it.cache.set("a", [Restless()])
        assert type(it.cache.peek("a")) is Entry

    def test_an_error_of_the_callback_reaches_no_reader(self, make, caplog) -> None:
        it = make(guard=Guard(1.0, lambda changed: 1 / 0))
        it.cache.set("a", [1])
        it.cache.get("a").append(2)
        assert it.cache.get("a") is None
        assert "on_change callback failed" in caplog.text

    def test_an_error_while_looking_reaches_no_reader(self, it, monkeypatch, caplog) -> None:
        it.cache.set("a", [1])
        monkeypatch.setattr(guards, "look_through", lambda value: 1 / 0)
        assert it.cache.get("a") == [1]
        it.cache.set("b", [1])
        assert it.cache.get("b") == [1]
        assert "guard_failed" in caplog.text

    def test_packages_of_an_integration_are_not_where_a_value_went(self, make, found) -> None:
        it = make(guard=Guard(1.0, found.append, packages=[__name__.partition(".")[0]]))
        it.cache.set("a", [1])
        it.cache.get("a").append(2)
        it.cache.get("a")
        assert not found[0].handed_out_at.startswith(__file__)


def test_without_a_guard_no_entry_is_another(make) -> None:
    """So that hits cost what they cost."""
    it = make()
    it.cache.set("a", [1])
    assert type(it.cache.peek("a")) is Entry
