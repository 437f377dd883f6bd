"""
Strict writes: the names that a transaction is going to invalidate are held before its commit.

With `INVALIDATOR = {"WRITES": "strict"}` the first write of a transaction announces a hold for its names, and later
writes extend it. The release after the commit is the invalidation, still one message. Each transaction on each database
has a hold of its own. While it lasts, no process caches these names, so a writer that dies between its commit and its
invalidation leaves nothing stale.

Rule 1: no COMMIT is sent before Redis has taken a hold of every name that it invalidates, nor when that hold is about
to end. Both are checked right before the COMMIT, whatever the application did with earlier errors.
Rule 2: a hold is released only once its transaction is known to have ended. If the connection was lost with the answer
to a COMMIT, that is unknown, and the hold is left to end by itself, like that of a process that died.
Rule 3: in a `TestCase` nothing is held: what is never committed needs no protection.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable

from django.db.backends.base.base import BaseDatabaseWrapper

from invalidator import Hold, HoldEnded, PublishError

from .. import runtime
from ..conf import conf
from ..names import Names
from ..names import names as model_names
from ..runtime import bus
from .progress import blocks_of_test_case

logger = logging.getLogger(__name__)

EVERYTHING = "*"
"""Held in the place of a clear, which cannot be held. No entry carries this tag, but Redis must have taken the hold."""

_ATTRIBUTE = "_invalidator_hold"
"""Where a connection keeps the hold of its transaction. A connection belongs to one thread or task."""


class TransactionHold:
    """The hold of one transaction."""

    __slots__ = ("_held", "_hold", "commit_sent")

    def __init__(self) -> None:
        self._hold: Hold | None = None
        self._held = Names()
        self.commit_sent = False
        """Whether a COMMIT was sent. From then on only the database's answer shows whether it has happened."""

    def announce(self, names: Names) -> None:
        """
        Hold those of *names* that are not held yet: one round trip to Redis, or none.

        Raises:
            PublishError: Redis did not take the hold.
            HoldEnded: the transaction has already taken too long.
        """
        new = self.unheld(names)
        if len(self._held) + len(new) > model_names.MAX_NAMES:
            new = Names(everything=True)
        tags = tuple(new.tags) if not new.everything or EVERYTHING in self._held.tags else (*new.tags, EVERYTHING)
        if not (new.keys or tags):
            return
        try:
            self._begin_or_extend(new.keys, tags)
        except PublishError as error:
            raise PublishError(
                f"{error}. This transaction cannot be committed: roll back, and try again when Redis can be reached. "
                'To write without Redis, give up strict writes: INVALIDATOR["WRITES"] = "after_commit"'
            ) from error
        self._held.keys.update(new.keys)
        self._held.tags.update(dict.fromkeys(tags))

    def _begin_or_extend(self, keys: Iterable[str], tags: Iterable[str]) -> None:
        if self._hold is None:
            self._hold = bus().hold(*keys, tags=tags, duration=conf.hold)
            return
        try:
            self._hold.extend(*keys, tags=tags)
        except HoldEnded as ended:
            raise _too_long(ended) from ended

    def announce_again(self, names: Names) -> None:
        """`announce` what followers publish, of which second levels have the new values."""
        keys = self.unheld(names).keys
        self.announce(names)
        if self._hold is not None:
            runtime.spare(self._hold, keys)

    def check(self) -> None:
        """Raise HoldEnded unless enough time is left for a commit."""
        if self._hold is not None:
            try:
                self._hold.check()
            except HoldEnded as ended:
                raise _too_long(ended) from ended

    def unheld(self, names: Names) -> Names:
        """Return those of *names* that are not held, so that the release does not invalidate them."""
        return Names(
            {key: None for key in names.keys if key not in self._held.keys},
            {tag: None for tag in names.tags if tag not in self._held.tags},
            names.everything,
        )

    def release(self) -> None:
        """Invalidate the names that are held, and end the hold. Never raises."""
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
    """Whether names are held before their commit."""
    return conf.writes == "strict"


def announce(connection: BaseDatabaseWrapper, names: Names) -> None:
    """
    With strict writes, hold *names* until the transaction in progress on *connection* ends.

    Raises as `TransactionHold.announce` does.
    """
    if not is_strict() or blocks_of_test_case(connection):
        return
    hold = _of(connection)
    if hold is None:
        hold = TransactionHold()
        setattr(connection, _ATTRIBUTE, hold)
    hold.announce(names)


def is_holding(connection: BaseDatabaseWrapper) -> bool:
    """Whether the transaction in progress on *connection* holds any names."""
    return _of(connection) is not None


def is_needed(connection: BaseDatabaseWrapper) -> bool:
    """Whether a commit on *connection* has to go through `before_commit`."""
    return _of(connection) is not None or is_strict()


def before_commit(connection: BaseDatabaseWrapper, names: Names, again: Names) -> None:
    """
    Make sure that *names*, all that this commit invalidates, are held, and for long enough; and *again*, what its
    followers publish, if anything is held.

    Raises:
        PublishError, HoldEnded: they are not, and the transaction must not be committed.
    """
    if names:
        announce(connection, names)
    hold = _of(connection)
    if hold is not None:
        if again:
            hold.announce_again(again)
        if names:  # there are none if every write was rolled back to a savepoint
            hold.check()
        hold.commit_sent = True


def take(connection: BaseDatabaseWrapper) -> TransactionHold | None:
    """Return the hold of the transaction that has ended on *connection*, and forget it there; None if there is none."""
    hold = _of(connection)
    if hold is not None:
        delattr(connection, _ATTRIBUTE)
    return hold


def rolled_back(connection: BaseDatabaseWrapper) -> None:
    """Release the hold of the transaction on *connection*, which the database has rolled back."""
    if hold := take(connection):
        hold.release()


def disconnected(connection: BaseDatabaseWrapper) -> None:
    """Release the hold of a transaction that was lost with its connection, unless its COMMIT was sent (rule 2)."""
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
