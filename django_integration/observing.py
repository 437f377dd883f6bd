"""
Watching what near caches do, and reloading some of what was hit.

A near cache that nobody watches has no observer, and its hits cost what they always do. While there is a watcher or a
reviewer, each near cache of this process has an `_Observer`.

Rule 1: a near cache that is watched behaves as ever. Callers get the value that they would have got, also while it is
verified, and no error of a watcher or of a reload reaches them.
Rule 2: a reload sees the source and not the cache: inside of it, every `get_or_set` and cached function loads anew, and
stores nothing. (`get` finds what is there: a caller that only gets does not know how to load.)
Rule 3: a hit is reloaded where what the caller sees now is at least as new as the entry, and all of it is committed:
not in a transaction that has written, nor in one whose snapshot is older than the entry.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterator
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Protocol, cast

from django.db import connections, transaction

from invalidator import Entry, Loaded, NearCache
from invalidator.extending import AsyncLoader, FreshRLock, Loader, name_slots

from . import near_caches
from .near_caches import Opened

log = logging.getLogger("invalidator.observing")

MOST_KNOWN = 10_000
"""Entries of a cache backend of which is remembered that a loader made them; those before are not verified."""

AnyEntry = Entry[Any]


class Watcher(Protocol):
    """Is called with what near caches do, in the thread or task that does it."""

    def hit(self, near: NearCache, key: str, entry: AnyEntry) -> None:
        """A value was found."""

    def missed(self, near: NearCache, key: str) -> None:
        """None was."""

    def loaded(self, near: NearCache, key: str, entry: AnyEntry | None, seconds: float | None) -> None:
        """
        A load has ended, with an error if *entry* is None. *seconds* is None for a caller that waited for another
        caller's load.
        """


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a reload came to: a value, or an error."""

    value: Any = None
    error: Exception | None = None


@dataclass(frozen=True, slots=True)
class Probe:
    """A hit that is reloaded."""

    near: NearCache
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


class _Observer:
    """The observer of one near cache: calls the watchers, and reloads what a reviewer wants reloaded."""

    def __init__(self, opened: Opened) -> None:
        self._near = opened.near
        # Of a cache backend, the entries that a loader has made; what was set has no loader that could know better.
        self._made: OrderedDict[str, AnyEntry] | None = None if opened.only_loads else OrderedDict()

    def loads_anyway(self, key: str, entry: AnyEntry | None) -> bool:
        """Inside of a reload, and for a hit that is to be reloaded: then `load` finds the probe."""
        if _reloading.get():
            return True
        if entry is None or not _reviewers:
            return False
        reviewer = _reviewers[-1]
        if not reviewer.wants(self._near, key) or not self._is_comparable(key, entry):
            return False
        _probe.set(Probe(self._near, key, entry, reviewer))
        return True

    def hit(self, key: str, entry: AnyEntry) -> None:
        """See `Watcher.hit`."""
        for watcher in tuple(_watchers):
            with _never_failing():
                watcher.hit(self._near, key, entry)

    def missed(self, key: str) -> None:
        """See `Watcher.missed`."""
        for watcher in tuple(_watchers):
            with _never_failing():
                watcher.missed(self._near, key)

    def load(self, key: str, loader: Loader, load: Callable[[Loader], AnyEntry]) -> AnyEntry:
        """Time the load of a miss; reload a hit that was chosen, and return its entry; store nothing in a reload."""
        if _reloading.get():
            return self._make_aside(key, loader())
        probe = self._take_probe(key)
        if probe is None:
            timing = _Timing()
            with self._reporting(key, timing):
                timing.entry = load(timing.around(loader))
            return self._remember(key, timing.entry, timing)
        with _never_failing():
            fresh = _reload(loader)
            if probe.reviewer.reloaded(probe, fresh):
                probe.reviewer.reloaded_again(probe, fresh, _reload(loader))
        return self._serve(probe)

    async def aload(
        self, key: str, loader: AsyncLoader, load: Callable[[AsyncLoader], Awaitable[AnyEntry]]
    ) -> AnyEntry:
        """`load` for coroutines."""
        if _reloading.get():
            return self._make_aside(key, await loader())
        probe = self._take_probe(key)
        if probe is None:
            timing = _Timing()
            with self._reporting(key, timing):
                timing.entry = await load(timing.around_async(loader))
            return self._remember(key, timing.entry, timing)
        with _never_failing():
            fresh = await _areload(loader)
            if probe.reviewer.reloaded(probe, fresh):
                probe.reviewer.reloaded_again(probe, fresh, await _areload(loader))
        return self._serve(probe)

    def _is_comparable(self, key: str, entry: AnyEntry) -> bool:
        """Rule 3; and a loader has made it."""
        if self._made is not None and self._made.get(key) is not entry:
            return False
        return self._near.may_compare(entry)

    def _take_probe(self, key: str) -> Probe | None:
        """The hit that has just been chosen, unless the entry has left meanwhile: then this is a load like any."""
        probe = _probe.get()
        if probe is None or probe.near is not self._near or probe.key != key:
            return None
        _probe.set(None)
        return probe if probe.entry in self._near.peek_all(key) else None

    def _serve(self, probe: Probe) -> AnyEntry:
        probe.entry.hits += 1
        self.hit(probe.key, probe.entry)
        return probe.entry

    def _make_aside(self, key: str, loaded: Any) -> AnyEntry:
        return Entry(_value(loaded), loaded_at=self._near.as_of(), slots=name_slots((key,), (), self._near.bus.slots))

    def _remember(self, key: str, entry: AnyEntry, timing: _Timing) -> AnyEntry:
        if self._made is not None and timing.has_made_it:
            with _lock.lock:
                self._made[key] = entry
                if len(self._made) > MOST_KNOWN:
                    self._made.popitem(last=False)
        return entry

    @contextlib.contextmanager
    def _reporting(self, key: str, timing: _Timing) -> Iterator[None]:
        try:
            yield
        finally:
            for watcher in tuple(_watchers):
                with _never_failing():
                    watcher.loaded(self._near, key, timing.entry, timing.seconds)


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


# Who watches.

_lock = FreshRLock()
_watchers: list[Watcher] = []
_reviewers: list[Reviewer] = []


@contextlib.contextmanager
def watching(watcher: Watcher) -> Iterator[None]:
    """Inside the block, call *watcher* with what every near cache of this process does, whichever caller it serves."""
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
    with _lock.lock:
        change()
        for opened in near_caches.opened():
            _set_observer(opened)


def _set_observer(opened: Opened) -> None:
    with _lock.lock:
        if not (_watchers or _reviewers):
            opened.near.observer = None
        elif opened.near.observer is None:
            opened.near.observer = _Observer(opened)


near_caches.on_register(_set_observer)
