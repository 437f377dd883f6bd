"""
Whether a transaction is in progress on a connection, since when, and whose it is: the application's, or that of a
`TestCase` around it, which is none (`in_tests.py`).

What is read in a transaction is treated as loaded at its beginning. That is not known exactly, but it was after the
connection was last made, committed, rolled back, or had its autocommit turned off.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextvars import ContextVar

from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper

from invalidator.extending import WeakList, now_ns

from . import uncommitted

_BEGAN = "_invalidator_began"
"""Where a connection keeps the time of `began_at`."""

known: WeakList[BaseDatabaseWrapper] = WeakList()
"""Every connection of this process that was ever used. Threads add theirs while a coroutine looks at all."""


def connections_in_view() -> Sequence[BaseDatabaseWrapper]:
    """The connections of this thread; of every thread, for a coroutine: its queries may run in any of them."""
    return list(known) if _is_coroutine() else connections.all(initialized_only=True)


def _is_coroutine() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


_begun_here: ContextVar[frozenset[int]] = ContextVar("invalidator_begun_here", default=frozenset())
"""The connections, by `id`, on which the calling thread or task, or what has called it, has begun a transaction."""


def note_block(connection: BaseDatabaseWrapper, *, is_begun: bool) -> None:
    """The calling thread has begun, or ended, a transaction on *connection*."""
    begun, one = _begun_here.get(), frozenset({id(connection)})
    _begun_here.set(begun | one if is_begun else begun - one)


def may_be_of_caller(connection: BaseDatabaseWrapper) -> bool:
    """
    Whether the transaction in progress on *connection*, one of `connections_in_view`, may be the caller's own. In a
    coroutine it is if something that has called it has begun it: context variables go through `async_to_sync`.
    """
    if id(connection) in _begun_here.get() or is_by_hand(connection) or uncommitted.of(connection).by_sql:
        return True
    return not _is_coroutine()


def counts_as_in_transaction(using: str) -> bool:
    """Whether names of a write to *using* have to wait for a commit."""
    return is_in_own_transaction(connections[using])


def is_in_own_transaction(connection: BaseDatabaseWrapper) -> bool:
    """Whether a transaction of the application's is in progress; that of a TestCase around it is none."""
    if is_in_test_case(connection):
        return has_own_block(connection)
    return is_in_transaction(connection)


def is_by_hand(connection: BaseDatabaseWrapper) -> bool:
    """Whether the application commits the transaction in progress by hand (autocommit off)."""
    # `commit_on_exit` is False in an atomic block that was entered with autocommit off.
    return not connection.in_atomic_block or not connection.commit_on_exit


def has_own_block(connection: BaseDatabaseWrapper) -> bool:
    """Whether the application itself has opened an atomic block, and not only the TestCase around it."""
    return len(connection.atomic_blocks) > blocks_of_test_case(connection)


def began_at(connection: BaseDatabaseWrapper) -> int:
    """A time, of the bus' clock, at which the transaction in progress on *connection* cannot have begun yet."""
    began: int = getattr(connection, _BEGAN, 0)  # 0 is older than every invalidation: when in doubt, keep nothing
    return began


def note_beginning(connection: BaseDatabaseWrapper) -> None:
    """Note that a transaction on *connection* may begin now, so that later reads are as old as this."""
    setattr(connection, _BEGAN, now_ns())


def is_in_transaction(connection: BaseDatabaseWrapper) -> bool:
    """Whether a transaction is in progress on *connection*."""
    if connection.in_atomic_block:
        return True
    # `get_autocommit()` would connect to the database, and without a connection there is no transaction.
    return connection.connection is not None and (not connection.autocommit or uncommitted.of(connection).by_sql)


def is_in_test_case(connection: BaseDatabaseWrapper) -> bool:
    """Whether the transaction in progress on *connection* is the one around a TestCase."""
    blocks = connection.atomic_blocks
    return bool(blocks) and getattr(blocks[0], "_from_testcase", False)


def blocks_of_test_case(connection: BaseDatabaseWrapper) -> int:
    """How many of the atomic blocks on *connection*, the outermost, are those around a TestCase."""
    return sum(getattr(block, "_from_testcase", False) for block in connection.atomic_blocks)
