"""
Values live in another Django cache, shared by all servers, and every process has near copies of them.

Rule 1: a near copy is treated as loaded before the second level was read.
Rule 2: a fill goes to both levels, and to neither if another server was quicker: then the next read finds that server's
value. A change goes to the second level alone, and its near copies are invalidated: the next read makes new ones.
Rule 3: a value that is found in the second level was no miss. A `set` that follows is a change.
Rule 4: a value is copied where the second level is asked, which is no event loop: copying may ask the database.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from functools import partial
from typing import Any

from invalidator.extending import Copy, keep

from .. import observing
from ..transactions.view import has_written
from .fills import claim
from .following import GONE, NOBODY, UPDATED, Changes, Followed, Made, has_updated
from .following_below import ChangesBelow
from .levels import MISSING, Call, Levels, Pending
from .places import Place
from .second_level import SecondLevel


class TwoLevels(Levels):
    """
    The near cache of a LOCATION, over *second*.

    Errors of the second level: a read finds nothing, a write raises what the second level raises (`second_level.py`).
    """

    def __init__(
        self,
        place: Place,
        copying: Copy,
        make_room: Callable[[str], object],
        *,
        second: SecondLevel,
        follows: bool = True,
    ) -> None:
        super().__init__(place, copying, make_room, follows=follows)
        self._second = second

    @property
    def origin(self) -> Hashable:
        """See `Levels`."""
        return self._second

    def _make_changes(self) -> Changes:
        return ChangesBelow(self._second)

    def tags_of(self, name: str) -> tuple[str, ...]:
        """See `Levels`: a new value in the second level invalidates the near copies of its name alone."""
        return self.place.tag, self._second.copies_tag(name)

    # Reading.

    def read_below(self, name: str) -> Pending[Any]:
        """See `Levels`, and rules 1 and 3."""
        since = self.near.as_of()
        return Call(partial(self._get, name), lambda kept: self._keep_near(name, kept, since))

    def _get(self, name: str) -> Any:
        found = self._second.get(name, MISSING)
        return found if found is MISSING else self.keep(found)

    def read_all_below(self, names: list[str]) -> Pending[Mapping[str, Any]]:
        """See `Levels`, and rules 1 and 3."""
        since = self.near.as_of()

        def get_many() -> dict[str, Any]:
            return {name: self.keep(value) for name, value in self._second.get_many(names).items()}

        def keep_near(found: Mapping[str, Any]) -> Mapping[str, Any]:
            return {name: self._keep_near(name, kept, since) for name, kept in found.items()}

        return Call(get_many, keep_near)

    def _keep_near(self, name: str, kept: Any, since: int) -> Any:
        if kept is MISSING:
            return MISSING
        near, tags = self.near, self.tags_of(name)
        near.claim_miss(name, within=0)  # rule 3: forget it
        self.make_room(name)
        near.set(name, kept, ttl=self._second.near_ttl(name), tags=tags, loaded_at=since)
        near.note_read(name, tags=tags, loaded_at=since)
        return kept

    # Loading.

    def find(self, name: str) -> Pending[Any]:
        """See `Levels`."""
        return Call(partial(self._get, name), partial(self._found, name))

    def _found(self, name: str, kept: Any) -> Any:
        return kept if kept is MISSING else observing.Found(kept, ttl=self._second.near_ttl(name))

    def fill(self, name: str, value: Any, ttl: float | None, since: int) -> Pending[Any]:
        """See `Levels`. If another server was quicker, the result is that server's value."""

        def fill() -> Any:
            kept = self.keep(value)
            winner = self._second.fill(name, value, kept, ttl, since)
            return kept if winner is value else self.keep(winner)

        def conclude(kept: Any) -> Any:
            self.make_room(name)
            return kept

        return Call(fill, conclude)

    # Writing.

    def set(self, values: Mapping[str, Any], ttl: float | None) -> Pending[None]:
        """See `Levels`, and rule 2."""
        claims = claim(self.near, values)
        changed = {name: value for name, value in values.items() if not claims[name][0]}
        filled = {name: since for name, (is_fill, since) in claims.items() if is_fill}
        followed = self.follow() if changed else NOBODY

        def store() -> None:
            if changed:
                self._second.set_many(changed, ttl)
                self._have_set(changed, followed)
            for name, since in filled.items():
                self._fill_both(name, values[name], ttl, since)

        return Call(store)

    def _have_set(self, values: Mapping[str, Any], followed: Followed) -> None:
        if followed:
            # Pickled, as in most second levels, whatever is kept near: to be compared with what comes from there.
            followed.have_set({name: Made(keep(value, "pickle")) for name, value in values.items()})

    def _fill_both(self, name: str, value: Any, ttl: float | None, since: int) -> None:
        kept = self.keep(value)
        if self._second.fill(name, value, kept, ttl, since) is value:
            self._set_near(name, kept, ttl, since)
        else:
            self.near.evict(name)

    def add(self, name: str, value: Any, ttl: float | None) -> Pending[bool]:
        """See `Levels`, and rule 2."""
        is_fill, since = claim(self.near, {name: value})[name]
        if not is_fill or has_written():
            return Call(partial(self._add_change, name, value, ttl, self.follow()))
        return Call(partial(self._add_both, name, value, ttl, since))

    def _add_change(self, name: str, value: Any, ttl: float | None, followed: Followed) -> bool:
        if not self._second.add(name, value, ttl):
            return False
        self._have_set({name: value}, followed)
        return True

    def _add_both(self, name: str, value: Any, ttl: float | None, since: int) -> bool:
        kept = self.keep(value)
        if self._second.add_fill(name, value, kept, ttl, since) is False:
            return False
        self._set_near(name, kept, ttl, since)
        return True

    def _set_near(self, name: str, kept: Any, ttl: float | None, since: int) -> None:
        self.make_room(name)
        self.near.set(name, kept, ttl=ttl, tags=self.tags_of(name), loaded_at=since)

    def touch(self, name: str, ttl: float | None) -> Pending[bool]:
        """See `Levels`."""
        self.near.drop_misses(name)
        followed = self.follow()

        def touch() -> bool:
            if not self._second.touch(name, ttl):
                return False
            followed.have_updated(name, Made(UPDATED))
            return True

        return Call(touch)

    def incr(self, name: str, delta: int) -> Pending[int]:
        """See `Levels`: no server's increment is lost."""
        self.near.drop_misses(name)
        followed = self.follow()

        def incr() -> int:
            value = self._second.incr(name, delta)
            has_updated(self.origin, name, value)
            followed.have_updated(name, Made(UPDATED))
            return value

        return Call(incr)

    def delete(self, name: str) -> Pending[bool]:
        """See `Levels`."""
        return Call(self._deleting([name], lambda: self._second.delete(name)))

    def delete_many(self, names: list[str]) -> Pending[None]:
        """See `Levels`."""
        return Call(self._deleting(names, lambda: self._second.delete_many(names)))

    def _deleting(self, names: list[str], delete: Callable[[], Any]) -> Callable[[], Any]:
        self.near.drop_misses(*names)
        followed = self.follow()

        def do() -> Any:
            followed.have_deleted({name: Made(GONE) for name in names})  # whatever comes of it
            return delete()

        return do

    def clear(self) -> Pending[None]:
        """See `Levels`: as ever in Django, it empties the whole second level, whoever else uses it."""
        self.near.forget_misses()
        followed = self.follow()

        def clear() -> None:
            self._second.clear()
            followed.have_cleared()

        return Call(clear)
