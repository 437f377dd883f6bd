"""
Whether a transaction is in progress on a connection, since when, and whether it is the one around a `TestCase`.

What is read in a transaction is treated as loaded at its beginning. That is not known exactly, but it was after the
connection was last made, committed, rolled back, or had its autocommit turned off.
"""

from __future__ import annotations

import weakref

from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper

from invalidator.extending import now_ns

_BEGAN = "_invalidator_began"
"""Where a connection keeps the time of `began_at`."""

known: weakref.WeakSet[BaseDatabaseWrapper] = weakref.WeakSet()
"""Every connection of this process that was ever used."""

test_cases_commit = False
"""Whether the transaction around a TestCase counts as none (`testing/commits.py`), as if each save were committed."""


def has_own_block(connection: BaseDatabaseWrapper) -> bool:
    """Whether the application itself has opened an atomic block, and not only the TestCase around it."""
    return len(connection.atomic_blocks) > blocks_of_test_case(connection)


def counts_as_in_transaction(using: str) -> bool:
    """Whether names of a write to *using* have to wait for a commit."""
    connection = connections[using]
    if test_cases_commit and connection.in_atomic_block:
        return has_own_block(connection)
    return is_in_transaction(connection)


def is_own_transaction(connection: BaseDatabaseWrapper) -> bool:
    """
    Whether the application itself opened a transaction or savepoint, and not only the TestCase around it.

    In a TestCase a save stands for a transaction of its own: if it joined an earlier batch, a
    `captureOnCommitCallbacks` that began in between would miss it.
    """
    around = blocks_of_test_case(connection)
    return not around or any(savepoint is not None for savepoint in connection.savepoint_ids[around - 1 :])


def began_at(connection: BaseDatabaseWrapper) -> int:
    """A time, of the bus' clock, at which the transaction in progress on *connection* cannot have begun yet."""
    began: int = getattr(connection, _BEGAN, 0)  # 0 is older than every invalidation: when in doubt, keep nothing
    return began


def note_beginning(connection: BaseDatabaseWrapper) -> None:
    """Note that a transaction on *connection* may begin now, so that later reads are as old as this."""
    setattr(connection, _BEGAN, now_ns())


def is_in_transaction(connection: BaseDatabaseWrapper) -> bool:
    """Whether a transaction is in progress on *connection*."""
    # `get_autocommit()` would connect to the database, and without a connection there is no transaction.
    return connection.in_atomic_block or (connection.connection is not None and not connection.autocommit)


def is_in_test_case(connection: BaseDatabaseWrapper) -> bool:
    """Whether the transaction in progress on *connection* is the one around a TestCase."""
    return blocks_of_test_case(connection) > 0


def blocks_of_test_case(connection: BaseDatabaseWrapper) -> int:
    """How many of the atomic blocks on *connection*, the outermost, are those around a TestCase."""
    return sum(getattr(block, "_from_testcase", False) for block in connection.atomic_blocks)
