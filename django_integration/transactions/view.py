"""
How the calling thread or task sees the databases: the `SourceView` of this app's near caches.

Rule 1: a transaction that has written does not read from the cache what it has touched: the keys and tags that it will
invalidate when it commits.
Rule 2: it stores nothing that may hold uncommitted data, and shares it with nobody. The tags of a value show what it
was computed from. Rows found by their primary keys are as they were, if it has not written them. Whatever else was read
from a table that it has written to may be a list that a row has left, and no tag says which: so that is not kept. A
value without tags may hold anything.
Rule 3: what is read inside a transaction is treated as loaded at its beginning. With snapshot isolation it is as old as
that: on SQLite always, on MySQL and MariaDB by default, on PostgreSQL above READ COMMITTED. `SET TRANSACTION` can ask
for it anywhere, so no isolation level is trusted. Where the data is in fact newer, an invalidation in between costs one
more load. An unfinished read makes later reads old in the same way (`cursors.py`).
Rule 4: a coroutine is treated as part of the transactions of every thread, since `async_to_sync` may have called it
from any of them.
Rule 5: a load that sees something uncommitted stays apart to its end, with all loads around it, whatever becomes of the
transaction meanwhile: it may be rolled back, inside of the loader or outside.
Rule 6: the transaction around a `TestCase` does not count for rule 3: no other connection writes meanwhile.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence, Sized
from typing import Any

from invalidator import Entry
from invalidator.extending import name_slots, now_ns

from .. import slow_path
from ..dependencies import recorder
from ..names import is_of_watched, label_in, model_tag
from ..runtime import bus
from . import cursors, progress, uncommitted


class TransactionView:
    """
    What this thread's transactions, on every database, have written and not committed, and how old their reads are.
    """

    slow_path: Sized = slow_path.reasons

    def as_of(self) -> int:
        """Return the beginning of the oldest transaction or read in progress; now, if there is none."""
        return min(_began(), default=now_ns())

    def is_apart(self) -> bool:
        """Whether a transaction has written, and not committed."""
        return has_written()

    def has_changed(self, entry: Entry[Any]) -> bool:
        """Whether a transaction has written what *entry* was made from, and not committed."""
        return _is_touched((*entry.slots, *[slot for _, slots in entry.parts for slot in slots]))

    def may_share(self, entry: Entry[Any], begun: int | None) -> bool:
        """
        Whether *entry* holds nothing that a transaction has written, and not committed; nor has seen anything while it
        was loaded that was rolled back since, or kept out of the caches.
        """
        if begun is not None and _is_in_doubt(begun):
            return False
        if not slow_path.reasons:
            return True
        written = [*_written()]
        if not written:
            return True
        if begun is None:
            is_known = is_declared(entry.tags) and not _was_read_around(written)
        else:
            is_known = self.knows_sources(entry)
        if is_known and not self.has_changed(entry) and not _reads_tables(entry, written):
            return True
        _doubt_loads()
        return False

    def knows_sources(self, entry: Entry[Any]) -> bool:
        """
        Whether the names of *entry*, which was loaded, say what it was made from, so that they can be compared with
        what was written. Tags of the application's own say nothing about that.
        """
        return bool(entry.parts) or any(map(is_of_watched, entry.tags))

    def has_read(self, entry: Entry[Any]) -> None:
        """Note for the cached function being computed, if there is one, that its value is made from *entry*."""
        if (recording := recorder.current()) is not None:
            recording.read_entry(entry)


def is_declared(tags: Sequence[str]) -> bool:
    """Whether an application that sets a value with these *tags* says of which rows it was made, and of no others."""
    return bool(tags) and all(map(is_of_watched, tags))


def _reads_tables(entry: Entry[Any], written: Sequence[uncommitted.Batch]) -> bool:
    """Whether *entry* was made from a table that was *written* to, by anything but primary keys (rule 2)."""
    labels = _labels(written)
    return any(label_in(tag) in labels and not _is_of_row(tag) for tag in entry.tags)


def _was_read_around(written: Sequence[uncommitted.Batch]) -> bool:
    """Whether the cached function being computed, if there is one, has read a table that was *written* to."""
    recording = recorder.current()
    return recording is not None and not _labels(written).isdisjoint(map(model_tag, recording.models()))


def _labels(written: Sequence[uncommitted.Batch]) -> set[str]:
    slots = bus().slots
    return {label for batch in written for label in batch.labels(slots)}


def _is_of_row(tag: str) -> bool:
    return tag[len(label_in(tag)) :].startswith(":")


def _is_in_doubt(begun: int) -> bool:
    if begun > uncommitted.latest.doubt_at:
        return False
    return any(uncommitted.of(connection).doubt_at >= begun for connection in progress.connections_in_view())


def _doubt_loads() -> None:
    for connection in progress.connections_in_view():
        if (changed := uncommitted.of(connection)).has_written:
            changed.doubt_loads()


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
