"""Counts of one near cache."""

from invalidator.counts import EVENTS, Counts
from tests.support import Thread


def test_a_new_cache_has_counted_nothing() -> None:
    events, evictions = Counts().read()
    assert events == dict.fromkeys(EVENTS, 0)
    assert evictions == {"invalidated": 0, "expired": 0, "room": 0, "hand": 0, "changed": 0}


def test_threads_lose_no_count() -> None:
    counts = Counts()

    def count() -> None:
        for _ in range(500):
            counts.add("misses")
            counts.add_evictions(["room", "hand", "room"])

    for thread in [Thread(count) for _ in range(4)]:
        thread.outcome()
    events, evictions = counts.read()
    assert (events["misses"], evictions["room"], evictions["hand"]) == (2000, 4000, 2000)


def test_what_was_read_does_not_change() -> None:
    counts = Counts()
    events, evictions = counts.read()
    counts.add("loads")
    counts.add_evictions(["expired"])
    assert (events["loads"], evictions["expired"]) == (0, 0)
