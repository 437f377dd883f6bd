"""The caches on one bus: each evicts invalidated entries at once, and compares its hits with the words of a ledger."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from .ledger import Words
from .weak_list import WeakList


class AttachedCache(Protocol):
    """A cache that keeps entries under a bus' names."""

    def evict_invalidated(self, keys: Iterable[str], loaded_before: int) -> None:
        """Let the entries of *keys* leave that were loaded before that time: their names were invalidated."""

    def evict_loaded_since(self, at: int) -> None:
        """Let the entries leave that were loaded then or later."""

    def set_hit_words(self, words: Words) -> None:
        """From now on a hit has to compare with the count of changes, and the stamps, in *words*."""

    def sweep(self) -> object:
        """Let every entry leave that may not be served."""


class AttachedCaches:
    """
    The caches that are alive.

    Attributes:
        hit_words: what their hits compare with: the words of a ledger, or while these may be behind, a doubt
            (`feeds/doubt.py`). `set_hit_words` has to be called before the first cache is attached.
    """

    hit_words: Words

    def __init__(self) -> None:
        self._caches: WeakList[AttachedCache] = WeakList()

    def attach(self, cache: AttachedCache) -> None:
        """Keep *cache* informed as long as it lives."""
        self._caches.add(cache)
        words = None
        while words is not self.hit_words:  # another thread may change them, and inform only the caches it found
            words = self.hit_words
            cache.set_hit_words(words)

    def evict_invalidated(self, keys: Iterable[str], loaded_before: int) -> None:
        """Let the entries of *keys* leave every cache that were loaded before that time."""
        if keys:
            for cache in self._caches:
                cache.evict_invalidated(keys, loaded_before)

    def evict_loaded_since(self, at: int) -> None:
        """Let the entries leave every cache that were loaded then or later."""
        for cache in self._caches:
            cache.evict_loaded_since(at)

    def set_hit_words(self, words: Words) -> None:
        """Let the hits of every cache compare with *words*."""
        self.hit_words = words
        for cache in self._caches:
            cache.set_hit_words(words)

    def sweep(self) -> None:
        """Let every entry leave that may not be served."""
        for cache in self._caches:
            cache.sweep()
