"""
The source: one version per row in SQLite, and who made it.

WAL, so that readers never wait for writers; nothing is synced, since no machine crashes here and a process killed
with -9 loses nothing that it had written.

Rule: no connection is carried through a fork (`closed_for_fork`).
"""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

BUSY_TIMEOUT_S = 30.0

_SCHEMA = """
PRAGMA journal_mode = WAL;
CREATE TABLE row (key INTEGER PRIMARY KEY, version INTEGER NOT NULL);
CREATE TABLE history (key INTEGER, version INTEGER, writer TEXT, PRIMARY KEY (key, version)) WITHOUT ROWID;
"""


def create(path: Path, keys: int) -> None:
    """Make the database, with version 0 of every key."""
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        connection.executescript(_SCHEMA)
        connection.executemany("INSERT INTO row VALUES (?, 0)", [(key,) for key in range(keys)])


class Source:
    """A connection, to be used by any thread of one process."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._connection = self._connect()

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self._path, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False)
        connection.execute("PRAGMA synchronous = OFF")
        return connection

    def read(self, key: int) -> int:
        """The version of *key* that is committed now."""
        with self._lock:
            version: int = self._connection.execute("SELECT version FROM row WHERE key = ?", (key,)).fetchone()[0]
            return version

    def change(self, keys: Sequence[int], writer: str, before_commit: Callable[[list[int]], None]) -> list[int]:
        """
        Give each of *keys* its next version, in one transaction, and return these versions.

        Args:
            before_commit: called with them when all is written but the COMMIT; what it raises rolls back.
        """
        with self._lock:
            run = self._connection.execute
            run("BEGIN IMMEDIATE")
            try:
                versions = []
                for key in keys:
                    changed = run("UPDATE row SET version = version + 1 WHERE key = ? RETURNING version", (key,))
                    versions.append(changed.fetchall()[0][0])
                    run("INSERT INTO history VALUES (?, ?, ?)", (key, versions[-1], writer))
                before_commit(versions)
            except BaseException:
                run("ROLLBACK")
                raise
            run("COMMIT")
            return versions

    def history(self) -> Iterator[tuple[int, int, str]]:
        """Every committed (key, version, writer) but versions 0."""
        with self._lock:
            yield from self._connection.execute("SELECT key, version, writer FROM history")

    @contextlib.contextmanager
    def closed_for_fork(self) -> Iterator[None]:
        """Keep other threads out and the connection closed; both sides of a fork open their own."""
        with self._lock:
            self._connection.close()
            try:
                yield
            finally:
                self._connection = self._connect()

    def close(self) -> None:
        """Close."""
        self._connection.close()
