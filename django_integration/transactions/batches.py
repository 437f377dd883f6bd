"""
The names that a transaction will invalidate, kept until it commits.

Names are collected in batches, one for each stretch of a transaction between two savepoints. A batch is an ordinary
`on_commit` callback, so Django itself drops it when its savepoint or its transaction is rolled back, and
`TestCase.captureOnCommitCallbacks` sees it.

Rule 1: nothing is published before the commit. A reader would load the old row and keep it.
Rule 2: after the commit nothing raises: the data is written, and an error of the request would suggest that it is not.
"""

from __future__ import annotations

import logging
import weakref
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from django.db import transaction
from django.db.backends.base.base import BaseDatabaseWrapper

from invalidator import Receipt
from invalidator.extending import name_slots

from .. import slow_path
from ..names import Names
from ..runtime import bus
from . import strict
from .progress import is_own_transaction

logger = logging.getLogger(__name__)

LOOK_BACK = 32
"""Callbacks searched for a batch to add to; without a limit, n saves among n callbacks of others take n² steps."""


def send(names: Names) -> Receipt:
    """Publish *names* to every server now."""
    if names.everything:
        return bus().clear()
    return bus().invalidate(*names.keys, tags=tuple(names.tags))


class Batch:
    """The names of one stretch of a transaction. Its method `send` is the `on_commit` callback."""

    __slots__ = ("__weakref__", "_touched", "by_hand", "names", "sent")

    def __init__(self, *, by_hand: bool) -> None:
        self.names = Names()
        self.by_hand = by_hand
        """Whether the application commits by hand (autocommit off)."""
        self.sent = False
        number = id(self)
        # Django drops a batch when its savepoint is rolled back, and calls nothing.
        slow_path.reasons[number] = weakref.ref(self, lambda _: slow_path.reasons.pop(number, None))
        self._touched = _Touched()

    def send(self) -> None:
        """Send this batch alone. A second call does nothing."""
        send_committed([self])

    def touched(self, slots: int) -> set[int]:
        """The slots of its names in a ledger of *slots*."""
        return self._touched.slots_of(self.names, slots)


class _Touched:
    """The slots of a growing container of names, of which each name is hashed once."""

    __slots__ = ("_of", "_seen", "_slots")

    def __init__(self) -> None:
        self._slots: set[int] = set()
        self._seen = (0, 0)
        self._of: tuple[int, object] = (0, None)

    def slots_of(self, names: Names, slots: int) -> set[int]:
        # Start anew if the setting has changed, or if too many names were replaced by fewer (`Names.bound`).
        if self._of[0] != slots or self._of[1] is not names.tags:
            self._slots, self._seen, self._of = set(), (0, 0), (slots, names.tags)
        if self._seen != (len(names.keys), len(names.tags)):
            # Copies, each taken in one step: a coroutine may ask while the transaction's own thread adds names.
            keys, tags = tuple(names.keys), tuple(names.tags)
            self._slots.update(name_slots(keys[self._seen[0] :], tags[self._seen[1] :], slots))
            self._seen = (len(keys), len(tags))
        return self._slots


def end_in_test_case(connection: BaseDatabaseWrapper, *, committed: bool) -> None:
    """
    Send or forget the names of the application's own transaction inside a TestCase, which has ended.

    Its batches stay in Django's list, marked as sent: `captureOnCommitCallbacks` remembers a position in that list.
    """
    batches = list(batches_of(connection))
    if committed:
        send_committed(batches)
    else:
        take_names(batches)


def open_batch(connection: BaseDatabaseWrapper) -> Batch:
    """Return the batch for names of a write made now: the last one with the same savepoints, or else a new one."""
    stretch = set(connection.savepoint_ids)
    if is_own_transaction(connection):
        for entry in reversed(connection.run_on_commit[-LOOK_BACK:]):
            batch = _batch_of(entry[1])
            if batch is not None and not batch.sent and entry[0] == stretch:
                return batch
    return _register(connection)


def _register(connection: BaseDatabaseWrapper) -> Batch:
    # `commit_on_exit` is False in an atomic block that was entered with autocommit off.
    by_hand = not connection.in_atomic_block or not connection.commit_on_exit
    batch = Batch(by_hand=by_hand)
    if connection.in_atomic_block:
        transaction.on_commit(batch.send, using=connection.alias, robust=True)
    else:
        # What on_commit() does; but with autocommit off it raises, since Django would not run the callback.
        entry: Any = (set(connection.savepoint_ids), batch.send, True)
        connection.run_on_commit.append(entry)
    return batch


def _batch_of(callback: Callable[[], object]) -> Batch | None:
    owner = getattr(callback, "__self__", None)
    return owner if isinstance(owner, Batch) else None


def take_batches(connection: BaseDatabaseWrapper, *, by_hand: bool) -> list[Batch]:
    """
    Take our callbacks out of *connection* and return their batches. Django has dropped those that were rolled back.

    Args:
        by_hand: take only the batches of an application that commits by hand.
    """
    taken: list[Batch] = []
    rest = []
    for entry in connection.run_on_commit:
        batch = _batch_of(entry[1])
        if batch is not None and (batch.by_hand or not by_hand):
            taken.append(batch)
        else:
            rest.append(entry)
    connection.run_on_commit = rest
    return taken


def take_names(batches: Iterable[Batch]) -> Names:
    names = Names()
    for batch in batches:
        if not batch.sent:
            batch.sent = True
            slow_path.reasons.pop(id(batch), None)
            names.update(batch.names)
    return names


def names_of_commit(connection: BaseDatabaseWrapper) -> Names:
    """Return the names that a commit now would invalidate."""
    names = Names()
    for batch in batches_of(connection):
        names.update(batch.names)
    return names


def batches_of(connection: BaseDatabaseWrapper) -> Iterator[Batch]:
    """Yield the batches of the transaction in progress on *connection* that are not sent yet."""
    for entry in connection.run_on_commit:
        batch = _batch_of(entry[1])
        if batch is not None and not batch.sent:
            yield batch


def send_committed(batches: Iterable[Batch], hold: strict.TransactionHold | None = None) -> None:
    """
    Send the batches that are not sent yet, as one message. Never raises.

    Names that *hold* holds are left out, since its release invalidates them; usually that is the one message.
    """
    names = take_names(batches)
    if hold is not None:
        names = hold.unheld(names)
    try:
        if names:
            send(names)
    except Exception:
        logger.exception(
            "invalidation_failed keys=%d tags=%d everything=%s", len(names.keys), len(names.tags), names.everything
        )
    finally:
        if hold is not None:
            hold.release()
