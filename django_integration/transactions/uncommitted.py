"""
What the transaction in progress on a connection has changed, in order, with its savepoints: a list of our own on each
connection, which nobody else sees or counts.

The names that it will invalidate are kept in batches, one for each stretch between two savepoints. A savepoint is a
place in the list. Rolling back to it cuts the list there, a rollback empties it, and a commit takes all.

Rule 1: a place is found by the savepoint's name, the last one of that name. Savepoints of `atomic` blocks, of
`transaction.savepoint()` and of the application's own SQL are the same to the database, and here.
Rule 2: when in doubt, nothing is dropped: a rollback to a savepoint that is not known keeps all names.
Rule 3: a stretch has followers (`outgoing.follow`) for what else its end entails. Each learns how it ended, also when a
connection is lost; and both, if that is not known, because the answer to a COMMIT was lost.

Only the connection's own thread changes its list. A coroutine may add names and followers to the batches of another
thread, by which it may have been called (`view.py`); `Batch.follow` needs no lock for that.
"""

from __future__ import annotations

import itertools
import logging
import weakref
from collections import deque
from collections.abc import Callable, Hashable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol, TypeVar

from django.db.backends.base.base import BaseDatabaseWrapper

from invalidator import Receipt
from invalidator.extending import name_slots, now_ns

from .. import slow_path
from ..interrupts import is_interruption
from ..names import Names, label_in

logger = logging.getLogger(__name__)

T = TypeVar("T")

_ATTRIBUTE = "_invalidator_uncommitted"
"""Where a connection keeps its list. A connection belongs to one thread or task."""


@dataclass(slots=True)
class Again:
    """
    What leaves once more after a commit, since it was published before.

    Attributes:
        names: of their keys, nothing is deleted from second levels, which have the new values.
        elsewhere: keys of which this process has the new values, too: they stay valid here.
    """

    names: Names = field(default_factory=Names)
    elsewhere: dict[str, None] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.names or self.elsewhere)

    def update(self, other: Again) -> None:
        """Add all of *other*."""
        self.names.update(other.names)
        self.elsewhere.update(other.elsewhere)


class Follower(Protocol):
    """
    What has to follow the end of a transaction, besides its names: see `outgoing.follow`. Each method is called in the
    thread in which that happens, and an error in it is logged.
    """

    def names(self) -> Names:
        """What it publishes after a commit. Asked before the commit of a strict write, which holds it."""

    def committed(self) -> Again:
        """The stretch is committed, and nothing published yet. Returns what leaves in the transaction's one message."""

    def published(self, receipt: Receipt | None) -> None:
        """The message has left; or it has failed to, or was the release of a hold: then there is no receipt."""

    def rolled_back(self) -> None:
        """The stretch was rolled back, or may have been. If that was not certain, it is called again at its end."""

    def absorb(self, later: Any) -> None:
        """The stretch of *later*, a follower under the same key, belongs to the stretch of this one now."""


class Batch:
    """
    What one stretch of a transaction has changed.

    Attributes:
        names: what its commit invalidates, and what the transaction itself reads past the caches.
        followers: by their keys.
    """

    __slots__ = ("__weakref__", "_is_over", "_number", "_touched", "followers", "names")

    def __init__(self) -> None:
        self.names = Names()
        self.followers: dict[Hashable, Follower] = {}
        self._is_over = False
        self._number = next(_numbers)
        self._touched = _Touched()

    def add(self, names: Names) -> None:
        """The stretch has changed *names*."""
        if not self.names:
            # A connection may be lost without a word, with the thread that it belongs to: nothing stays behind.
            number, followers = self._number, self.followers
            slow_path.reasons[number] = weakref.ref(self, lambda _: _lose(number, followers))
        self.names.update(names)

    def touched(self, slots: int) -> set[int]:
        """The slots of its names in a ledger of *slots*."""
        return self._touched.slots_of(self.names, slots)

    def labels(self, slots: int) -> set[str]:
        """The labels of the models in its tags, such as "shop.product"; for the rest see `touched`."""
        self.touched(slots)
        return self._touched.labels

    def follow(self, key: Hashable, make: Callable[[], Follower]) -> Follower:
        """Return the follower under *key*, or a new one."""
        follower = self.followers.get(key)
        if follower is None:
            follower = self.followers.setdefault(key, make())
            # `end` says first that it is over, then takes the followers: one of us finds this one.
            if self._is_over and self.followers.pop(key, None) is not None:
                quietly(follower.rolled_back)
        return follower

    def absorb(self, other: Batch) -> None:
        """Take over what *other* has changed, which is not apart any more."""
        if other.names:
            self.add(other.names)
        other.end()
        for key, follower in _taken(other.followers):
            if (own := self.followers.setdefault(key, follower)) is not follower:
                quietly(own.absorb, follower)

    def end(self) -> None:
        """The stretch is no longer uncommitted."""
        self._is_over = True
        slow_path.reasons.pop(self._number, None)

    def roll_back(self) -> None:
        """It has not happened."""
        self.end()
        _roll_back(self.followers)


class _Touched:
    """The slots of a growing container of names, of which each name is hashed once, and the models in its tags."""

    __slots__ = ("_of", "_seen", "_slots", "labels")

    def __init__(self) -> None:
        self._slots: set[int] = set()
        self.labels: set[str] = set()
        self._seen = (0, 0)
        self._of: tuple[int, object] = (0, None)

    def slots_of(self, names: Names, slots: int) -> set[int]:
        # Start anew if the setting has changed, or if too many names were replaced by fewer (`Names.bound`).
        if self._of[0] != slots or self._of[1] is not names.tags:
            self._slots, self.labels, self._seen, self._of = set(), set(), (0, 0), (slots, names.tags)
        if self._seen != (len(names.keys), len(names.tags)):
            # Copies, each taken in one step: a coroutine may ask while the transaction's own thread adds names.
            keys, tags = tuple(names.keys), tuple(names.tags)
            self._slots.update(name_slots(keys[self._seen[0] :], tags[self._seen[1] :], slots))
            self.labels.update(map(label_in, tags[self._seen[1] :]))
            self._seen = (len(keys), len(tags))
        return self._slots


_numbers = itertools.count(-1, -1)
"""For `slow_path.reasons`, whose other numbers are not negative; the `id` of a batch may come again."""


class Savepoint(NamedTuple):
    """
    A place in the list.

    Attributes:
        position: how many batches came before it.
        at: when it was set, by the bus' clock.
    """

    name: str
    position: int
    at: int


class Uncommitted:
    """
    The list of one connection.

    Attributes:
        batches: what the transaction in progress has changed, in order.
        committed: what a commit has made true and no message has told yet.
        by_hand: whether the application commits the transaction by hand, so that Django does nothing after it.
        by_sql: whether a transaction is in progress that was begun in SQL, so that Django does not know of it.
        stays_by_sql: whether, by SQL, another transaction follows each that ends (`SET autocommit = 0`).
        begun_by: the savepoint that began it; only SQLite has that.
        doubt_at: when something was last rolled back, or kept out of the caches, by the bus' clock: a load that had
            begun before that may have seen what never happened.
        is_loose: whether SQL has ended the transaction of an atomic block, so that what is written in the rest of the
            block may be committed at once, or at its end.
    """

    __slots__ = (
        "_savepoints",
        "batches",
        "begun_by",
        "by_hand",
        "by_sql",
        "committed",
        "doubt_at",
        "is_loose",
        "stays_by_sql",
    )

    def __init__(self) -> None:
        self.batches: list[Batch] = []
        self.committed: list[Batch] = []
        self.by_hand = False
        self.by_sql = False
        self.stays_by_sql = False
        self.begun_by = ""
        self.is_loose = False
        self.doubt_at = 0
        self._savepoints: list[Savepoint] = []

    @property
    def has_written(self) -> bool:
        """Whether anything is uncommitted that a commit would invalidate."""
        return any(batch.names for batch in tuple(self.batches))

    def names(self) -> Names:
        """Return all that a commit now would invalidate; what followers publish stands apart."""
        return names_of(self.batches)

    def open(self) -> Batch:
        """Return the batch of what is changed now: the last one, or a new one after a savepoint."""
        last = self._savepoints[-1].position if self._savepoints else 0
        if len(self.batches) == last:
            self.batches.append(Batch())
        return self.batches[-1]

    # Savepoints.

    def set_savepoint(self, name: str) -> None:
        """The transaction has set a savepoint."""
        self._savepoints.append(Savepoint(name, len(self.batches), now_ns()))

    def release_savepoint(self, name: str) -> None:
        """The savepoint, and all after it, are no more; what was changed since belongs to the stretch before."""
        if (index := self._find(name)) is None:
            return
        del self._savepoints[index:]
        begin = self._savepoints[-1].position if self._savepoints else 0
        stretch = self.batches[begin:]
        for batch in stretch[1:]:
            stretch[0].absorb(batch)
        del self.batches[begin + 1 :]

    def roll_back_to(self, name: str) -> Savepoint | None:
        """What was changed since the savepoint was not; the savepoint stays. Returns None if it is not known."""
        if (index := self._find(name)) is None:
            self.doubt()  # rule 2
            return None
        savepoint = self._savepoints[index]
        del self._savepoints[index + 1 :]
        self._cut(savepoint.position)
        return savepoint

    def is_first(self, name: str) -> bool:
        """Whether no savepoint was set before this one."""
        return self._find(name) == 0

    def _find(self, name: str) -> int | None:
        for index in range(len(self._savepoints) - 1, -1, -1):
            if self._savepoints[index].name == name:
                return index
        return None

    # The end of the transaction.

    def roll_back(self) -> None:
        """Nothing of what was changed has happened."""
        self._cut(0)

    def commit(self) -> None:
        """All of it has happened; it waits in `committed` for its message."""
        for batch in self.batches:
            batch.end()
        self.committed += self.batches
        self.batches = []
        self._savepoints = [Savepoint(each.name, 0, each.at) for each in self._savepoints]

    def ended(self) -> None:
        """The transaction is no more."""
        self._savepoints.clear()
        self.by_sql = self.stays_by_sql
        self.begun_by = ""
        self.is_loose = False

    def begun_by_django(self) -> None:
        """Whatever SQL has said before, Django has set how transactions begin from now on."""
        self.by_sql = self.stays_by_sql = False

    def doubt(self) -> None:
        """Whether it has happened is not known: followers are told that it has not. They and the names stay."""
        self.doubt_loads()
        for batch in tuple(self.batches):
            for follower in tuple(batch.followers.values()):
                quietly(follower.rolled_back)

    def doubt_loads(self) -> None:
        """The loads of this thread that are under way may have seen what never happened, or will not."""
        latest.doubt_at = self.doubt_at = now_ns()

    def take_committed(self) -> list[Batch]:
        """Return `committed`, and empty it."""
        taken, self.committed = self.committed, []
        self.by_hand = False
        return taken

    def _cut(self, position: int) -> None:
        gone = self.batches[position:]
        del self.batches[position:]
        self.by_hand = self.by_hand and bool(self.batches)
        if any(batch.names for batch in gone):
            self.doubt_loads()
        for batch in reversed(gone):
            batch.roll_back()


class _Latest:
    """The latest `doubt_at` of all connections, which most loads have to look at only."""

    doubt_at = 0


latest = _Latest()


def names_of(batches: Iterable[Batch]) -> Names:
    """Return the names of all *batches*."""
    names = Names()
    for batch in batches:
        names.update(batch.names)
    return names


def followers_of(batches: Iterable[Batch]) -> list[Follower]:
    """Return the followers of all *batches*, in order."""
    return [follower for batch in tuple(batches) for follower in tuple(batch.followers.values())]


def of(connection: BaseDatabaseWrapper) -> Uncommitted:
    """Return the list of *connection*."""
    found: Uncommitted | None = getattr(connection, _ATTRIBUTE, None)
    if found is None:
        found = Uncommitted()
        setattr(connection, _ATTRIBUTE, found)
    return found


def _roll_back(followers: dict[Hashable, Follower]) -> None:
    for _, follower in _taken(followers):
        quietly(follower.rolled_back)


def _taken(followers: dict[Hashable, Follower]) -> Iterator[tuple[Hashable, Follower]]:
    while followers:
        try:
            yield followers.popitem()
        except KeyError:  # another thread was quicker
            return


def quietly(call: Callable[..., T], *arguments: object) -> T | None:
    """Call a follower's method. Returns None if it fails, which is logged: the application has ended a transaction."""
    try:
        return call(*arguments)
    except Exception as error:
        if is_interruption(error):
            raise
        logger.exception("follower_failed call=%s", call)
        return None


# Connections that were lost without a word.

_lost: deque[int] = deque()


def _lose(number: int, followers: dict[Hashable, Follower]) -> None:
    """A batch was collected with its connection. A collection may begin anywhere, so nothing is called here."""
    if not followers:
        slow_path.reasons.pop(number, None)
        return
    slow_path.reasons[number] = followers  # every hit takes the slow path until `end_lost`
    _lost.append(number)


def end_lost() -> None:
    """Tell the followers of batches whose connection was lost without a word."""
    while _lost:
        try:
            number = _lost.popleft()
        except IndexError:  # another thread was quicker
            return
        followers = slow_path.reasons.get(number)
        if isinstance(followers, dict):
            _roll_back(followers)
        slow_path.reasons.pop(number, None)
