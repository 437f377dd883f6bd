"""
The near cache of one process: get, set, get_or_set.

Rule 1: `loaded_at` is taken before the loader runs, so that a load which overlaps an invalidation is void from the
beginning.
Rule 2: every read checks the lease and the ledger itself (`entry.py`). A hit is a handful of attribute reads, unless
there is a reason for the slow path (`_slow_path`).
Rule 3: loaders, callbacks and all other code of the application run without any lock of ours.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import Any, Literal, ParamSpec, TypeVar, overload

from . import forks
from .bus import Invalidator
from .config import COPY, JOIN_TIMEOUT, MAXSIZE, TTL
from .copying import Copy, Kept, keep
from .counts import Counts
from .decorator import ABOUT_TO_LOAD, CachedFunction, Front, cached_function, refuse_unknown
from .entry import AnyEntry, Entry, KeptEntry, Parts, Verdict, parts_of
from .errors import InvalidSetting
from .guard import Guard, guard_of
from .keys import KeySpec, TagsSpec
from .ledger import CHANGES, FOREVER, Words
from .loaded import DEFAULT, Default, Loaded, Ttl, check_ttl
from .loads import Load, Loads, Result
from .misses import Misses
from .names import Tag, check_key, check_tags, name_slots
from .observer import AsyncLoader, Loader, Observer
from .receipt import Receipt
from .source import NoTransactions, SourceView
from .status import Cause, Stats
from .store import Evicted, Store
from .variants import is_variant, name_of

log = logging.getLogger("invalidator.near_cache")

V = TypeVar("V")
D = TypeVar("D")
P = ParamSpec("P")
R = TypeVar("R")


_NOT_THERE = object()
_WHATEVER = object()
_OBSERVED = ("an observer",)
"""Why a hit takes the slow path."""

MOST_REFUSED = 1000
"""Types that are remembered; of any after these nothing is said."""
REMEDY = 'return what can be cloned or pickled, or share the live object with copy="none"'

_refused: set[str] = set()
"""Types of which values could not be cloned."""

OnEvict = Callable[[str, Any, Cause], object]


class NearCache:
    """
    Live objects in this process' memory, evicted when any process invalidates their key or one of their tags.

    Args:
        bus: an `Invalidator`, or the URL of one that this cache makes, and closes, itself.
        maxsize: how many entries; with *getsizeof*, the sum of their sizes.
        ttl: seconds after which an entry expires, whatever happens; None for never.
        getsizeof: the size of a value, in any unit.
        on_evict: called with key, value and cause when an entry leaves: "invalidated", "expired", "room", "hand" or
            "changed".
        copy: what a hit hands out of a value that can be changed: "none", the live object; "clone", "deep" or "pickle",
            one of the reader's own. See `copying`.
        guard: a share of the hits, from 0 to 1 (or True), at which values that are handed out live are looked at again;
            one that was changed is evicted. See `Guard`.
        join_timeout: seconds that a caller waits for another caller's load of the same key, before it starts one
            itself; None for as long as it takes.
        source: how the calling thread or task sees the source, if that may differ from what is committed (inside a
            transaction): see `SourceView`.
        observer: sees what callers hit, miss and load: see `Observer`. It can be set later, and to None.
        bus_options: those of the `Invalidator`, if *bus* is a URL.

    Raises:
        InvalidSetting: an option cannot work.
    """

    def __init__(
        self,
        bus: Invalidator | str,
        *,
        maxsize: float = MAXSIZE.default,
        ttl: float | None = TTL.default,
        getsizeof: Callable[[Any], float] | None = None,
        on_evict: OnEvict | None = None,
        copy: Copy = COPY.default,
        guard: Guard | float = 0,
        join_timeout: float | None = JOIN_TIMEOUT.default,
        source: SourceView | None = None,
        observer: Observer | None = None,
        **bus_options: Any,
    ) -> None:
        MAXSIZE.validate("maxsize", maxsize)
        COPY.validate("copy", copy)
        JOIN_TIMEOUT.validate("join_timeout", join_timeout)
        if isinstance(bus, Invalidator) and bus_options:
            raise InvalidSetting(f"options of the Invalidator are given where it is made: {', '.join(bus_options)}")
        self._owns_bus = not isinstance(bus, Invalidator)
        self.ttl = check_ttl(ttl)
        self.maxsize = maxsize
        self.bus = bus if isinstance(bus, Invalidator) else Invalidator(bus, **bus_options)
        self._store = Store(maxsize, getsizeof)
        self._on_evict = on_evict
        self._copy: Copy = copy
        self._guard = guard_of(guard)
        self._join_timeout = math.inf if join_timeout is None else join_timeout
        self._rule = self.bus.make_rule()
        self._misses = Misses()
        self._counts = Counts()
        # What a hit reads, one attribute away.
        self._by_key = self._store.by_key
        self._words = self.bus.hit_words
        self._still_holds = self._rule.still_holds
        self._clock = self.bus.clock
        self._source: SourceView = NoTransactions(self.bus.clock) if source is None else source
        self.observer = observer
        self.as_of = self._source.as_of
        self._first_moments = self.bus.first_moments
        self._loads = self._new_loads()
        self.bus.attach(self)
        forks.register_for_forks(self)

    @property
    def observer(self) -> Observer | None:
        """What sees hits, misses and loads; None for nothing. While there is one, hits take the slow path."""
        return self._observer

    @observer.setter
    def observer(self, observer: Observer | None) -> None:
        self._observer = observer
        self._slow_path = self._source.slow_path if observer is None else _OBSERVED

    # Reading.

    @overload
    def get(self, key: str) -> Any | None: ...
    @overload
    def get(self, key: str, default: D) -> Any | D: ...
    def get(self, key: str, default: Any = None) -> Any:
        """
        Return the value of *key*, or *default* if there is none that may be served.

        What a decorated function has cached is found by its key, too; not if several functions have that key.

        A miss is remembered: what the same thread or task stores next under *key* (`set`) is treated as loaded now, and
        not when `set` is called.

        Raises:
            InvalidName: *key* cannot be a key.
        """
        try:
            entry = self._by_key[key]
        except (KeyError, TypeError):
            return self._missed(key, default)
        if not self._slow_path:
            # The order is that of docs/guarantees.md: changes, then the clock. (good_until was found before changes.)
            words = self._words
            count = words[CHANGES]
            if (count == entry.changes or self._still_holds(entry, words, count)) and self._clock() < entry.good_until:
                entry.hits += 1
                return entry.value
        return self._look_closer(key, entry, default)

    def get_many(self, keys: Iterable[str]) -> dict[str, Any]:
        """Return the values of those *keys* that may be served."""
        keys = tuple(keys)
        if self._slow_path:
            return self._get_one_by_one(keys)
        # The order is that of `get`, once for all of them: changes, then the clock. What is invalidated meanwhile is
        # served by a call that had begun before.
        by_key, changes = self._by_key, self._words[CHANGES]
        try:
            entries = [by_key[key] for key in keys]
        except (KeyError, TypeError):
            return self._get_one_by_one(keys)
        good_until = FOREVER
        for entry in entries:
            if entry.changes != changes:
                return self._get_one_by_one(keys)
            if entry.good_until < good_until:
                good_until = entry.good_until
        if self._clock() >= good_until:
            return self._get_one_by_one(keys)
        for entry in entries:
            entry.hits += 1
        return dict(zip(keys, [entry.value for entry in entries], strict=True))

    def _get_one_by_one(self, keys: Iterable[str]) -> dict[str, Any]:
        found = {key: self.get(key, _NOT_THERE) for key in keys}
        return {key: value for key, value in found.items() if value is not _NOT_THERE}

    def peek(self, key: str) -> AnyEntry | None:
        """
        Return the entry of *key* if it may be served, or None. It is no read: for pages that show what is cached.

        If several functions have that key, it is the entry of one of them: see `peek_all`.
        """
        return next(self._peek_each(key), None)

    def peek_all(self, key: str) -> list[AnyEntry]:
        """Return every entry that may be served and that *key* invalidates: several functions may have one key."""
        return list(self._peek_each(key))

    def _peek_each(self, key: str) -> Iterator[AnyEntry]:
        self._check_key(key)
        for stored in (key, *self._store.variants_of(key)):
            if (entry := self._peek(stored)) is not None:
                yield entry

    def _peek(self, key: str) -> AnyEntry | None:
        """`peek` of *key* itself, and not of its variants."""
        entry = self._by_key.get(key)
        return None if entry is None else self._valid(key, entry, is_use=False)

    def __contains__(self, key: str) -> bool:
        return self.peek(key) is not None

    def __len__(self) -> int:
        return len(self._store)

    def _look_closer(self, key: str, entry: AnyEntry, default: Any) -> Any:
        """The slow path of `get`: the count and the clock do not suffice, or `_slow_path` has a reason."""
        found = self._valid(key, entry)
        if found is None:
            return self._missed(key, default)
        return found.value if self._serve(key, found, loads=default is ABOUT_TO_LOAD) else default

    def _valid(self, key: str, entry: AnyEntry, *, is_use: bool = True) -> AnyEntry | None:
        """
        Look at the whole rule. Return *entry* if it may be served, or the entry that took its place meanwhile: an
        update voids the old value for all callers that are about to look at it. A use evicts a void entry.
        """
        while not (self._slow_path and self._source.has_changed(entry)):
            verdict: Verdict | Literal["changed"] = self._rule.check(entry)
            if verdict == "valid":
                if self._guard is None or not is_use or self._guard.holds(key, entry):
                    return entry
                verdict = "changed"
            if is_use and verdict != "unleased":  # which is good again with the next proof
                self._report(self._store.remove_entry(key, entry, verdict))
            now_there = self._by_key.get(key)
            if now_there is None or now_there is entry:
                break
            entry = now_there
        return None

    def _serve(self, key: str, entry: AnyEntry, *, loads: bool) -> bool:
        """
        Count and report that the caller is given *entry*. Returns False if an observer wants it to load instead, which
        only a caller that *loads* can do.
        """
        observer = self._observer
        if observer is not None:
            name = name_of(key)
            if loads and observer.loads_anyway(name, entry):
                return False
            observer.hit(name, entry)
        entry.hits += 1
        self._read(entry)
        return True

    def _missed(self, key: str, default: Any) -> Any:
        self._check_key(key)
        if default is not ABOUT_TO_LOAD and (found := self._get_only_variant(key)) is not None:
            return found.value
        if not self._first_moments.are_over:
            self._first_moments.begin()
        observer = self._observer
        if observer is not None:
            name = name_of(key)
            if default is ABOUT_TO_LOAD and observer.loads_anyway(name, None):
                return default
            observer.missed(name)
        self._counts.add("misses")
        if default is not ABOUT_TO_LOAD:
            at = self.as_of()
            self._misses.note(key, at)
            self.note_read(key, loaded_at=at)
        return default

    def _get_only_variant(self, key: str) -> AnyEntry | None:
        """The entry for a caller who gets *key*, if there is none but that of one variant."""
        variants = self._store.variants_of(key)
        if len(variants) != 1 or (entry := self._by_key.get(variants[0])) is None:
            return None
        found = self._valid(variants[0], entry)
        return found if found is not None and self._serve(variants[0], found, loads=False) else None

    # Storing.

    def set(
        self, key: str, value: Any, *, ttl: Ttl = DEFAULT, tags: Iterable[str | Tag] = (), loaded_at: int | None = None
    ) -> bool:
        """
        Store *value* here, and publish nothing: a fill. When the source has changed, call `invalidate`.

        The value is treated as loaded at the last miss of *key* by this thread or task; if there was none, now.

        Args:
            ttl: seconds; None for never; without it, the cache's own.
            tags: names shared with other entries.
            loaded_at: treat it as loaded then instead: a time of the bus' clock, before the source was read.

        Returns:
            whether it was stored: not if *key* or *tags* were invalidated since then, nor if it may hold what the
            caller has not committed, nor if it cannot be cloned.

        Raises:
            InvalidName, InvalidSetting: an argument cannot work.
        """
        self._check_key(key)
        tags = check_tags(tags)
        ttl = self._own_ttl(check_ttl(ttl))
        if not self._first_moments.are_over:
            self._first_moments.begin()
        if loaded_at is None:
            loaded_at = self._misses.take(key, self.as_of())
        entry = self._make_entry(key, value, loaded_at, ttl, tags)
        may_share = not self._slow_path or self._source.may_share(entry, None)
        kept = self._keep(key, entry) if may_share else None
        if kept is None:
            self._counts.add("refused_fills")
            return False
        return self._fill(key, kept)

    def set_many(self, mapping: Mapping[str, Any], *, ttl: Ttl = DEFAULT, tags: Iterable[str | Tag] = ()) -> list[str]:
        """`set` for each key. Returns the keys that were not stored."""
        tags = check_tags(tags)
        return [key for key, value in mapping.items() if not self.set(key, value, ttl=ttl, tags=tags)]

    @overload
    def get_or_set(
        self, key: str, loader: Callable[[], Loaded[V]], *, ttl: Ttl = DEFAULT, tags: Iterable[str | Tag] = ()
    ) -> V: ...
    @overload
    def get_or_set(
        self, key: str, loader: Callable[[], V], *, ttl: Ttl = DEFAULT, tags: Iterable[str | Tag] = ()
    ) -> V: ...
    def get_or_set(
        self, key: str, loader: Callable[[], Any], *, ttl: Ttl = DEFAULT, tags: Iterable[str | Tag] = ()
    ) -> Any:
        """
        Return the value of *key*, calling *loader* once per process if it is missing or stale.

        A value whose key or tags were invalidated while *loader* ran is returned to the callers that asked before the
        invalidation, and not stored; later callers start a load of their own. An exception of *loader* reaches every
        waiting caller.

        Args:
            loader: returns the value, or `Loaded(value, ttl=…, tags=…)`.
            ttl: seconds; None for never; without it, the cache's own.
            tags: names shared with other entries.

        Raises:
            InvalidName, InvalidSetting: an argument cannot work; *loader* is not called.
        """
        value = self.get(key, ABOUT_TO_LOAD)
        return self.load_entry(key, loader, ttl=ttl, tags=tags).value if value is ABOUT_TO_LOAD else value

    @overload
    async def aget_or_set(
        self,
        key: str,
        loader: Callable[[], Awaitable[Loaded[V]]],
        *,
        ttl: Ttl = DEFAULT,
        tags: Iterable[str | Tag] = (),
    ) -> V: ...
    @overload
    async def aget_or_set(
        self, key: str, loader: Callable[[], Awaitable[V]], *, ttl: Ttl = DEFAULT, tags: Iterable[str | Tag] = ()
    ) -> V: ...
    async def aget_or_set(
        self, key: str, loader: Callable[[], Awaitable[Any]], *, ttl: Ttl = DEFAULT, tags: Iterable[str | Tag] = ()
    ) -> Any:
        """
        `get_or_set` with an async *loader*. Never blocks the event loop; shares loads with other threads and tasks.
        """
        value = self.get(key, ABOUT_TO_LOAD)
        if value is ABOUT_TO_LOAD:
            return (await self.aload_entry(key, loader, ttl=ttl, tags=tags)).value
        return value

    # For a caller that has to know what a value is made from (`Loaded.made_from`).

    def get_entry(self, key: str) -> AnyEntry | None:
        """`get` of the entry itself, or None: the caller is about to load it. Such a miss is not remembered."""
        return self._get_entry(key, loads=True)

    def _get_entry(self, key: str, *, loads: bool) -> AnyEntry | None:
        try:
            entry = self._by_key[key]
        except (KeyError, TypeError):
            found = None
        else:
            found = self._valid(key, entry)
        if found is None:
            self._missed(key, ABOUT_TO_LOAD)
            return None
        return found if self._serve(key, found, loads=loads) else None

    def note_read(self, key: str, *, tags: Iterable[str | Tag] = (), loaded_at: int) -> None:
        """
        The caller has read *key* elsewhere than in this cache, at *loaded_at* of the bus' clock or later; a recorder
        has to know.
        """
        if self._slow_path:
            slots = self._slots_of(self._check_key(key), check_tags(tags))
            self._source.has_read(Entry(None, loaded_at=loaded_at, slots=slots))

    def is_invalidated(self, entry: AnyEntry) -> bool:
        """Whether *entry* became stale since it was stored, whether or not it has left."""
        return self._rule.check(entry) == "invalidated"

    def may_compare(self, entry: AnyEntry) -> bool:
        """Whether a value that the caller loads now is committed, and at least as new as that of *entry*."""
        if self._slow_path and self._source.is_apart():
            return False
        return entry.loaded_at + self._rule.replica_lag_ns <= self.as_of()

    def _read(self, entry: AnyEntry) -> AnyEntry:
        if self._slow_path:
            self._source.has_read(entry)
        return entry

    def load_entry(
        self, key: str, loader: Callable[[], Any], *, ttl: Ttl = DEFAULT, tags: Iterable[str | Tag] = ()
    ) -> AnyEntry:
        """`get_or_set` after a miss (`get_entry`, or `get` with ABOUT_TO_LOAD): the entry, stored or not."""
        checked = check_tags(tags)  # once: they may be a generator, and there may be several attempts
        observer = self._observer
        if observer is None:
            entry = self._load(key, loader, ttl, checked)
        else:
            entry = observer.load(name_of(key), loader, lambda loader: self._load(key, loader, ttl, checked))
        return self._read(entry)

    def _load(self, key: str, loader: Loader, ttl: Ttl, tags: tuple[str, ...]) -> AnyEntry:
        while True:
            load, leads = self._join_or_start(key, tags, ttl, blocking=True)
            if leads:
                with self._loads.lead(key, load) as result:
                    entry = self._find_meanwhile(key, result)
                    return self._finish(key, load, result, loader(), ttl) if entry is None else entry
            entry = self._result_for_waiter(key, load, load.wait(self._join_timeout))
            if entry is not None:
                return entry

    async def aload_entry(
        self, key: str, loader: Callable[[], Awaitable[Any]], *, ttl: Ttl = DEFAULT, tags: Iterable[str | Tag] = ()
    ) -> AnyEntry:
        """`load_entry` with an async *loader*."""
        checked = check_tags(tags)
        observer = self._observer
        if observer is None:
            entry = await self._aload(key, loader, ttl, checked)
        else:
            entry = await observer.aload(name_of(key), loader, lambda loader: self._aload(key, loader, ttl, checked))
        return self._read(entry)

    async def _aload(self, key: str, loader: AsyncLoader, ttl: Ttl, tags: tuple[str, ...]) -> AnyEntry:
        while True:
            load, leads = self._join_or_start(key, tags, ttl, blocking=False)
            if leads:
                with self._loads.lead(key, load) as result:
                    entry = self._find_meanwhile(key, result)
                    return self._finish(key, load, result, await loader(), ttl) if entry is None else entry
            entry = self._result_for_waiter(key, load, await load.wait_async(self._join_timeout))
            if entry is not None:
                return entry

    @overload
    def cached(self, function: Callable[P, R], /) -> CachedFunction[P, R]: ...
    @overload
    def cached(
        self,
        function: None = None,
        /,
        *,
        ttl: Ttl = DEFAULT,
        tags: TagsSpec = (),
        key: KeySpec | None = None,
        version: int | str = 1,
    ) -> Callable[[Callable[P, R]], CachedFunction[P, R]]: ...
    def cached(
        self,
        function: Any = None,
        /,
        *,
        ttl: Ttl = DEFAULT,
        tags: TagsSpec = (),
        key: KeySpec | None = None,
        version: int | str = 1,
        **unknown: Any,
    ) -> Any:
        """
        Decorate a function, sync or async, so that its results are cached: `@cache.cached`, or with options.

        Args:
            ttl: as in `get_or_set`.
            tags: templates such as `"category:{category_id}"`, or a function of the same arguments that returns them.
            key: a template, or a function of the same arguments; without it, the function's name and its arguments,
                which must then be strings, numbers, booleans, None, dates, or tuples of such.
            version: a part of such a key: raise it when the function's results change their form.

        The decorated function has `key(…)` and `invalidate(…)`, with the function's own arguments. No two functions
        share a value, whatever they are called; of two with one key, both are invalidated by it.

        Raises:
            InvalidName, InvalidSetting, TypeError: an option cannot work; the message says what would.
        """
        refuse_unknown(unknown, ("ttl", "tags", "key", "version"))
        front = Front(lambda: self)
        front.cache = self
        return cached_function(function, lambda: self, ttl=ttl, tags=tags, key=key, version=version, front=front)

    # Invalidating and evicting.

    def invalidate(self, *keys: str, tags: Iterable[str | Tag] = ()) -> Receipt:
        """Invalidate *keys*, and everything with one of *tags*, everywhere. See `Invalidator.invalidate`."""
        return self.bus.invalidate(*keys, tags=tags)

    def evict(self, *keys: str) -> int:
        """Let the entries of *keys* leave, here only, of whichever function. Returns how many there were."""
        gone = self._store.remove_named([self._check_key(key) for key in keys], "hand")
        self._report(gone)
        return len(gone)

    def sweep(self) -> int:
        """
        Let every void entry leave, though no caller asks for it. Returns how many left.
        """

        def why(entry: AnyEntry) -> Cause | None:
            verdict = self._rule.check(entry)
            return verdict if verdict in ("invalidated", "expired") else None

        gone = self._store.remove_if(why)
        self._report(gone)
        return len(gone)

    def stats(self) -> Stats:
        """
        How this cache is doing. Counting the hits takes a walk through the store (about a millisecond for 50,000
        entries).
        """
        counts, evictions = self._counts.read()
        return Stats(
            hits=self._store.hits(), evictions=evictions, size=self._store.size, maxsize=self.maxsize, **counts
        )

    def close(self) -> None:
        """Close the bus, if this cache made it."""
        if self._owns_bus:
            self.bus.close()

    # What a key is; `any_key.py` overrides it.

    def _check_key(self, key: str) -> str:
        """Return *key*, or raise InvalidName."""
        if is_variant(key):
            check_key(name_of(key))
            return key
        return check_key(key)

    def _slots_of(self, key: str, tags: tuple[str, ...]) -> tuple[int, ...]:
        """The slots of an entry's names."""
        return name_slots((name_of(key),), tags, self.bus.slots)

    # Loading and filling.

    def _new_loads(self) -> Loads:
        return Loads(
            self._clock, self.as_of, self._rule.holds_for_load, on_failure=partial(self._counts.add, "load_failures")
        )

    def _join_or_start(self, key: str, tags: tuple[str, ...], ttl: Ttl, *, blocking: bool) -> tuple[Load, bool]:
        check_ttl(ttl)
        alone = bool(self._slow_path) and self._source.is_apart()
        load, leads = self._loads.join_or_start(key, self._slots_of(key, tags), tags, blocking=blocking, alone=alone)
        if not leads:
            self._counts.add("joins")
        return load, leads

    def _find_meanwhile(self, key: str, result: Result) -> AnyEntry | None:
        """The entry of another load that has ended since the caller looked, which is then the result; else None."""
        result.entry = entry = self._peek(key)
        if entry is None:
            self._counts.add("loads")
        return entry

    def _finish(self, key: str, load: Load, result: Result, loaded: Any, ttl: Ttl) -> AnyEntry:
        """
        The loader has returned *loaded*: make its entry, and store it. Returns the entry for the caller that led; those
        that waited are given it only if it may be shared.
        """
        tags = load.tags
        parts: Parts = ()
        copy = None
        if issubclass(type(loaded), Loaded):  # `isinstance` would ask a lazy object for its class, and set it up
            more = check_tags(loaded.tags)
            tags = tuple(dict.fromkeys((*tags, *more))) if tags else more
            ttl = ttl if isinstance(loaded.ttl, Default) else check_ttl(loaded.ttl)
            if loaded.made_from:
                parts = parts_of(loaded.made_from)
            copy = loaded.copy
            loaded = loaded.value
        entry = self._make_entry(key, loaded, load.loaded_at, self._own_ttl(ttl), tags, parts)
        # The loader itself may have written, or rolled back: asked now, and also where nobody has written any more.
        kept = self._keep(key, entry, copy) if self._source.may_share(entry, load.begun) else None
        if kept is None:
            self._counts.add("refused_fills")
        else:
            result.entry = kept
            self._fill(key, kept)
        return entry  # with the very thing that the loader has returned, which is its caller's

    def _keep(self, key: str, entry: AnyEntry, copy: Copy | None = None) -> AnyEntry | None:
        """What to store for *entry*, so that each of its readers is handed out what *copy* says; None for nothing."""
        how = self._copy if copy is None else copy
        name = name_of(key) if is_variant(key) else key
        try:
            kept = keep(entry.value, how)
        except Exception as error:  # noqa: BLE001 - the application's classes may raise anything
            self._refuse(name, entry.value, error)
            return None
        return KeptEntry(name, entry, kept) if type(kept) is Kept else entry

    def _refuse(self, key: str, value: Any, error: Exception) -> None:
        """Say, once for each type, that *value* is not cached."""
        kind = f"{type(value).__module__}.{type(value).__qualname__}"
        if kind not in _refused and len(_refused) < MOST_REFUSED:
            _refused.add(kind)
            log.warning("not_cached key=%r type=%s reason=%r remedy=%r", key, kind, repr(error), REMEDY)

    def _result_for_waiter(self, key: str, load: Load, result: Result | None) -> AnyEntry | None:
        """What a caller that waited is given: an entry, the loader's error, or None to start anew."""
        if result is None:
            self._loads.give_up(key, load)
            return None
        if result.error is not None:
            raise result.error
        entry = result.entry
        if entry is None:
            return None
        # Only the slots that were known when the caller joined were checked then; those that the loader added, now.
        added = set(entry.slots) - set(load.slots)
        if (added or entry.parts) and not self._rule.holds_for_load(added, entry.loaded_at, entry.parts):
            return self._get_entry(key, loads=False)
        return entry

    def _make_entry(
        self, key: str, value: Any, loaded_at: int, ttl: float | None, tags: tuple[str, ...], parts: Parts = ()
    ) -> AnyEntry:
        expires_at = FOREVER if ttl is None else self._clock() + int(ttl * 1e9)
        slots = self._slots_of(key, tags)
        return Entry(value, loaded_at=loaded_at, slots=slots, expires_at=expires_at, tags=tags, parts=parts)

    @overload
    def _fill(self, key: str, entry: AnyEntry) -> bool: ...
    @overload
    def _fill(self, key: str, entry: AnyEntry, *, instead_of: AnyEntry | None) -> bool | None: ...
    def _fill(self, key: str, entry: AnyEntry, *, instead_of: Any = _WHATEVER) -> bool | None:
        """Store *entry*. Returns whether it was stored; None if another entry than *instead_of* is in its place."""
        self.bus.start()
        verdict = self._rule.check(entry)
        if verdict == "invalidated":
            self._counts.add("refused_fills")
            return False
        if verdict == "expired":  # a TTL of 0
            self._report(self._store.remove((key,), "expired"))
            return False
        entry = self._watched(entry)
        entry.look_again()  # what happens between that look and the next line is seen by the first read
        if instead_of is _WHATEVER:
            gone = self._store.put(key, entry)
        else:
            swapped = self._store.swap(key, instead_of, entry)
            if swapped is None:
                return None
            gone = swapped
        self._counts.add("fills")
        self._report(gone)
        return all(left.entry is not entry for left in gone)

    def _watched(self, entry: AnyEntry) -> AnyEntry:
        """What to put into the store for *entry*."""
        return entry if self._guard is None else self._guard.watch(entry)

    def _own_ttl(self, ttl: Ttl) -> float | None:
        return self.ttl if isinstance(ttl, Default) else ttl

    # Called by the bus.

    def evict_invalidated(self, keys: Iterable[str], loaded_before: int) -> None:
        """Let the entries of *keys* leave that were loaded before that time: they were invalidated."""
        self._report(self._store.remove_named(keys, "invalidated", loaded_before=loaded_before))

    def evict_loaded_since(self, at: int) -> None:
        """
        Let the entries leave that were loaded then or later. What the calling thread or task stores from now on is not
        taken for older than this, either.
        """
        self._report(self._store.remove_if(lambda entry: "hand" if entry.loaded_at >= at else None))
        self._misses.forget()

    def set_hit_words(self, words: Words) -> None:
        """A hit compares with the count of changes, and the stamps, in *words* from now on."""
        self._words = words

    # Forking.

    def fork_locks(self) -> Iterable[forks.Lock]:
        """See `forks.ForkOwner`."""
        return (self._counts.lock, self._store.lock)

    def after_fork_in_child(self) -> None:
        """The threads that load do not exist there."""
        self._loads = self._new_loads()

    def _report(self, gone: list[Evicted]) -> None:
        """Entries have left: count them, and call `on_evict`."""
        if not gone:
            return
        self._counts.add_evictions([left.cause for left in gone])
        if self._on_evict is not None:
            for left in gone:
                name = name_of(left.key)
                try:
                    self._on_evict(name, left.entry.value, left.cause)
                except Exception:
                    log.exception("on_evict callback failed key=%r cause=%s", name, left.cause)
