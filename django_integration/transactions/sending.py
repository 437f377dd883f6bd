"""
Publishing what a transaction has invalidated: one message, after its commit.

Rule 1: nothing is published before the commit. A reader would load the old row and keep it.
Rule 2: after the commit nothing raises: the data is written, and an error of the request would suggest that it is not.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Sequence

from django.db.backends.base.base import BaseDatabaseWrapper

from invalidator import Receipt

from ..names import Names
from ..runtime import bus, publish_again
from . import strict, uncommitted
from .uncommitted import Follower, quietly

logger = logging.getLogger(__name__)


def send(names: Names) -> Receipt:
    """Publish *names* to every server now."""
    if names.everything:
        return bus().clear()
    return bus().invalidate(*names.keys, tags=tuple(names.tags))


def send_committed(connection: BaseDatabaseWrapper, hold: strict.TransactionHold | None = None) -> None:
    """
    Publish what was committed on *connection* and is not published yet, as one message. Never raises.

    Names that *hold* holds are left out, since its release invalidates them; usually that is the one message.
    """
    batches = uncommitted.of(connection).take_committed()
    names = uncommitted.names_of(batches)
    with _following(uncommitted.followers_of(batches)) as again:
        if hold is None:
            _send_quietly(names, again)
            return
        try:
            _send_quietly(hold.unheld(names), hold.unheld(again))
        finally:
            hold.release()


def send_in_doubt(connection: BaseDatabaseWrapper) -> None:
    """
    Treat what the transaction on *connection* has changed as committed and as rolled back: which of them is not known.

    It stays uncommitted here, too. If the transaction is still there, its end is yet to come.
    """
    changed = uncommitted.of(connection)
    changed.doubt()
    with _following(uncommitted.followers_of(changed.batches)) as again:
        # Names that are held are cached by no server before the hold ends.
        if not strict.is_holding(connection):
            _send_quietly(changed.names(), again)


@contextlib.contextmanager
def _following(followers: Sequence[Follower]) -> Iterator[Names]:
    """The block publishes what *followers* want to have published after their commit."""
    again = Names()
    for follower in followers:
        again.update(quietly(follower.committed) or Names())
    try:
        yield again
    finally:
        for follower in followers:
            quietly(follower.published)


def _send_quietly(names: Names, again: Names) -> None:
    """Publish *names*, and *again*, of which the second levels have the new values already."""
    try:
        if not again:
            if names:
                send(names)
        elif names.everything or again.everything:
            bus().clear()
        else:
            publish_again(names.keys, (*names.tags, *again.tags), again.keys)
    except Exception:
        logger.exception(
            "invalidation_failed keys=%d tags=%d everything=%s",
            len(names.keys) + len(again.keys),
            len(names.tags) + len(again.tags),
            names.everything or again.everything,
        )
