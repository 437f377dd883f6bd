"""
The one bus and the one default near cache of this process.

Both are made on first use, never at import or in `ready()`: preloading servers fork after that. When the setting
changes (`override_settings`), both are closed, and the next use makes new ones.

Rule 1: nobody keeps what `bus()` or `default_cache()` returned beyond one call; `reads.py` looks it up each time, and
hits through `front`, which changes with it.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Iterable

from asgiref.sync import sync_to_async
from django.core.signals import setting_changed

from invalidator import Front, Hold, Invalidator, NearCache, Receipt, Tag

from . import conf as configuration
from . import observing
from .conf import conf


class Bus(Invalidator):
    """The library's; but what is invalidated leaves the second levels of `backend.py` before anybody is told."""

    def invalidate(self, *keys: str, tags: Iterable[str | Tag] = ()) -> Receipt:
        """See `Invalidator.invalidate`."""
        from . import l2  # which needs a bus

        begun = self.clock()
        l2.forget(keys)
        receipt = super().invalidate(*keys, tags=tags)
        l2.look_again(keys, receipt, begun)
        return receipt

    async def ainvalidate(self, *keys: str, tags: Iterable[str | Tag] = ()) -> Receipt:
        """See `Invalidator.ainvalidate`."""
        from . import l2

        if keys and l2.is_used():
            return await asyncio.shield(sync_to_async(self.invalidate)(*keys, tags=tags))
        return await super().ainvalidate(*keys, tags=tags)

    def announce(self, *keys: str, tags: Iterable[str | Tag] = (), at: int | None = None) -> Callable[[], Receipt]:
        """See `Invalidator.announce`, by which all but a clear and a release is said."""
        if not hearers:
            return super().announce(*keys, tags=tags, at=at)
        tags = tuple(tags)
        tell = super().announce(*keys, tags=tags, at=at)

        def report_and_tell() -> Receipt:
            _report(keys, tags)
            return tell()

        return report_and_tell

    def release_hold(self, hold: Hold) -> Receipt:
        """See `Invalidator.release_hold`: the message of a strict write."""
        from . import l2

        begun = self.clock()
        _report(hold.keys, hold.tags)
        l2.forget(hold.keys)
        receipt = super().release_hold(hold)
        l2.look_again(hold.keys, receipt, begun)
        return receipt

    def clear(self) -> Receipt:
        """See `Invalidator.clear`."""
        from . import l2

        _report((), (), everything=True)
        l2.forget_everything()
        return super().clear()


Hearer = Callable[[tuple[str, ...], tuple[str, ...], bool], object]

hearers: list[Hearer] = []
"""Called with keys, tags and whether it was everything, for each message that this process says: `testing.py`."""


def _report(keys: Iterable[str], tags: Iterable[str | Tag], *, everything: bool = False) -> None:
    for hear in hearers:
        hear(tuple(keys), tuple(map(str, tags)), everything)


class _Runtime:
    """Holds the two, and the lock they are made under."""

    def __init__(self) -> None:
        self.bus: Invalidator | None = None
        self.cache: NearCache | None = None
        self.lock = threading.RLock()
        self.has_sidecar = True
        self.on_made: list[Callable[[Invalidator], object]] = []
        self.on_reset: list[Callable[[], object]] = []


_runtime = _Runtime()


def bus() -> Invalidator:
    """Return this process' bus. Raises ImproperlyConfigured when the setting cannot work."""
    # Read without the lock: an attribute is there whole or not at all, and this is on every write's path.
    if (made := _runtime.bus) is not None:
        return made
    with _runtime.lock:
        if _runtime.bus is None:
            made = _runtime.bus = make_bus()
            for callback in _runtime.on_made:
                callback(made)
        return _runtime.bus


def made_bus() -> Invalidator | None:
    """Return this process' bus if it was used already; makes none."""
    return _runtime.bus


def made_cache() -> NearCache | None:
    """Return this process' default near cache if it was used already; makes none."""
    return _runtime.cache


def make_bus() -> Invalidator:
    """Return a new bus as the settings say; it starts nothing before its first use."""
    configuration.validate()
    return Bus(
        conf.url,
        namespace=conf.namespace,
        sidecar=conf.sidecar if _runtime.has_sidecar else None,
        max_staleness=conf.max_staleness,
        when_unleased=conf.when_unleased,
        replica_lag=conf.replica_lag,
        publish=conf.publish,
        queue_size=conf.queue_size,
        publish_timeout=conf.publish_timeout,
        close_timeout=conf.close_timeout,
        journal_length=conf.journal_length,
        slots=conf.slots,
    )


def do_without_sidecar() -> None:
    """Let this process listen for itself, whatever the setting says. For a command, on a host that has no sidecar."""
    _runtime.has_sidecar = False


def default_cache() -> NearCache:
    """Return this process' default near cache. Raises ImproperlyConfigured when the setting cannot work."""
    if (made := _runtime.cache) is not None:
        return made
    with _runtime.lock:
        if _runtime.cache is None:
            from .source import Transactions  # which needs a bus

            near = NearCache(bus(), maxsize=conf.maxsize, ttl=conf.ttl, source=Transactions())
            _runtime.cache = observing.made(near, "cache, cached")
            front.cache = near
        return _runtime.cache


front = Front(default_cache)
"""Where hits of cached functions find the default near cache."""


def reset() -> None:
    """Close the bus and the cache, if there are any; the next use makes new ones."""
    with _runtime.lock:
        old_cache, old_bus = _runtime.cache, _runtime.bus
        _runtime.cache = _runtime.bus = None
        front.forget()
        _runtime.has_sidecar = True
    # Closed outside the lock: a callback of the old bus may be waiting for it.
    if old_cache is not None:
        old_cache.close()
    if old_bus is not None:
        old_bus.close()
    for callback in _runtime.on_reset:
        callback()


def on_made(callback: Callable[[Invalidator], object]) -> None:
    """Call *callback* with every bus that is made for this process, before its first use."""
    _runtime.on_made.append(callback)


def on_reset(callback: Callable[[], object]) -> None:
    """Call *callback* after every `reset`: what was made on the old bus must be made anew."""
    _runtime.on_reset.append(callback)


def _on_setting_changed(*, setting: str, **_: object) -> None:
    if setting == configuration.SETTING:
        reset()


setting_changed.connect(_on_setting_changed, dispatch_uid="invalidator")


def _after_fork_in_child() -> None:
    # The thread that held the lock does not exist here. Bus and cache look after themselves.
    _runtime.lock = threading.RLock()


os.register_at_fork(after_in_child=_after_fork_in_child)
