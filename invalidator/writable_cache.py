"""
A near cache that callers also write to: for an API in which `set` may mean either that a value was computed from the
source, or that the value itself is new.

`NearCache.set` is always a fill: it stores what was computed from the source, and publishes nothing. Here a caller may
also make a change: the new values are in force in this process at once, and all other processes have to drop the old.
Django's cache API is such a one; see `django_integration/backend/`.

Rule 1: a change is in force here before it is published, and published exactly once, by the caller.
Rule 2: what another thread has stored meanwhile is not lost: a value is added or updated only in the place of the one
that was seen.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from .entry import AnyEntry
from .errors import InvalidatorError
from .loaded import DEFAULT, Default, Ttl, check_ttl
from .names import Tag, check_key, check_tags
from .near_cache import NearCache
from .receipt import Receipt


class Change:
    """
    New values that are in force here, and that are not published yet: call `publish`, exactly once.

    Attributes:
        at: when it was made. What was loaded up to then is stale; the new values are treated as loaded right after.
        entries: of the new values, by key.
        updated: the entry that an `update` has replaced.
    """

    def __init__(
        self, cache: WritableCache, entries: Mapping[str, AnyEntry], at: int, updated: AnyEntry | None = None
    ) -> None:
        self.at = at
        self.entries = entries
        self.updated = updated
        self._cache = cache
        self._publish = cache.bus.announce(*entries, at=at)

    def publish(self) -> Receipt:
        """Invalidate the old values everywhere else. Raises as `Invalidator.invalidate` does; then the new are gone."""
        try:
            receipt = self._publish()
        except InvalidatorError:
            self._cache.evict(*self.entries)
            raise
        if self._cache.bus.echoes:
            self._cache.renew(self.entries, self.at)
        return receipt

    async def apublish(self) -> Receipt:
        """
        `publish` for coroutines: the event loop does not wait for Redis. A caller that is cancelled meanwhile has
        published all the same.
        """
        return await asyncio.shield(asyncio.get_running_loop().run_in_executor(None, self.publish))


class WritableCache(NearCache):
    """A `NearCache` with operations that distinguish a fill from a change. Options are those of `NearCache`."""

    # Misses: a value that is stored soon after a miss of its key was computed from the source.

    def claim_miss(self, key: str, *, within: float) -> tuple[bool, int]:
        """
        Take the last miss of *key* by this thread or task.

        Args:
            within: seconds that it may be old.

        Returns:
            whether there was one, and the time at which a value of *key* is treated as loaded.
        """
        check_key(key)
        if not self._first_moments.are_over:
            self._first_moments.begin()
        return self._misses.claim(key, self.as_of(), int(within * 1e9))

    def note_miss(self, key: str, at: int) -> None:
        """This thread or task has missed *key* at that time of the bus' clock, though it did not ask for it."""
        self._misses.note(check_key(key), at)

    def drop_misses(self, *keys: str) -> None:
        """This thread or task has changed *keys* itself: what it stores later was not computed after their misses."""
        self._misses.drop(keys)

    def forget_misses(self) -> None:
        """This thread or task will store nothing more of what it has missed: its request has ended."""
        self._misses.forget()

    # Changes.

    def replace(
        self,
        mapping: Mapping[str, Any],
        *,
        ttl: Ttl = DEFAULT,
        tags: Iterable[str | Tag] = (),
        since: Mapping[str, int] | None = None,
    ) -> Change:
        """
        Store new values here. `Change.publish` makes all other processes drop the old ones.

        Args:
            since: by key, the time from which on the value may have been computed; if its key was invalidated since
                then, the change is published, and the value is not stored here.
        """
        tags = check_tags(tags)
        ttl = self._own_ttl(check_ttl(ttl))
        if not self._first_moments.are_over:
            self._first_moments.begin()
        at = self._clock()
        entries = {key: self._make_new_entry(check_key(key), value, at, ttl, tags) for key, value in mapping.items()}
        for key, entry in entries.items():
            doubted_since = (since or {}).get(key, at)
            if doubted_since >= at or self._rule.holds_for_load(entry.slots, doubted_since):
                self._fill(key, entry)
        return Change(self, entries, at)

    def fill_if_absent(
        self, key: str, value: Any, *, loaded_at: int, ttl: Ttl = DEFAULT, tags: Iterable[str | Tag] = ()
    ) -> bool:
        """`set` of a value that was loaded at *loaded_at*, unless there is one. Returns whether it was stored."""
        entry = self._make_entry(check_key(key), value, loaded_at, self._own_ttl(check_ttl(ttl)), check_tags(tags))
        return self._add(key, entry)

    def replace_if_absent(
        self, key: str, value: Any, *, ttl: Ttl = DEFAULT, tags: Iterable[str | Tag] = ()
    ) -> Change | None:
        """`replace` of one value, unless there is one: then None."""
        if not self._first_moments.are_over:
            self._first_moments.begin()
        at = self._clock()
        entry = self._make_new_entry(check_key(key), value, at, self._own_ttl(check_ttl(ttl)), check_tags(tags))
        return Change(self, {key: entry}, at) if self._add(key, entry) else None

    def update(self, key: str, change: Callable[[Any], Any], *, ttl: Ttl = DEFAULT) -> tuple[Any, Change]:
        """
        Replace the value of *key* by what *change* makes of it: no other thread's update is lost.

        Args:
            change: called with the value, again if another thread was quicker; it must not change the value itself.
            ttl: seconds; None for never; without it, what is left of the old one's.

        Returns:
            the new value, and the change to publish.

        Raises:
            KeyError: there is no value.
        """
        check_ttl(ttl)
        while True:
            old = self._peek(check_key(key))
            if old is None:
                raise KeyError(key)
            value = change(old.value)
            at = self._clock()
            entry = self._make_new_entry(key, value, at, None if isinstance(ttl, Default) else ttl, old.tags)
            if isinstance(ttl, Default):
                entry.expires_at = old.expires_at
            entry = self._watched(entry)
            gone = self._store.swap(key, old, entry)
            if gone is not None:
                entry.hits_at_turn -= 1  # an update is a use
                self._report(gone)
                return value, Change(self, {key: entry}, at, updated=old)

    def renew(self, entries: Mapping[str, AnyEntry], at: int) -> None:
        """
        The ledger has just stamped the names of *entries* as it stamps what others publish (`Invalidator.echoes`),
        though they held at that time: they are treated as loaded now, unless this process has invalidated them again.
        """
        for key, entry in entries.items():
            if self.bus.ledger.newest_stamp(entry.slots) <= at and self._by_key.get(key) in (entry, None):
                entry.loaded_at = self._clock() + self._rule.replica_lag_ns
                self._fill(key, entry)

    def make_room(self, count: int) -> int:
        """Let *count* entries leave, those whose turn it is. Returns how many there were."""
        gone = self._store.make_room(count)
        self._report(gone)
        return len(gone)

    def _add(self, key: str, entry: AnyEntry) -> bool:
        while True:
            try:
                old = self._by_key[key]
            except KeyError:
                old = None
            if old is not None and self._rule.check(old) == "valid":
                return False
            stored = self._fill(key, entry, instead_of=old)
            if stored is not None:
                return stored

    def _make_new_entry(self, key: str, value: Any, at: int, ttl: float | None, tags: tuple[str, ...]) -> AnyEntry:
        """An entry that holds what is true from *at* on, and was not read from a replica."""
        return self._make_entry(key, value, at + 1 + self._rule.replica_lag_ns, ttl, tags)
