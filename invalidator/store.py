"""
Where a near cache keeps its entries.

cachetools measures what is in it and decides what leaves for room; this adds a second chance, and a cause to every
eviction. The store does not know what is stale: its callers remove it.

Rule 1: a look into `by_key` takes no lock and moves nothing, so that a hit costs one dictionary look-up.
Rule 2: every entry that leaves is returned, with its cause, by the method that made it leave.
Rule 3: no code of the application runs under the lock, and an entry is measured once: values are live objects and may
grow.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from operator import attrgetter
from typing import Any, NamedTuple

from cachetools import FIFOCache

from .entry import AnyEntry
from .status import Cause
from .variants import Variants, is_variant


class Evicted(NamedTuple):
    """An entry that left, and why."""

    key: str
    entry: AnyEntry
    cause: Cause


class _SecondChance(FIFOCache[str, AnyEntry]):
    """
    First in, first out, but an entry that was hit since its last turn goes to the back of the queue instead.

    Known as CLOCK (Corbató 1968): close to the hit ratio of LRU, and a hit need not move anything.
    """

    MAX_TURNS = 64
    """After so many entries that were all hit, the next one leaves: a fill must not walk through the whole store."""

    def __init__(self, maxsize: float, getsizeof: Callable[[AnyEntry], float] | None) -> None:
        super().__init__(maxsize, getsizeof)
        self.pushed_out: list[tuple[str, AnyEntry]] = []
        # The same entries in a plain dictionary: a look-up through cachetools costs twice as much (make bench).
        self.by_key: dict[str, AnyEntry] = {}
        self.variants = Variants()

    def __setitem__(self, key: str, entry: AnyEntry) -> None:
        super().__setitem__(key, entry)
        self.by_key[key] = entry
        if is_variant(key):
            self.variants.add(key)

    def __delitem__(self, key: str) -> None:
        super().__delitem__(key)
        self.by_key.pop(key, None)
        if is_variant(key):
            self.variants.discard(key)

    def popitem(self) -> tuple[str, AnyEntry]:
        for _ in range(self.MAX_TURNS):
            key, entry = super().popitem()
            if entry.hits == entry.hits_at_turn:
                break
            entry.hits_at_turn = entry.hits
            self[key] = entry
        else:
            key, entry = super().popitem()
        self.pushed_out.append((key, entry))
        return key, entry


class Store:
    """
    A bounded table of entries.

    Args:
        maxsize: how many entries; with *getsizeof*, the sum of their sizes.
        getsizeof: the size of a value, in any unit. An entry larger than *maxsize* is not kept.
    """

    def __init__(self, maxsize: float, getsizeof: Callable[[Any], float] | None = None) -> None:
        self.lock = threading.Lock()
        self._getsizeof = getsizeof
        self._entries = _SecondChance(maxsize, None if getsizeof is None else attrgetter("size"))
        self._hits_of_the_gone = 0  # of entries that have left
        self.by_key: Mapping[str, AnyEntry] = self._entries.by_key
        """What there is: always the same dictionary, to look into and not to change."""
        self._variants = self._entries.variants

    def __len__(self) -> int:
        return len(self._entries)

    def items(self) -> list[tuple[str, AnyEntry]]:
        """Everything there is now."""
        with self.lock:
            return list(self._entries.items())

    def variants_of(self, key: str) -> tuple[str, ...]:
        """The keys of entries that are stored under variants of *key*."""
        if key not in self._variants:  # the usual case, without the lock
            return ()
        with self.lock:
            return self._variants.of(key)

    @property
    def size(self) -> float:
        """Entries, or the sum of their sizes."""
        return self._entries.currsize

    def hits(self) -> int:
        """How often entries were served, those that have left included. Costs a walk through the store."""
        with self.lock:
            return self._hits_of_the_gone + sum(entry.hits for entry in self._entries.values())

    def put(self, key: str, entry: AnyEntry) -> list[Evicted]:
        """Keep *entry*, and return what had to leave for it: perhaps itself, if it is larger than the store."""
        if self._getsizeof is not None:
            entry.size = self._getsizeof(entry.value)
        with self.lock:
            return self._put(key, entry)

    def swap(self, key: str, old: AnyEntry | None, entry: AnyEntry) -> list[Evicted] | None:
        """`put`, if the entry of *key* is still *old* (None: there is none); else change nothing and return None."""
        if self._getsizeof is not None:
            entry.size = self._getsizeof(entry.value)
        with self.lock:
            return self._put(key, entry) if self._entries.get(key) is old else None

    def _put(self, key: str, entry: AnyEntry) -> list[Evicted]:
        replaced = self._entries.get(key)
        try:
            self._entries[key] = entry
        except ValueError:  # cachetools' "value too large"
            gone = [*self._remove((key,), "room"), Evicted(key, entry, "room")]
        else:
            gone = [self._left(*item, "room") for item in self._entries.pushed_out]
            if replaced is not None and all(key != left.key for left in gone):
                self._hits_of_the_gone += replaced.hits
        self._entries.pushed_out.clear()
        return gone

    def make_room(self, count: int) -> list[Evicted]:
        """Let *count* entries leave, or all there are: those whose turn it is."""
        with self.lock:
            for _ in range(min(count, len(self._entries))):
                self._entries.popitem()
            gone = [self._left(*item, "room") for item in self._entries.pushed_out]
            self._entries.pushed_out.clear()
            return gone

    def remove(self, keys: Iterable[str], cause: Cause, *, loaded_before: int | None = None) -> list[Evicted]:
        """Let the entries of *keys* leave; with *loaded_before*, only those loaded before that time."""
        with self.lock:
            return self._remove(keys, cause, loaded_before)

    def remove_named(self, names: Iterable[str], cause: Cause, *, loaded_before: int | None = None) -> list[Evicted]:
        """`remove` of the entries of *names* and of all variants of these."""
        with self.lock:
            keys = [key for name in names for key in (name, *self._variants.of(name))]
            return self._remove(keys, cause, loaded_before)

    def remove_entry(self, key: str, entry: AnyEntry, cause: Cause) -> list[Evicted]:
        """Let *entry* leave, unless another has taken its place."""
        with self.lock:
            return self._remove((key,), cause) if self._entries.get(key) is entry else []

    def remove_if(self, why: Callable[[AnyEntry], Cause | None]) -> list[Evicted]:
        """Let every entry leave for which *why* names a cause."""
        causes = [(key, entry, cause) for key, entry in self.items() if (cause := why(entry)) is not None]
        return [left for key, entry, cause in causes for left in self.remove_entry(key, entry, cause)]

    def _remove(self, keys: Iterable[str], cause: Cause, loaded_before: int | None = None) -> list[Evicted]:
        gone = []
        for key in keys:
            entry = self._entries.get(key)
            if entry is not None and (loaded_before is None or entry.loaded_at <= loaded_before):
                del self._entries[key]
                gone.append(self._left(key, entry, cause))
        return gone

    def _left(self, key: str, entry: AnyEntry, cause: Cause) -> Evicted:
        self._hits_of_the_gone += entry.hits
        return Evicted(key, entry, cause)
