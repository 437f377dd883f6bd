"""
Strict writes: what a transaction is about to invalidate is announced before its commit.

With `INVALIDATOR = {"WRITES": "strict"}` the first write of a transaction announces a hold for its names, later writes
extend it, and the release after the commit is the invalidation: still one message after the commit, and one owner for
each transaction and database. While the hold lasts, nobody caches these names, so a writer that dies between
its commit and its invalidation leaves nothing stale.

Rule 1: no commit goes to the database before Redis has taken a hold of every name it invalidates, and none when that
hold is about to end. Both are looked at right before the COMMIT, whatever the application did with earlier errors.
Rule 2: a hold is released only when its transaction is known to have ended. When the answer to a COMMIT was lost and
the connection with it, nobody knows; then the hold is left to end by itself, as that of a process that died.
Rule 3: in a `TestCase` nothing is held: what is never committed needs no protection.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable

from django.db.backends.base.base import BaseDatabaseWrapper

from invalidator import Hold, HoldEnded, PublishError

from ..conf import conf
from ..names import Names
from ..names import names as model_names
from ..runtime import bus
from .progress import blocks_of_test_case

logger = logging.getLogger(__name__)

EVERYTHING = "*"
"""Announced in the place of a clear, which cannot be held: nothing carries this tag, but Redis must take it."""

_ATTRIBUTE = "_invalidator_hold"
"""Where a connection keeps the hold of its transaction. A connection belongs to one thread or task."""


class TransactionHold:
    """What one transaction has announced."""

    __slots__ = ("_held", "_hold", "commit_sent")

    def __init__(self) -> None:
        self._hold: Hold | None = None
        self._held = Names()
        self.commit_sent = False
        """Whether the database was asked to commit. From then on only its answer tells whether it did."""

    def announce(self, names: Names) -> None:
        """
        Hold what is not held yet; one round trip to Redis, or none.

        Raises:
            PublishError: Redis did not take it.
            HoldEnded: the transaction has taken too long already.
        """
        new = self.unheld(names)
        if len(self._held) + len(new) > model_names.MAX_NAMES:
            new = Names(everything=True)
        tags = tuple(new.tags) if not new.everything or EVERYTHING in self._held.tags else (*new.tags, EVERYTHING)
        if not (new.keys or tags):
            return
        try:
            self._say(new.keys, tags)
        except PublishError as error:
            raise PublishError(
                f"{error}. This transaction cannot be committed: roll back, and try again when Redis can be reached. "
                'To write without Redis, give up strict writes: INVALIDATOR["WRITES"] = "after_commit"'
            ) from error
        self._held.keys.update(new.keys)
        self._held.tags.update(dict.fromkeys(tags))

    def _say(self, keys: Iterable[str], tags: Iterable[str]) -> None:
        if self._hold is None:
            self._hold = bus().hold(*keys, tags=tags, duration=conf.hold)
            return
        try:
            self._hold.extend(*keys, tags=tags)
        except HoldEnded as ended:
            raise _too_long(ended) from ended

    def check(self) -> None:
        """Raise HoldEnded unless there is time enough left for a commit."""
        if self._hold is not None:
            try:
                self._hold.check()
            except HoldEnded as ended:
                raise _too_long(ended) from ended

    def unheld(self, names: Names) -> Names:
        """Those of *names* that a release does not invalidate."""
        return Names(
            {key: None for key in names.keys if key not in self._held.keys},
            {tag: None for tag in names.tags if tag not in self._held.tags},
            names.everything,
        )

    def release(self) -> None:
        """Invalidate what is held, and hold it no longer. Never raises."""
        if self._hold is None:
            return
        try:
            self._hold.release()
        except Exception:
            # Nobody caches these names before the hold ends by itself, so nothing stale stays.
            logger.exception("release_failed keys=%d tags=%d", len(self._hold.keys), len(self._hold.tags))


def _too_long(ended: HoldEnded) -> HoldEnded:
    return HoldEnded(f'This transaction is too long for INVALIDATOR["HOLD"]: {ended}')


def is_strict() -> bool:
    """Whether writes are announced before their commit."""
    return conf.writes == "strict"


def announce(connection: BaseDatabaseWrapper, names: Names) -> None:
    """In strict mode, hold *names* until the transaction in progress on *connection* ends. Raises as it says there."""
    if not is_strict() or blocks_of_test_case(connection):
        return
    hold = _of(connection)
    if hold is None:
        hold = TransactionHold()
        setattr(connection, _ATTRIBUTE, hold)
    hold.announce(names)


def is_holding(connection: BaseDatabaseWrapper) -> bool:
    """Whether the transaction in progress on *connection* has announced anything."""
    return _of(connection) is not None


def is_needed(connection: BaseDatabaseWrapper) -> bool:
    """Whether a commit on *connection* has to go through `before_commit`."""
    return _of(connection) is not None or is_strict()


def before_commit(connection: BaseDatabaseWrapper, names: Names) -> None:
    """
    Make sure that *names*, all that this commit invalidates, are held, and will be for long enough.

    Raises:
        PublishError, HoldEnded: they are not. Do not commit.
    """
    if names:
        announce(connection, names)
    hold = _of(connection)
    if hold is not None:
        if names:  # none are left when all was rolled back to savepoints
            hold.check()
        hold.commit_sent = True


def take(connection: BaseDatabaseWrapper) -> TransactionHold | None:
    """Return the hold of the transaction that has ended on *connection*; the next one begins without."""
    hold = _of(connection)
    if hold is not None:
        delattr(connection, _ATTRIBUTE)
    return hold


def rolled_back(connection: BaseDatabaseWrapper) -> None:
    """The database has answered that nothing is going on any more: release."""
    if hold := take(connection):
        hold.release()


def disconnected(connection: BaseDatabaseWrapper) -> None:
    """The connection is gone, and with it a transaction that was not committed."""
    hold = take(connection)
    if hold is None:
        return
    if hold.commit_sent:
        logger.warning("commit_unknown alias=%s: its names are cached again when their hold ends", connection.alias)
    else:
        hold.release()


def _of(connection: BaseDatabaseWrapper) -> TransactionHold | None:
    hold: TransactionHold | None = getattr(connection, _ATTRIBUTE, None)
    return hold
