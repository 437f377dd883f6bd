"""
How the calling thread or task sees the databases, and what it reads: the `SourceView` of this app's near caches.

Rule 1: a transaction that has written reads past the cache for what it touched: the keys and tags that it will
invalidate when it commits.
Rule 2: and it stores nothing that may hold uncommitted data. A value with tags holds what they say; one without may
hold anything.
Rule 3: what is read inside a transaction counts from the transaction's beginning. With snapshot isolation that is how
old it is: SQLite always, MySQL and MariaDB by default, PostgreSQL above READ COMMITTED; and `SET TRANSACTION` can ask
for it anywhere, so no isolation level is trusted. Where it is younger, an invalidation in between costs one more load.
So does a read that is not at its end, where others get no younger before it is (`cursors.py`).
Rule 4: a coroutine counts with the transactions of every thread: `async_to_sync` may have called it from any of them.
Rule 5: the transaction around a `TestCase` does not count for rule 3: what is written in it is all there is.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence, Sized
from typing import Any

from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper

from invalidator import Entry
from invalidator.extending import name_slots, now_ns

from .. import slow_path
from ..dependencies import recorder
from ..runtime import bus
from . import batches, cursors, progress


class TransactionView:
    """
    What this thread's transactions, on every database, have written and not committed, and since when they see it.

    Args:
        tags_tell: whether the tags of a value say what it was computed from. Those of the cache backend do not.
    """

    slow_path: Sized = slow_path.reasons

    def __init__(self, *, tags_tell: bool = True) -> None:
        self._tags_tell = tags_tell

    def as_of(self) -> int:
        """The beginning of the oldest transaction or read in progress, else now."""
        return min(_began(), default=now_ns())

    def is_apart(self) -> bool:
        """Whether anything was written."""
        return has_written()

    def has_changed(self, entry: Entry[Any]) -> bool:
        """Whether one of its names was."""
        return _is_touched((*entry.slots, *[slot for _, slots in entry.parts for slot in slots]))

    def may_share(self, entry: Entry[Any]) -> bool:
        """Whether nothing was written, or something else."""
        is_told = self._tags_tell and (entry.tags or entry.parts)
        return not (self.has_changed(entry) if is_told else has_written())

    def has_read(self, entry: Entry[Any]) -> None:
        """What a cached function has read of a cache, its value is made from."""
        if (recording := recorder.current()) is not None:
            recording.read_entry(entry)


def has_written() -> bool:
    """Whether a transaction of this thread has written, and not committed."""
    return next(_written(), None) is not None


def has_changed(key: str, tags: Sequence[str]) -> bool:
    """Whether a transaction of this thread has written *key* or one of *tags*, and not committed."""
    return _is_touched(name_slots((key,), tags, bus().slots)) if slow_path.reasons else False


def _is_touched(slots: Sequence[int]) -> bool:
    # By slots, as a ledger does: the parts of an entry have no other names.
    return any(batch.names.everything or not batch.touched(bus().slots).isdisjoint(slots) for batch in _written())


def _written() -> Iterator[batches.Batch]:
    if not slow_path.reasons:
        return
    for connection in _connections():
        yield from batches.batches_of(connection)


def _began() -> Iterator[int]:
    for connection in _connections():
        if progress.is_in_test_case(connection):
            continue
        if progress.is_in_transaction(connection):
            yield progress.began_at(connection)
        if (since := cursors.open_since(connection)) is not None:
            yield since


def _connections() -> Sequence[BaseDatabaseWrapper]:
    """Those of this thread. Those of all, for a coroutine: its queries run in a thread that it does not know."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return connections.all(initialized_only=True)
    return list(progress.known)
