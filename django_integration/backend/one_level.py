"""
Values live in the memory of each process, and nowhere else.

Rule 1: what is stored after a miss of this thread or task is a fill: nothing is published, and it is treated as loaded
when it was missed. Everything else is a change, which is published (`fills.py`).
Rule 2: in a transaction that has written, an `add` is a change: its caller wants to know who was first, and a fill
would not be stored.
Rule 3: a `delete` publishes the name and deletes from no second level. What another alias has in its second level under
an equal key is that cache's own value, and has not changed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from invalidator.extending import Copy, hand_out

from ..transactions.view import has_written
from .fills import claim
from .levels import MISSING, Done, Keep, Levels, Pending, Publish
from .places import Place

_NOT_FOUND: Pending[Any] = Done(MISSING)
_NONE_FOUND: Pending[Mapping[str, Any]] = Done({})
_NOTHING_LEFT: Pending[None] = Done(None)


class OneLevel(Levels):
    """
    The near cache of a LOCATION, alone.

    Args:
        tags: those that every entry carries.
    """

    def __init__(
        self, place: Place, copying: Copy, make_room: Callable[[str], object], *, tags: tuple[str, ...]
    ) -> None:
        super().__init__(place, copying, make_room)
        self.tags = tags

    def tags_of(self, name: str) -> tuple[str, ...]:
        """See `Levels`."""
        return self.tags

    # Reading and loading: there is nothing below.

    def read_below(self, name: str) -> Pending[Any]:
        """See `Levels`."""
        return _NOT_FOUND

    def read_all_below(self, names: list[str]) -> Pending[Mapping[str, Any]]:
        """See `Levels`."""
        return _NONE_FOUND

    def find(self, name: str) -> Pending[Any]:
        """See `Levels`."""
        return _NOT_FOUND

    def fill(self, name: str, value: Any, ttl: float | None, since: int) -> Pending[Any]:
        """See `Levels`."""

        def conclude(kept: dict[str, Any]) -> Pending[Any]:
            self.make_room(name)
            return Done(kept[name])

        return Keep({name: value}, self, conclude)

    # Writing.

    def set(self, values: Mapping[str, Any], ttl: float | None) -> Pending[None]:
        """See `Levels`, and rule 1."""
        # Claimed before the values are copied: what is invalidated while a query set is read is not stored.
        claims = claim(self.near, values)
        return Keep(values, self, lambda kept: self._store(kept, claims, ttl))

    def _store(self, kept: dict[str, Any], claims: Mapping[str, tuple[bool, int]], ttl: float | None) -> Pending[None]:
        near = self.near
        changed: dict[str, int] = {}
        for name, (is_fill, since) in claims.items():
            self.make_room(name)
            if is_fill:
                near.set(name, kept[name], ttl=ttl, tags=self.tags, loaded_at=since)
            else:
                changed[name] = since
        if not changed:
            return _NOTHING_LEFT
        change = near.replace({name: kept[name] for name in changed}, ttl=ttl, tags=self.tags, since=changed)
        return Publish(change.publish, None)

    def add(self, name: str, value: Any, ttl: float | None) -> Pending[bool]:
        """See `Levels`, and rules 1 and 2."""
        is_fill, since = claim(self.near, {name: value})[name]
        if self.near.peek(name) is not None:
            return Done(False)
        fills = is_fill and not has_written()
        return Keep({name: value}, self, lambda kept: self._add(name, kept[name], ttl, since if fills else None))

    def _add(self, name: str, kept: Any, ttl: float | None, since: int | None) -> Pending[bool]:
        """Add what was computed after *since*; None for a change."""
        near = self.near
        if ttl == 0:
            return Done(True)  # it was added, and has expired
        self.make_room(name)
        if since is not None:
            return Done(near.fill_if_absent(name, kept, loaded_at=since, ttl=ttl, tags=self.tags))
        change = near.replace_if_absent(name, kept, ttl=ttl, tags=self.tags)
        return Done(False) if change is None else Publish(change.publish, True)

    def touch(self, name: str, ttl: float | None) -> Pending[bool]:
        """See `Levels`."""
        near = self.near
        near.drop_misses(name)
        try:
            _, change = near.update(name, lambda kept: kept, ttl=ttl)
        except KeyError:
            return Done(False)
        if ttl == 0:
            near.evict(name)
        return Publish(change.publish, True)

    def incr(self, name: str, delta: int) -> Pending[int]:
        """See `Levels`."""
        near = self.near
        near.drop_misses(name)
        kept, change = near.update(name, lambda kept: self.keep(hand_out(kept) + delta))
        return Publish(change.publish, hand_out(kept))

    def delete(self, name: str) -> Pending[bool]:
        """See `Levels`, and rule 3."""
        near = self.near
        near.drop_misses(name)
        was_there = near.peek(name) is not None
        return Publish(near.bus.announce(name), was_there)

    def delete_many(self, names: list[str]) -> Pending[None]:
        """See `Levels`, and rule 3."""
        near = self.near
        near.drop_misses(*names)
        return Publish(near.bus.announce(*names), None)

    def clear(self) -> Pending[None]:
        """See `Levels`. Publishes the tag of the LOCATION, and no key."""
        near = self.near
        near.forget_misses()
        publish = near.bus.announce(tags=(self.place.tag,))

        def publish_and_sweep() -> None:
            publish()
            near.sweep()

        return Publish(publish_and_sweep, None)
