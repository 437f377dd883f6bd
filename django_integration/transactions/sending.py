"""
Publishing what a transaction has invalidated: one message, after its commit.

Rule 1: nothing is published before the commit. A reader would load the old row and keep it.
Rule 2: after the commit nothing raises: the data is written, and an error of the request would suggest that it is not.
A time limit that strikes here goes its way, since it is the application's; but it may have struck before the message
was made, so that is sent once more.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Sequence

from django.db.backends.base.base import BaseDatabaseWrapper

from invalidator import Receipt

from ..interrupts import is_interruption
from ..names import Names
from ..runtime import bus, publish_again
from . import strict, uncommitted
from .uncommitted import Again, Follower, quietly

logger = logging.getLogger(__name__)


def send(names: Names) -> Receipt:
    """Publish *names* to every server now."""
    if names.everything:
        return bus().clear()
    return bus().invalidate(*names.keys, tags=tuple(names.tags))


def send_committed(connection: BaseDatabaseWrapper, hold: strict.TransactionHold | None = None) -> None:
    """
    Publish what was committed on *connection* and is not published yet, as one message. Raises nothing but what strikes
    from outside (rule 2).

    Names that *hold* holds are left out, since its release invalidates them; usually that is the one message.
    """
    batches = uncommitted.of(connection).take_committed()
    names, followers = uncommitted.names_of(batches), uncommitted.followers_of(batches)
    try:
        _send_following(names, followers, hold)
    except BaseException:
        for follower in followers:
            names.update(quietly(follower.names) or Names())
        _send_quietly(names, Again())
        raise


def _send_following(names: Names, followers: Sequence[Follower], hold: strict.TransactionHold | None) -> None:
    with _following(followers) as following:
        if hold is None:
            following.publish(names)
            return
        try:
            following.publish(names, hold)
        finally:
            hold.release()


def send_in_doubt(connection: BaseDatabaseWrapper) -> None:
    """
    Treat what the transaction on *connection* has changed as committed and as rolled back: which of them is not known.

    It stays uncommitted here, too. If the transaction is still there, its end is yet to come.
    """
    changed = uncommitted.of(connection)
    changed.doubt()
    with _following(uncommitted.followers_of(changed.batches)) as following:
        # Names that are held are cached by no server before the hold ends.
        if not strict.is_holding(connection):
            following.publish(changed.names())


class _Following:
    """What followers want to have published, and whether it was."""

    def __init__(self, followers: Sequence[Follower]) -> None:
        self.again = Again()
        self.receipt: Receipt | None = None
        for follower in followers:
            self.again.update(quietly(follower.committed) or Again())

    def publish(self, names: Names, hold: strict.TransactionHold | None = None) -> None:
        """Publish *names* with it, as one message, but for what *hold* holds."""
        if hold is None:
            self.receipt = _send_quietly(names, self.again)
        else:
            _send_quietly(hold.unheld(names), Again(hold.unheld(self.again.names), self.again.elsewhere))


@contextlib.contextmanager
def _following(followers: Sequence[Follower]) -> Iterator[_Following]:
    """The block publishes what *followers* want to have published after their commit."""
    following = _Following(followers)
    try:
        yield following
    finally:
        for follower in followers:
            quietly(follower.published, following.receipt)


def _send_quietly(names: Names, again: Again) -> Receipt | None:
    """Publish *names* and *again*; returns None if there are none, or if that fails."""
    try:
        if not again:
            return send(names) if names else None
        if names.everything or again.names.everything:
            return bus().clear()
        return publish_again(names.keys, (*names.tags, *again.names.tags), again.names.keys, again.elsewhere)
    except Exception as error:
        if is_interruption(error):
            raise
        logger.exception(
            "invalidation_failed keys=%d tags=%d everything=%s",
            len(names.keys) + len(again.names.keys) + len(again.elsewhere),
            len(names.tags) + len(again.names.tags),
            names.everything or again.names.everything,
        )
        return None
