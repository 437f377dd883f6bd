"""
The one bus of this process.

It is made on first use, never at import or in `ready()`: preloading servers fork after that. When the setting changes
(`override_settings`), it is closed, and the next use makes a new one.

Rule 1: a caller keeps what `bus()` returned for one call only, or registers with `on_reset` to forget it.
"""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

from asgiref.sync import sync_to_async
from django.core.signals import setting_changed

from invalidator import Hold, Invalidator, Receipt, Tag
from invalidator.extending import CONFIG_OPTIONS, FreshRLock, check_tags

from . import conf as configuration
from .conf import conf


class SharedStore(Protocol):
    """Caches outside of this process that hold values by key, and have to lose a key before its invalidation leaves."""

    def is_used(self) -> bool:
        """Whether there are any, so that deleting may wait for a server."""

    def delete(self, keys: Sequence[str], /) -> None:
        """Delete *keys*, which are about to be published. Never raises."""

    def check_again(self, keys: Sequence[str], receipt: Receipt, begun: int, /) -> None:
        """
        See whether somebody has stored one of *keys* between their delete and the end of their publish.

        Args:
            begun: the time of the bus' clock before the delete.
        """

    def delete_all(self) -> None:
        """Delete everything, before a clear is published. Never raises."""


_shared_stores: list[SharedStore] = []


def add_shared_store(store: SharedStore) -> None:
    """Let every bus of this process delete from *store* what it is about to publish."""
    if store not in _shared_stores:
        _shared_stores.append(store)


class Bus(Invalidator):
    """The library's, but names leave the shared stores before they are published."""

    def _invalidate(self, keys: tuple[str, ...], tags: Iterable[str | Tag]) -> Receipt:
        return _publish_deleted(self, keys, lambda: super(Bus, self)._invalidate(keys, tags))

    def invalidate_later(self, *keys: str, tags: Iterable[str | Tag] = ()) -> Receipt:
        """See `Invalidator.invalidate_later`; it does wait for a second level, which has to lose *keys* first."""
        tags = check_tags(tags)
        _report(keys, tags)
        return _publish_deleted(self, keys, lambda: super(Bus, self).invalidate_later(*keys, tags=tags))

    async def ainvalidate(self, *keys: str, tags: Iterable[str | Tag] = ()) -> Receipt:
        """See `Invalidator.ainvalidate`."""
        if keys and any(store.is_used() for store in _shared_stores):
            return await asyncio.shield(sync_to_async(self.invalidate)(*keys, tags=tags))
        return await super().ainvalidate(*keys, tags=tags)

    @property
    def publishes(self) -> bool:
        """See `Invalidator.publishes`: not while this process keeps to itself, unless the bus is within the process."""
        return not _runtime.keeps_to_itself or self.url.startswith("memory://")

    def announce(
        self,
        *keys: str,
        tags: Iterable[str | Tag] = (),
        at: int | None = None,
        elsewhere: Iterable[str] = (),
    ) -> Callable[[], Receipt]:
        """See `Invalidator.announce`, by which everything but a clear and a release is published."""
        if not publish_observers:
            return super().announce(*keys, tags=tags, at=at, elsewhere=elsewhere)
        tags, elsewhere = tuple(tags), tuple(elsewhere)
        publish = super().announce(*keys, tags=tags, at=at, elsewhere=elsewhere)

        def report_and_publish() -> Receipt:
            _report((*keys, *elsewhere), tags)
            return publish()

        return report_and_publish

    def release_hold(self, hold: Hold) -> Receipt:
        """See `Invalidator.release_hold`: the message of a strict write."""
        _report(hold.keys, hold.tags)
        keys = tuple(key for key in hold.keys if key not in _spared.get(hold, ()))
        return _publish_deleted(self, keys, lambda: super(Bus, self).release_hold(hold))

    def clear(self) -> Receipt:
        """See `Invalidator.clear`."""
        _report((), (), everything=True)
        for store in _shared_stores:
            store.delete_all()
        return super().clear()


def publish_again(
    keys: Iterable[str], tags: Iterable[str], again: Iterable[str], elsewhere: Iterable[str] = ()
) -> Receipt:
    """
    `Bus.invalidate` in one message, but that the shared stores have new values of the keys *again* already, and this
    process those of the keys *elsewhere*.
    """
    keys, made = tuple(keys), bus()

    def publish() -> Receipt:
        return made.announce(*keys, *again, tags=tags, elsewhere=elsewhere)()

    return _publish_deleted(made, keys, publish)


def _publish_deleted(bus: Invalidator, keys: Sequence[str], publish: Callable[[], Receipt]) -> Receipt:
    """Delete *keys* from the shared stores, publish, and let the stores see what came in between."""
    if not keys:
        return publish()
    begun = bus.clock()
    for store in _shared_stores:
        store.delete(keys)
    receipt = publish()
    for store in _shared_stores:
        store.check_again(keys, receipt, begun)
    return receipt


_spared: weakref.WeakKeyDictionary[Hold, dict[str, None]] = weakref.WeakKeyDictionary()


def spare(hold: Hold, keys: Iterable[str]) -> None:
    """At the release of *hold*, the shared stores have new values of *keys* already, and nothing is deleted there."""
    _spared.setdefault(hold, {}).update(dict.fromkeys(keys))


PublishObserver = Callable[[tuple[str, ...], tuple[str, ...], bool], object]

publish_observers: list[PublishObserver] = []
"""Called with keys, tags and whether it is a clear, for each message that this process publishes: `testing`."""


def _report(keys: Iterable[str], tags: Iterable[str | Tag], *, everything: bool = False) -> None:
    for observe in publish_observers:
        observe(tuple(keys), tuple(map(str, tags)), everything)


class _Runtime:
    """Holds the bus, and the lock it is made under."""

    def __init__(self) -> None:
        self.bus: Invalidator | None = None
        self.lock = FreshRLock()
        self.has_sidecar = True
        self.keeps_to_itself = False
        self.on_made: list[Callable[[Invalidator], object]] = []
        self.on_reset: list[Callable[[], object]] = []


_runtime = _Runtime()


def bus() -> Invalidator:
    """Return this process' bus. Raises ImproperlyConfigured when the setting cannot work."""
    # Read without the lock: an attribute is there whole or not at all, and this is on every write's path.
    if (made := _runtime.bus) is not None:
        return made
    with _runtime.lock.lock:
        if _runtime.bus is None:
            made = _runtime.bus = make_bus()
            for callback in _runtime.on_made:
                callback(made)
        return _runtime.bus


def made_bus() -> Invalidator | None:
    """Return this process' bus if it was used already; makes none."""
    return _runtime.bus


def make_bus() -> Invalidator:
    """Return a new bus as the settings say; it starts nothing before its first use."""
    configuration.validate()
    return Bus(
        conf.url,
        sidecar=conf.sidecar if _runtime.has_sidecar else None,
        **{name: getattr(conf, name) for name in CONFIG_OPTIONS},
    )


def do_without_sidecar() -> None:
    """Let this process listen for itself, whatever the setting asks for: for a command on a host without a sidecar."""
    _runtime.has_sidecar = False


def keep_to_itself(whether: bool) -> None:
    """Publish nothing to any server from now on, or do so again: what is invalidated is in force here alone."""
    _runtime.keeps_to_itself = whether


def reset() -> None:
    """Close the bus, if there is one; the next use makes a new one."""
    with _runtime.lock.lock:
        old, _runtime.bus = _runtime.bus, None
        _runtime.has_sidecar = True
    # Outside the lock: a callback of the old bus may be waiting for it.
    for callback in _runtime.on_reset:
        callback()
    if old is not None:
        old.close()


def on_made(callback: Callable[[Invalidator], object]) -> None:
    """Call *callback* with every bus that is made for this process, before its first use."""
    _runtime.on_made.append(callback)


def on_reset(callback: Callable[[], object]) -> None:
    """Call *callback* at every `reset`, before the old bus is closed: what was made on it must be made anew."""
    _runtime.on_reset.append(callback)


def _on_setting_changed(*, setting: str, **_: object) -> None:
    if setting == configuration.SETTING:
        reset()


setting_changed.connect(_on_setting_changed, dispatch_uid="invalidator")
