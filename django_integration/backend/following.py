"""
What the transactions in progress have changed in a cache of the backend, and what follows from how they end.

Inside a transaction a change is in force and published at once, as outside. That is not enough. A reader elsewhere may
load the old row before the commit, and keep it for good; and a value may be made of rows that are never committed.

Rule 1: every change of a key is published again after the commit, in the transaction's one message. A fill is no
change.
Rule 2: what was set after the transaction's first write is void at its rollback, or at that of its savepoint; and so is
whatever was made from it. What was set before holds nothing uncommitted, and stands. So do `delete`, `incr`, `decr` and
`touch`; but what an update has made of a value that falls, falls with it.
Rule 3: a value that somebody else has set meanwhile is left alone: near, the entry shows whose it is; in a second level
the values are compared, and deleted when in doubt.
Rule 4: the new values survive the second message, in the process that has set them and in a second level.
Rule 5: more than MOST_NAMES changes of one stretch are the whole LOCATION.

The transactions that count are those of `outgoing.follow`: of this thread, or of those that wait for this coroutine, on
whichever database.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Iterable, Mapping
from threading import get_ident
from typing import Any, TypeVar
from weakref import WeakValueDictionary

from invalidator import Receipt
from invalidator.extending import Change, FreshLock

from ..names import Names
from ..transactions import outgoing
from ..transactions.uncommitted import Again

MOST_NAMES = 10_000
"""Of one stretch of a transaction and one alias."""


GONE: Any = object()
"""Stands for what is kept of a value that was deleted."""
UPDATED: Any = object()
"""Stands for what is kept in a second level of a value that somebody else has set, and that was updated: it stands."""


class Made:
    """
    A change that a transaction has made.

    Attributes:
        kept: of the new value, so that it is known again: its entry, or what the near cache would keep of it.
        at: when it was made.
        is_clean: whether nobody else has invalidated the key between the beginning of the transaction and `at`.
        thread: which has made it.
    """

    __slots__ = ("__weakref__", "at", "is_clean", "kept", "thread")

    def __init__(self, kept: Any, at: int = 0, *, is_clean: bool = False) -> None:
        self.kept = kept
        self.at = at
        self.is_clean = is_clean
        self.thread = get_ident()


class Changes(ABC):
    """
    A `Follower`: what one stretch of a transaction has changed under one alias.

    Args:
        place_tag: the tag of everything in its LOCATION.
    """

    def __init__(self, place_tag: str) -> None:
        self.place_tag = place_tag
        self.made: dict[str, Made] = {}
        """By name what was set, updated or deleted last."""
        self.falling: dict[str, Made] = {}
        """Those that a rollback voids."""
        self.is_whole = False
        """Whether everything in the LOCATION was changed: it was cleared, or there are too many names."""
        self.falls_whole = False
        self._is_rolled_back = False

    def note(self, name: str, made: Made, *, falls: bool) -> None:
        """The stretch has changed *name*. *falls* says whether a rollback voids the value."""
        falls = falls or self.falling.get(name) is made
        self.falling.pop(name, None)
        if len(self.made) >= MOST_NAMES and name not in self.made:
            self.is_whole = True
            self.falls_whole = self.falls_whole or falls or bool(self.falling)
            self.made.clear()
            self.falling.clear()
        self.made[name] = made
        if falls:
            self.falling[name] = made
        if self._is_rolled_back:  # by another thread, while a coroutine made this
            self.rolled_back()

    def absorb(self, later: Changes) -> None:
        """See `Follower`."""
        self.is_whole = self.is_whole or later.is_whole
        self.falls_whole = self.falls_whole or later.falls_whole
        for name, made in later.made.items():
            self.note(name, made, falls=name in later.falling)

    def names(self) -> Names:
        """See `Follower`."""
        return Names(dict.fromkeys(self.made), {self.place_tag: None} if self.is_whole else {})

    @abstractmethod
    def committed(self) -> Again:
        """See `Follower`."""

    @abstractmethod
    def published(self, receipt: Receipt | None) -> None:
        """See `Follower`."""

    def rolled_back(self) -> None:
        """See `Follower`."""
        self._is_rolled_back = True
        if self.falls_whole:
            self.void_everything()
        elif self.falling:
            self.void(dict(self.falling))

    @abstractmethod
    def void(self, falling: Mapping[str, Made]) -> None:
        """Void these values, and what was made from them."""

    @abstractmethod
    def void_everything(self) -> None:
        """Void everything in the LOCATION."""


class Followed:
    """
    The transactions in progress that a change of one alias belongs to; none, outside of a transaction.

    Args:
        origin: of the values: what stands for the LOCATION, or its second level.
        followers: the changes of each, and whether it has written.
    """

    __slots__ = ("_followers", "_origin")

    def __init__(self, origin: Hashable, followers: Iterable[tuple[Changes, bool]]) -> None:
        self._origin = origin
        self._followers = tuple(followers)

    def __bool__(self) -> bool:
        return bool(self._followers)

    def have_set(self, made: Mapping[str, Made]) -> None:
        """They have set these values."""
        for name, one in made.items():
            self._note(name, one, falls=True)

    def have_updated(self, name: str, made: Made) -> None:
        """They have updated a value, by whomever it was set."""
        before = _made.get((self._origin, name))
        # Near, `updating` has handed it over; in a second level nobody knows whose value it was.
        if before is not None and before.kept is not GONE and (made.kept is before.kept or made.kept is UPDATED):
            before.at, before.is_clean = made.at, made.is_clean
            made = before
        self._note(name, made, falls=False)

    def have_deleted(self, made: Mapping[str, Made]) -> None:
        """They have deleted these values."""
        for name, one in made.items():
            self._note(name, one, falls=False)

    def _note(self, name: str, made: Made, *, falls: bool) -> None:
        if self._followers:
            _made[self._origin, name] = made
            for changes, has_written in self._followers:
                changes.note(name, made, falls=falls and has_written)

    def since(self, name: str, since: int) -> int:
        """
        Since when *name* must not have become stale for a value that this thread has computed after *since*: its own
        changes in the same transaction do not make it so.
        """
        made = _made.get((self._origin, name)) if self._followers else None
        if made is None or not made.is_clean or made.thread != get_ident():
            return since
        return max(since, made.at + 1)

    def have_cleared(self) -> None:
        """They have deleted everything."""
        for changes, _ in self._followers:
            changes.is_whole = True


C = TypeVar("C", bound=Changes)


def follow(origin: Hashable, make: Callable[[], C]) -> Followed:
    """Return the transactions in progress here, for a change of values of *origin*."""
    return Followed(origin, outgoing.follow(origin, make))


NOBODY = Followed(None, ())
"""For an alias that follows no transaction."""

_made: WeakValueDictionary[tuple[Hashable, str], Made] = WeakValueDictionary()
"""The last change of each name by a transaction in progress."""
changing = FreshLock()
"""Held where a value of `_made` falls, or is replaced by what was made of it."""


def updating(origin: Hashable, name: str, update: Callable[[], tuple[Any, Change]]) -> tuple[Any, Change]:
    """
    Return what *update* does. If it has updated what a transaction in progress has set, be it another thread's, the
    new value falls with that.
    """
    made = _made.get((origin, name))
    if made is None or made.kept is GONE:
        return update()
    with changing.lock:
        value, change = update()
        if made.kept is change.updated:
            made.kept = change.entries[name]
    return value, change


def has_updated(origin: Hashable, name: str, kept: Any) -> None:
    """`updating` for a second level, where a value is what it is equal to."""
    if (made := _made.get((origin, name))) is not None and made.kept is not GONE:
        made.kept = kept
