"""
More than one connection to the same database, for what only shows between two: dirty reads, snapshots, locks.

A `Session` is a thread with database connections of its own, on whichever database this run is on: the test's thread
and the session see of each other what is committed, and nothing else.

    def test_…(session: Session) -> None:
        with transaction.atomic():
            cage.save()                                                  # not committed
            assert session.run(lambda: Cage.objects.get().name) == "old"
        assert session.run(lambda: Cage.objects.get().name) == "new"

A call that waits for a lock of the test's own is given to `start`, which does not wait for it:

    written = session.start(lambda: Cage.objects.update(name="new"))   # a Future
    …                                                                      # let go of the lock
    written.result(PATIENCE_S)

The session's thread has a context of its own, too: for the cache it is another request. `isolation("repeatable read")`
puts the calling thread's connection at another isolation level; Django's is "read committed" on PostgreSQL and MariaDB.
SQLite has one level, a snapshot that is taken at the first statement, and one writer: a transaction that has read, and
writes after another has written, fails at once ("database is locked").
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, TypeVar

from django.db import DEFAULT_DB_ALIAS, connections
from psycopg import IsolationLevel

from tests.support import PATIENCE_S

T = TypeVar("T")


class Session:
    """Another user of the same databases."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="session")

    def run(self, call: Callable[[], T]) -> T:
        """What *call* returns, or raises, over there."""
        return self.start(call).result(PATIENCE_S)

    def start(self, call: Callable[[], T]) -> Future[T]:
        """Have *call* done over there, after what was asked for before; for a call that may have to wait."""
        return self._thread.submit(call)

    def close(self) -> None:
        """Roll back what is open over there, and disconnect."""
        self.run(connections.close_all)
        self._thread.shutdown()


@contextmanager
def isolation(level: str, using: str = DEFAULT_DB_ALIAS) -> Iterator[None]:
    """
    Put the calling thread's connection at *level*: "read committed", "repeatable read" or "serializable".

    It is reconnected for that, at the beginning and at the end. SQLite is left as it is.
    """
    connection = connections[using]
    as_it_was = connection.settings_dict
    if connection.vendor != "sqlite":
        connection.close()
        options = {**as_it_was["OPTIONS"], "isolation_level": _spelled(connection.vendor, level)}
        connection.settings_dict = {**as_it_was, "OPTIONS": options}
    try:
        yield
    finally:
        if connection.vendor != "sqlite":
            connection.close()
            connection.settings_dict = as_it_was


def _spelled(vendor: str, level: str) -> Any:
    if vendor == "postgresql":
        return IsolationLevel[level.replace(" ", "_").upper()]
    return level
