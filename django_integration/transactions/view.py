"""
How the calling thread or task sees the databases: the `SourceView` of this app's near caches.

Rule 1: a transaction that has written does not read from the cache what it has touched: the keys and tags that it will
invalidate when it commits.
Rule 2: it stores nothing that may hold uncommitted data. The tags of a value show what it was computed from; a value
without tags may hold anything.
Rule 3: what is read inside a transaction is treated as loaded at its beginning. With snapshot isolation it is as old as
that: on SQLite always, on MySQL and MariaDB by default, on PostgreSQL above READ COMMITTED. `SET TRANSACTION` can ask
for it anywhere, so no isolation level is trusted. Where the data is in fact newer, an invalidation in between costs one
more load. An unfinished read makes later reads old in the same way (`cursors.py`).
Rule 4: a coroutine is treated as part of the transactions of every thread, since `async_to_sync` may have called it
from any of them.
Rule 5: the transaction around a `TestCase` does not count for rule 3: no other connection writes meanwhile.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence, Sized
from typing import Any

from invalidator import Entry
from invalidator.extending import name_slots, now_ns

from .. import slow_path
from ..dependencies import recorder
from ..runtime import bus
from . import cursors, progress, uncommitted


class TransactionView:
    """
    What this thread's transactions, on every database, have written and not committed, and how old their reads are.

    Args:
        tags_are_complete: whether the tags of a value name all that it was computed from, if it has any.
    """

    slow_path: Sized = slow_path.reasons

    def __init__(self, *, tags_are_complete: bool = True) -> None:
        self._tags_are_complete = tags_are_complete

    def as_of(self) -> int:
        """Return the beginning of the oldest transaction or read in progress; now, if there is none."""
        return min(_began(), default=now_ns())

    def is_apart(self) -> bool:
        """Whether a transaction has written, and not committed."""
        return has_written()

    def has_changed(self, entry: Entry[Any]) -> bool:
        """Whether a transaction has written what *entry* was made from, and not committed."""
        return _is_touched((*entry.slots, *[slot for _, slots in entry.parts for slot in slots]))

    def may_share(self, entry: Entry[Any]) -> bool:
        """Whether *entry* holds nothing that a transaction has written, and not committed."""
        return not (self.has_changed(entry) if self.knows_sources(entry) else has_written())

    def knows_sources(self, entry: Entry[Any]) -> bool:
        """Whether the names of *entry* say all that it was computed from."""
        return self._tags_are_complete and bool(entry.tags or entry.parts)

    def has_read(self, entry: Entry[Any]) -> None:
        """Note for the cached function being computed, if there is one, that its value is made from *entry*."""
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


def _written() -> Iterator[uncommitted.Batch]:
    if not slow_path.reasons:
        return
    uncommitted.end_lost()
    for connection in progress.connections_in_view():
        for batch in tuple(uncommitted.of(connection).batches):
            if batch.names:
                yield batch


def _began() -> Iterator[int]:
    for connection in progress.connections_in_view():
        if progress.is_in_test_case(connection):
            continue
        if progress.is_in_transaction(connection):
            yield progress.began_at(connection)
        if (since := cursors.open_since(connection)) is not None:
            yield since
