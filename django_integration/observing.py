"""
Looking at what near caches do: who watches reads and loads, and who reloads what was hit.

A near cache that nobody looks at is a plain `NearCache`, and its hits cost what they always do. While somebody looks,
each near cache of this process is an `ObservedCache`: the same object with the same entries, of another class.

Rule 1: what is looked at behaves as ever: callers get the value that they would have got, also while it is verified,
and an error of a watcher or a reload is no error of theirs.
Rule 2: a reload sees the source and not the cache: inside of it every `get_or_set` and cached function loads anew, and
stores nothing. (`get` finds what is there: who only gets does not know how to load.)
Rule 3: a hit is reloaded where what the caller sees now is at least as new as the entry, and all of it is committed:
not in a transaction that has written, nor in one whose snapshot is older than the entry.
"""

from __future__ import annotations

import contextlib
import logging
import time
import weakref
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Protocol, cast

from django.db import connections, transaction

from invalidator import Entry, Loaded, NearCache, Tag
from invalidator.extending import ABOUT_TO_LOAD, DEFAULT, FreshRLock, Ttl, WritableCache

log = logging.getLogger("invalidator.observing")

MOST_KNOWN = 10_000
"""Entries of a cache backend of which is remembered that a loader made them; those before are not verified."""

AnyEntry = Entry[Any]


class Watcher(Protocol):
    """Is told what near caches do, in the thread or task that does it."""

    def hit(self, near: NearCache, key: str, entry: AnyEntry | None) -> None:
        """A value was found; *entry* is None if it has left meanwhile."""

    def missed(self, near: NearCache, key: str) -> None:
        """None was."""

    def loaded(self, near: NearCache, key: str, entry: AnyEntry | None, seconds: float | None) -> None:
        """A load has ended, with an error if *entry* is None; *seconds* is None for who waited for another's load."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a reload came to: a value, or an error."""

    value: Any = None
    error: Exception | None = None


@dataclass(frozen=True, slots=True)
class Probe:
    """A hit that is reloaded."""

    near: ObservedCache
    key: str
    entry: AnyEntry
    reviewer: Reviewer


class Reviewer(Protocol):
    """Decides which hits are reloaded, and judges what comes of it."""

    def wants(self, near: NearCache, key: str) -> bool:
        """Whether this hit is to be reloaded. Asked at each; be quick."""

    def reloaded(self, probe: Probe, fresh: Outcome) -> bool:
        """Judge a reload. Returns whether another one right after it is wanted."""

    def reloaded_again(self, probe: Probe, fresh: Outcome, again: Outcome) -> None:
        """Judge the other one."""


class ObservedCache(WritableCache):
    """A near cache while somebody looks."""

    def get(self, key: str, default: Any = None) -> Any:
        """See `NearCache.get`."""
        if default is ABOUT_TO_LOAD and _reloading.get():
            return default
        value = super().get(key, default)
        if value is default and (default is ABOUT_TO_LOAD or self.peek(key) is None):
            self._tell("missed", key)
            return value
        if default is ABOUT_TO_LOAD and self.is_to_reload(key, value):
            return default
        if _watchers:
            self._tell("hit", key, self.peek(key))
        return value

    def get_many(self, keys: Iterable[str]) -> dict[str, Any]:
        """See `NearCache.get_many`."""
        return self._get_one_by_one(tuple(keys))

    def get_entry(self, key: str) -> AnyEntry | None:
        """See `NearCache.get_entry`: the caller is about to load."""
        if _reloading.get():
            return None
        entry = super().get_entry(key)
        if entry is None:
            self._tell("missed", key)
        else:
            self._tell("hit", key, entry)
        return entry

    def load_entry(
        self, key: str, loader: Callable[[], Any], *, ttl: Ttl = DEFAULT, tags: Iterable[str | Tag] = ()
    ) -> AnyEntry:
        """See `NearCache.load_entry`."""
        if _reloading.get():
            return self._make_aside(key, loader())
        probe = self._take_probe(key)
        if probe is None:
            timing = _Timing()
            with self._loading(key, timing):
                timing.entry = super().load_entry(key, timing.around(loader), ttl=ttl, tags=tags)
            return self._keep_known(key, timing.entry, timing)
        with _never_failing():
            fresh = _reload(loader)
            if probe.reviewer.reloaded(probe, fresh):
                probe.reviewer.reloaded_again(probe, fresh, _reload(loader))
        self._tell("hit", key, probe.entry)
        return probe.entry

    async def aload_entry(
        self, key: str, loader: Callable[[], Awaitable[Any]], *, ttl: Ttl = DEFAULT, tags: Iterable[str | Tag] = ()
    ) -> AnyEntry:
        """See `NearCache.aload_entry`."""
        if _reloading.get():
            return self._make_aside(key, await loader())
        probe = self._take_probe(key)
        if probe is None:
            timing = _Timing()
            with self._loading(key, timing):
                timing.entry = await super().aload_entry(key, timing.around_async(loader), ttl=ttl, tags=tags)
            return self._keep_known(key, timing.entry, timing)
        with _never_failing():
            fresh = await _areload(loader)
            if probe.reviewer.reloaded(probe, fresh):
                probe.reviewer.reloaded_again(probe, fresh, await _areload(loader))
        self._tell("hit", key, probe.entry)
        return probe.entry

    def is_to_reload(self, key: str, value: Any) -> bool:
        """
        Whether the caller, who has hit *value* and knows how to load it, is to go on as if it had missed: then its
        `load_entry` reloads, and returns the entry as it is.
        """
        if not _reviewers or _reloading.get():
            return False
        reviewer = _reviewers[-1]
        if not reviewer.wants(self, key):
            return False
        entry = self.peek(key)
        if entry is None or entry.value is not value or not self._is_comparable(key, entry):
            return False
        _probe.set(Probe(self, key, entry, reviewer))
        return True

    def _is_comparable(self, key: str, entry: AnyEntry) -> bool:
        """Rule 3; and what was stored in a cache backend by `set` has no loader that could know better."""
        if self._slow_path and self._source.is_apart():
            return False
        known = _known.get(self)
        if known is not None and known.get(key) is not entry:
            return False
        return entry.loaded_at + self._rule.replica_lag_ns <= self.as_of()

    def _take_probe(self, key: str) -> Probe | None:
        """The hit that has just been chosen, unless the entry has left meanwhile: then this is a load like any."""
        probe = _probe.get()
        if probe is None or probe.near is not self or probe.key != key:
            return None
        _probe.set(None)
        return probe if self.peek(key) is probe.entry else None

    def _make_aside(self, key: str, loaded: Any) -> AnyEntry:
        value = loaded.value if isinstance(loaded, Loaded) else loaded
        return Entry(value, loaded_at=self.as_of(), slots=self._slots_of(key, ()))

    def _keep_known(self, key: str, entry: AnyEntry, timing: _Timing) -> AnyEntry:
        known = _known.get(self)
        if known is not None and timing.has_made_it:
            with _lock:
                known[key] = entry
                if len(known) > MOST_KNOWN:
                    known.popitem(last=False)
        return entry

    @contextlib.contextmanager
    def _loading(self, key: str, timing: _Timing) -> Iterator[None]:
        try:
            yield
        finally:
            self._tell("loaded", key, timing.entry, timing.seconds)

    def _tell(self, what: str, *facts: Any) -> None:
        for watcher in tuple(_watchers):
            with _never_failing():
                getattr(watcher, what)(self, *facts)


class _Timing:
    """How long a loader took, if it ran for this caller, and whether it has made the value."""

    def __init__(self) -> None:
        self.entry: AnyEntry | None = None
        self.seconds: float | None = None
        self.has_made_it = False

    def around(self, loader: Callable[[], Any]) -> Callable[[], Any]:
        def load() -> Any:
            with self._running():
                return self._made(loader())

        return load

    def around_async(self, loader: Callable[[], Awaitable[Any]]) -> Callable[[], Awaitable[Any]]:
        async def load() -> Any:
            with self._running():
                return self._made(await loader())

        return load

    @contextlib.contextmanager
    def _running(self) -> Iterator[None]:
        began = time.perf_counter()
        try:
            yield
        finally:
            self.seconds = time.perf_counter() - began

    def _made(self, loaded: Any) -> Any:
        self.has_made_it = not isinstance(loaded, Found)
        return loaded


class Found(Loaded[Any]):
    """What a loader returns that has not loaded it from the source, but found it in another cache."""


# Reloading.

_probe: ContextVar[Probe | None] = ContextVar("invalidator_probe", default=None)
_reloading: ContextVar[bool] = ContextVar("invalidator_reloading", default=False)


def is_reloading() -> bool:
    """Whether the calling thread or task reloads what is cached, to compare."""
    return _reloading.get()


class NothingToReloadError(Exception):
    """A value was given and no loader: nobody can say what it would be now."""


def loader_of(default: Any) -> Callable[[], Any]:
    """Return *default* if it is a loader. Raises NothingToReloadError."""
    if not callable(default):
        raise NothingToReloadError
    return cast("Callable[[], Any]", default)


def _reload(loader: Callable[[], Any]) -> Outcome:
    token = _reloading.set(True)
    try:
        # In a transaction, a query that fails would take the caller's with it.
        with _savepoints():
            return Outcome(_value(loader()))
    except Exception as error:  # noqa: BLE001 - whatever it is, it is what a load would have come to
        return Outcome(error=error)
    finally:
        _reloading.reset(token)


async def _areload(loader: Callable[[], Awaitable[Any]]) -> Outcome:
    token = _reloading.set(True)
    try:
        return Outcome(_value(await loader()))
    except Exception as error:  # noqa: BLE001
        return Outcome(error=error)
    finally:
        _reloading.reset(token)


def _value(loaded: Any) -> Any:
    return loaded.value if isinstance(loaded, Loaded) else loaded


@contextlib.contextmanager
def _savepoints() -> Iterator[None]:
    with contextlib.ExitStack() as stack:
        for connection in connections.all(initialized_only=True):
            if connection.in_atomic_block:
                stack.enter_context(transaction.atomic(using=connection.alias))
        yield


@contextlib.contextmanager
def _never_failing() -> Iterator[None]:
    try:
        yield
    except Exception:
        log.exception("observer failed")


# Who looks.

_lock = FreshRLock()
_watchers: list[Watcher] = []
_reviewers: list[Reviewer] = []
_caches: weakref.WeakKeyDictionary[NearCache, str] = weakref.WeakKeyDictionary()
_known: weakref.WeakKeyDictionary[NearCache, OrderedDict[str, AnyEntry]] = weakref.WeakKeyDictionary()
_on_change: list[Callable[[], object]] = []


def made(near: NearCache, name: str, *, has_loaders_only: bool = True) -> NearCache:
    """
    A near cache was made for this process: let it be looked at, if anybody does.

    Args:
        name: for people.
        has_loaders_only: False if values may also be set that no loader knows of.
    """
    with _lock:
        _caches[near] = name
        if not has_loaders_only:
            _known[near] = OrderedDict()
        _dress(near)
    return near


def name_of(near: NearCache) -> str:
    """What people call it."""
    return _caches.get(near, "")


def on_change(callback: Callable[[], object]) -> None:
    """Call *callback* when near caches have changed their class: a bound method of theirs is the old one's."""
    _on_change.append(callback)


@contextlib.contextmanager
def watching(watcher: Watcher) -> Iterator[None]:
    """Let *watcher* be told, inside the block, what every near cache of this process does, whoever asks it."""
    watch(watcher)
    try:
        yield
    finally:
        unwatch(watcher)


def watch(watcher: Watcher) -> None:
    """Begin `watching`; may be nested."""
    _change(lambda: _watchers.append(watcher))


def unwatch(watcher: Watcher) -> None:
    """End what `watch` began."""
    _change(lambda: _watchers.remove(watcher))


def review(reviewer: Reviewer) -> None:
    """Let *reviewer* choose hits to reload; of several, the last one does."""
    _change(lambda: _reviewers.append(reviewer))


def end_review(reviewer: Reviewer) -> None:
    """End what `review` began."""
    _change(lambda: _reviewers.remove(reviewer))


def _change(change: Callable[[], object]) -> None:
    with _lock:
        change()
        near_caches = list(_caches)
        before = {type(near) for near in near_caches}
        for near in near_caches:
            _dress(near)
        if before != {type(near) for near in near_caches}:
            for callback in _on_change:
                callback()


def _dress(near: NearCache) -> None:
    kind = ObservedCache if _watchers or _reviewers else WritableCache if near in _known else NearCache
    if type(near) is not kind:
        near.__class__ = kind
