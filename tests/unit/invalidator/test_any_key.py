"""A near cache whose keys are any hashable values, and fall by tags alone."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from invalidator.any_key import AnyKeyCache
from invalidator.bus import Invalidator
from invalidator.errors import InvalidName
from tests.support import Clock, SilentLink, Thread


@pytest.fixture
def bus(clock: Clock) -> Iterator[Invalidator]:
    with Invalidator("memory://", namespace="shop", clock=clock, link=SilentLink(), close_timeout=0) as bus:
        bus.ledger.prove(clock())
        clock.advance(0.001)
        yield bus


@pytest.fixture
def cache(bus: Invalidator) -> AnyKeyCache:
    return AnyKeyCache(bus, "rates")


KEYS = [1, ("a", 2), None, frozenset([3]), "text", 10_000 * "long"]


def test_any_hashable_value_is_a_key(cache) -> None:
    for number, key in enumerate(KEYS):
        assert key not in cache
        assert cache.get(key, "none") == "none"
        assert cache.get_or_set(key, lambda number=number: number) == number
    assert [cache.get(key) for key in KEYS] == list(range(len(KEYS)))
    assert cache.get_many(KEYS) == dict(zip(KEYS, range(len(KEYS)), strict=True))
    assert cache.evict(1, None) == 2
    assert len(cache) == len(KEYS) - 2
    assert cache.keys() == KEYS[1:2] + KEYS[3:]
    assert cache.clear() == len(KEYS) - 2
    assert len(cache) == 0


@pytest.mark.parametrize("ask", [lambda c: c.get([]), lambda c: c.set([], 1), lambda c: c.get_or_set({}, int)])
def test_what_cannot_be_hashed_is_no_key(cache, ask) -> None:
    with pytest.raises(TypeError, match="unhashable"):
        ask(cache)


def test_everything_falls_by_the_caches_tag(bus, clock, cache) -> None:
    other = AnyKeyCache(bus, "other")
    for one in (cache, other):
        one.set(1, "value", tags=["t"])
    assert cache.peek(1).tags == ("rates", "t")
    clock.advance(0.001)
    bus.invalidate(tags=["rates"])
    assert (cache.keys(), other.keys()) == ([], [1])
    assert cache.get(1) is None
    assert other.get(1) == "value"
    clock.advance(0.001)
    bus.invalidate(tags=["t"])
    assert other.get(1) is None


def test_a_load_that_the_tag_overtakes_is_not_stored(bus, clock, cache) -> None:
    def load() -> str:
        clock.advance(0.001)
        bus.invalidate(tags=["rates"])
        return "old"

    assert cache.get_or_set((1, 2), load) == "old"
    assert (1, 2) not in cache


def test_a_caller_that_asks_after_the_invalidation_joins_no_load_from_before(bus, clock, cache) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def load_slowly() -> str:
        begun.set()
        assert go_on.wait(30)
        return "old"

    before = Thread(lambda: cache.get_or_set(1, load_slowly))
    assert begun.wait(30)
    clock.advance(0.001)
    bus.invalidate(tags=["rates"])
    clock.advance(0.001)
    after = Thread(lambda: cache.get_or_set(1, lambda: "new"))
    try:
        assert after.outcome() == "new"
    finally:
        go_on.set()
    assert before.outcome() == "old"
    assert cache.get(1) == "new"


def test_a_set_counts_from_the_miss_of_its_key(bus, clock, cache) -> None:
    assert cache.get((1, 2)) is None
    clock.advance(0.001)
    bus.invalidate(tags=["rates"])
    clock.advance(0.001)
    assert cache.set((1, 2), "old") is False
    assert cache.set((1, 2), "new") is True


def test_a_key_of_the_namespace_that_happens_to_be_equal_is_another(bus, clock, cache) -> None:
    """The key of a call is no name: an invalidation of "text" means something else."""
    cache.set("text", "value")
    clock.advance(0.001)
    bus.invalidate("text")
    assert cache.get("text") == "value"


def test_it_wants_a_tag(bus) -> None:
    with pytest.raises(InvalidName, match="empty"):
        AnyKeyCache(bus, "")
