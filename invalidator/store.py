"""
Where a near cache keeps its entries.

cachetools measures what is in it and decides what leaves for room; this adds a second chance, and a cause to every
eviction. The store does not know what is stale: its callers remove it.

Rule 1: a look into `by_key` takes no lock and moves nothing, so that a hit costs one dictionary look-up.
Rule 2: every entry that leaves is returned, with its cause, by the method that made it leave.
Rule 3: no code of the application runs under the lock, and an entry is measured once: values are live objects and may
grow. A size that is no number, or that cannot be told, is that of the largest.
Rule 4: a signal handler, or a finalizer that a garbage collection calls, may interrupt a change and begin another in
the same thread. That one finds the table half changed, so it changes nothing: what it stores leaves at once for room,
what it removes is removed at the end of the first. A change that an exception ends is not made up for: the table is
emptied.
"""

from __future__ import annotations

import logging
import math
import threading
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from operator import attrgetter
from typing import Any, NamedTuple, cast

from cachetools import FIFOCache

from .entry import AnyEntry
from .status import Cause
from .variants import Variants, is_variant

log = logging.getLogger("invalidator.store")


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

    def __init__(
        self, maxsize: float, getsizeof: Callable[[AnyEntry], float] | None, by_key: dict[str, AnyEntry]
    ) -> None:
        super().__init__(maxsize, getsizeof)
        self.pushed_out: list[tuple[str, AnyEntry]] = []
        # The same entries in a plain dictionary: a look-up through cachetools costs twice as much (make bench).
        self.by_key = by_key
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
        self.lock = threading.RLock()
        self._depth = 0  # of changes in the thread that holds the lock: rule 4
        self._put_off: deque[tuple[str, AnyEntry, Cause]] = deque()
        self._maxsize = maxsize
        self._getsizeof = getsizeof
        self._hits_of_the_gone = 0  # of entries that have left
        self.by_key: Mapping[str, AnyEntry] = {}
        """What there is: always the same dictionary, to look into and not to change."""
        self._entries = self._new_entries()

    def _new_entries(self) -> _SecondChance:
        by_key = cast("dict[str, AnyEntry]", self.by_key)
        by_key.clear()
        return _SecondChance(self._maxsize, None if self._getsizeof is None else attrgetter("size"), by_key)

    def __len__(self) -> int:
        return len(self.by_key)

    def items(self) -> list[tuple[str, AnyEntry]]:
        """Everything there is now."""
        return list(cast("dict[str, AnyEntry]", self.by_key).copy().items())  # copied in one step

    def variants_of(self, key: str) -> tuple[str, ...]:
        """The keys of entries that are stored under variants of *key*."""
        variants = self._entries.variants
        if key not in variants:  # the usual case, without the lock
            return ()
        with self.lock:
            return variants.of(key)

    @property
    def size(self) -> float:
        """Entries, or the sum of their sizes."""
        return self._entries.currsize

    def hits(self) -> int:
        """How often entries were served, those that have left included. Costs a walk through the store."""
        return self._hits_of_the_gone + sum(entry.hits for _, entry in self.items())

    def put(self, key: str, entry: AnyEntry) -> list[Evicted]:
        """Keep *entry*, and return what had to leave for it: perhaps itself, if it is larger than the store."""
        self._measure(entry)
        replaced = self.by_key.get(key)  # so that no last reference to its value goes under the lock
        with self.lock:
            gone = [Evicted(key, entry, "room")] if self._depth else self._change(partial(self._put, key, entry))
        del replaced
        return gone

    def swap(self, key: str, old: AnyEntry | None, entry: AnyEntry) -> list[Evicted] | None:
        """`put`, if the entry of *key* is still *old* (None: there is none); else change nothing and return None."""
        self._measure(entry)
        with self.lock:
            if self.by_key.get(key) is not old:
                return None
            return [Evicted(key, entry, "room")] if self._depth else self._change(partial(self._put, key, entry))

    def _measure(self, entry: AnyEntry) -> None:
        if self._getsizeof is None:
            return
        try:
            size = self._getsizeof(entry.value)
        except Exception:
            log.exception("getsizeof failed: the value is not kept type=%s", type(entry.value).__name__)
            size = math.inf
        entry.size = size if size >= 0 else math.inf  # which NaN is not, either

    def _put(self, key: str, entry: AnyEntry, gone: list[Evicted]) -> None:
        replaced = self._entries.get(key)
        if not self._takes(key, entry):
            self._remove((key,), "room", None, gone)
            gone.append(Evicted(key, entry, "room"))
            return
        self._add_pushed_out(gone)
        if replaced is not None and all(key != left.key for left in gone):
            self._hits_of_the_gone += replaced.hits

    def _takes(self, key: str, entry: AnyEntry) -> bool:
        if entry.size == math.inf:
            return False
        try:
            self._entries[key] = entry
        except ValueError:  # cachetools' "value too large"
            return False
        return True

    def _add_pushed_out(self, gone: list[Evicted]) -> None:
        gone += [self._left(*item, "room") for item in self._entries.pushed_out]
        self._entries.pushed_out.clear()

    def make_room(self, count: int) -> list[Evicted]:
        """Let *count* entries leave, or all there are: those whose turn it is."""
        with self.lock:
            return [] if self._depth else self._change(partial(self._make_room, count))

    def _make_room(self, count: int, gone: list[Evicted]) -> None:
        for _ in range(min(count, len(self._entries))):
            self._entries.popitem()
        self._add_pushed_out(gone)

    def remove(self, keys: Iterable[str], cause: Cause, *, loaded_before: int | None = None) -> list[Evicted]:
        """Let the entries of *keys* leave; with *loaded_before*, only those loaded before that time."""
        with self.lock:
            if self._depth:
                self._put_off += [(key, entry, cause) for key, entry in self._found(keys, loaded_before)]
                return []
            return self._change(partial(self._remove, keys, cause, loaded_before))

    def remove_named(self, names: Iterable[str], cause: Cause, *, loaded_before: int | None = None) -> list[Evicted]:
        """`remove` of the entries of *names* and of all variants of these."""
        with self.lock:
            keys = [key for name in names for key in (name, *self._entries.variants.of(name))]
        return self.remove(keys, cause, loaded_before=loaded_before)

    def remove_entry(self, key: str, entry: AnyEntry, cause: Cause) -> list[Evicted]:
        """Let *entry* leave, unless another has taken its place."""
        with self.lock:
            if self.by_key.get(key) is not entry:
                return []
            if self._depth:
                self._put_off.append((key, entry, cause))
                return []
            return self._change(partial(self._remove, (key,), cause, None))

    def remove_if(self, why: Callable[[AnyEntry], Cause | None]) -> list[Evicted]:
        """Let every entry leave for which *why* names a cause."""
        causes = [(key, entry, cause) for key, entry in self.items() if (cause := why(entry)) is not None]
        return [left for key, entry, cause in causes for left in self.remove_entry(key, entry, cause)]

    def _change(self, change: Callable[[list[Evicted]], None]) -> list[Evicted]:
        """Make one change, under the lock, which adds to a list what leaves: rule 4. Returns that list."""
        gone: list[Evicted] = []
        self._depth += 1
        try:
            change(gone)
            while self._put_off:
                key, entry, cause = self._put_off.popleft()
                if self.by_key.get(key) is entry:
                    self._remove((key,), cause, None, gone)
        except BaseException:
            # Whatever is half done: an empty table is slow, and never wrong.
            self._put_off.clear()
            self._entries = self._new_entries()
            raise
        finally:
            self._depth -= 1
        return gone

    def _found(self, keys: Iterable[str], loaded_before: int | None) -> list[tuple[str, AnyEntry]]:
        found = [(key, entry) for key in keys if (entry := self.by_key.get(key)) is not None]
        return [each for each in found if loaded_before is None or each[1].loaded_at <= loaded_before]

    def _remove(self, keys: Iterable[str], cause: Cause, loaded_before: int | None, gone: list[Evicted]) -> None:
        for key, entry in self._found(keys, loaded_before):
            if self.by_key.get(key) is entry:  # a key may be named twice
                del self._entries[key]
                gone.append(self._left(key, entry, cause))

    def _left(self, key: str, entry: AnyEntry, cause: Cause) -> Evicted:
        self._hits_of_the_gone += entry.hits
        return Evicted(key, entry, cause)
