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

from collections.abc import Callable, Hashable, Iterable, Mapping
from typing import Any

from invalidator.extending import DEFAULT, Change, Copy, Ttl, hand_out

from ..transactions.view import has_written
from .fills import claim
from .following import GONE, NOBODY, Changes, Followed, Made, updating
from .following_near import NearChanges
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
        self,
        place: Place,
        copying: Copy,
        make_room: Callable[[str], object],
        *,
        tags: tuple[str, ...],
        follows: bool = True,
    ) -> None:
        super().__init__(place, copying, make_room, follows=follows)
        self.tags = tags

    @property
    def origin(self) -> Hashable:
        """See `Levels`."""
        return self.place

    def _make_changes(self) -> Changes:
        return NearChanges(self.near, self.place.tag)

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
        followed = NOBODY if all(is_fill for is_fill, _ in claims.values()) else self.follow()
        return Keep(values, self, lambda kept: self._store(kept, claims, ttl, followed))

    def _store(
        self, kept: dict[str, Any], claims: Mapping[str, tuple[bool, int]], ttl: float | None, followed: Followed
    ) -> Pending[None]:
        near = self.near
        changed: dict[str, int] = {}
        for name, (is_fill, since) in claims.items():
            self.make_room(name)
            if is_fill:
                near.set(name, kept[name], ttl=ttl, tags=self.tags, loaded_at=since)
            else:
                changed[name] = followed.since(name, since)
        if not changed:
            return _NOTHING_LEFT
        clean = self._clean(followed, changed)
        change = near.replace({name: kept[name] for name in changed}, ttl=ttl, tags=self.tags, since=changed)
        followed.have_set(_made_by(change, clean))
        return Publish(change.publish, None)

    def _clean(self, followed: Followed, names: Iterable[str]) -> frozenset[str]:
        """Return those of *names* that nobody else has invalidated since the caller's transaction began."""
        if not followed:
            return frozenset()
        since, was_invalidated = self.near.as_of(), self.near.bus.was_invalidated
        return frozenset(
            name for name in names if not was_invalidated((name,), self.tags, since=followed.since(name, since))
        )

    def add(self, name: str, value: Any, ttl: float | None) -> Pending[bool]:
        """See `Levels`, and rules 1 and 2."""
        is_fill, since = claim(self.near, {name: value})[name]
        if self.near.peek(name) is not None:
            return Done(False)
        if is_fill and not has_written():
            return Keep({name: value}, self, lambda kept: self._add_fill(name, kept[name], ttl, since))
        followed = self.follow()
        return Keep({name: value}, self, lambda kept: self._add_change(name, kept[name], ttl, followed))

    def _add_fill(self, name: str, kept: Any, ttl: float | None, since: int) -> Pending[bool]:
        if ttl == 0:
            return Done(True)  # it was added, and has expired
        self.make_room(name)
        return Done(self.near.fill_if_absent(name, kept, loaded_at=since, ttl=ttl, tags=self.tags))

    def _add_change(self, name: str, kept: Any, ttl: float | None, followed: Followed) -> Pending[bool]:
        if ttl == 0:
            return Done(True)
        self.make_room(name)
        clean = self._clean(followed, [name])
        change = self.near.replace_if_absent(name, kept, ttl=ttl, tags=self.tags)
        if change is None:
            return Done(False)
        followed.have_set(_made_by(change, clean))
        return Publish(change.publish, True)

    def touch(self, name: str, ttl: float | None) -> Pending[bool]:
        """See `Levels`."""
        try:
            _, publish = self._update(name, lambda kept: kept, ttl)
        except KeyError:
            return Done(False)
        if ttl == 0:
            self.near.evict(name)
        return Publish(publish, True)

    def incr(self, name: str, delta: int) -> Pending[int]:
        """See `Levels`."""
        kept, publish = self._update(name, lambda kept: self.keep(hand_out(kept) + delta))
        return Publish(publish, hand_out(kept))

    def _update(self, name: str, change: Callable[[Any], Any], ttl: Ttl = DEFAULT) -> tuple[Any, Callable[[], object]]:
        near, followed = self.near, self.follow()
        near.drop_misses(name)
        clean = self._clean(followed, [name])
        kept, made = updating(self.origin, name, lambda: near.update(name, change, ttl=ttl))
        followed.have_updated(name, _made_by(made, clean)[name])
        return kept, made.publish

    def delete(self, name: str) -> Pending[bool]:
        """See `Levels`, and rule 3."""
        was_there = self.near.peek(name) is not None
        return Publish(self._delete([name]), was_there)

    def delete_many(self, names: list[str]) -> Pending[None]:
        """See `Levels`, and rule 3."""
        return Publish(self._delete(names), None)

    def _delete(self, names: list[str]) -> Callable[[], object]:
        near, followed = self.near, self.follow()
        near.drop_misses(*names)
        clean = self._clean(followed, names)
        at = near.bus.clock()
        publish = near.bus.announce(*names, at=at)
        followed.have_deleted({name: Made(GONE, at, is_clean=name in clean) for name in names} if followed else {})
        return publish

    def clear(self) -> Pending[None]:
        """See `Levels`. Publishes the tag of the LOCATION, and no key."""
        near = self.near
        near.forget_misses()
        publish = near.bus.announce(tags=(self.place.tag,))
        self.follow().have_cleared()

        def publish_and_sweep() -> None:
            publish()
            near.sweep()

        return Publish(publish_and_sweep, None)


def _made_by(change: Change, clean: frozenset[str]) -> dict[str, Made]:
    return {name: Made(entry, change.at, is_clean=name in clean) for name, entry in change.entries.items()}
