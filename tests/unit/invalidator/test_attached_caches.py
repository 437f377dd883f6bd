"""What a bus lets its caches know."""

import gc
from collections.abc import Iterable
from typing import Any

import pytest

from invalidator.attached_caches import AttachedCaches


class Cache:
    """Remembers what it was called with."""

    def __init__(self) -> None:
        self.calls: list[Any] = []

    def evict_invalidated(self, keys: Iterable[str], loaded_before: int) -> None:
        self.calls.append((tuple(keys), loaded_before))

    def evict_loaded_since(self, at: int) -> None:
        self.calls.append(at)

    def set_hit_words(self, words: Any) -> None:
        self.calls.append(words)

    def sweep(self) -> None:
        self.calls.append("sweep")


@pytest.fixture
def caches() -> AttachedCaches:
    caches = AttachedCaches()
    caches.set_hit_words([1])
    return caches


def test_a_cache_is_given_the_words_when_it_comes_and_when_they_change(caches) -> None:
    cache = Cache()
    caches.attach(cache)
    caches.set_hit_words([2])
    assert cache.calls == [[1], [2]]
    assert caches.hit_words == [2]


def test_words_that_change_while_a_cache_comes_reach_it(caches) -> None:
    """The thread that changes them may have looked before the cache was there."""

    class Slow(Cache):
        def set_hit_words(self, words: Any) -> None:
            super().set_hit_words(words)
            if words == [1]:
                caches.hit_words = [2]

    cache = Slow()
    caches.attach(cache)
    assert cache.calls == [[1], [2]]


def test_each_cache_evicts_and_sweeps(caches) -> None:
    each = [Cache(), Cache()]
    for cache in each:
        caches.attach(cache)
    caches.evict_invalidated(["a", "b"], 7)
    caches.evict_invalidated([], 8)
    caches.sweep()
    assert [cache.calls for cache in each] == [[[1], (("a", "b"), 7), "sweep"]] * 2


def test_one_that_nobody_keeps_is_gone(caches) -> None:
    caches.attach(Cache())
    gc.collect()
    caches.sweep()
