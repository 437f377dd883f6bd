"""
Inside a `TestCase`: the blocks that Django opens around a class and around each test, and rolls back at their end, are
no transactions of the application's.

Rule 1: a write in them counts at once, and so does the end of the application's own outermost block: its names are
invalidated in this process. While such a block is open, this process publishes nothing to a server (`runtime.py`).
Rule 2: at its end, and whenever it is rolled back to a savepoint, what the caches of this process have stored since its
beginning leaves them, and nothing else. Loads under way are not stored.
"""

from __future__ import annotations

from typing import Any

from django.db import DEFAULT_DB_ALIAS, connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.transaction import Atomic

from invalidator.extending import now_ns

from .. import runtime
from ..patching import Patches
from . import uncommitted
from .progress import has_own_block, is_in_test_case
from .sending import send_committed

patches = Patches("Blocks of a TestCase")

_began: dict[Atomic, int] = {}
"""The blocks that are open, of every test and database, and since when."""


def is_open() -> bool:
    """Whether this process is inside a TestCase."""
    return bool(_began)


@patches.around(Atomic, "__enter__", "self", why="the blocks of a TestCase are none of the application's")
def _enter(original: Any) -> Any:
    def __enter__(self: Atomic) -> None:  # noqa: N807
        if not getattr(self, "_from_testcase", False):
            original(self)
            return
        began = now_ns()
        original(self)
        _began[self] = began
        runtime.keep_to_itself(True)
        forget_since(_connection_of(self), began)

    return __enter__


@patches.around(
    Atomic,
    "__exit__",
    "self, exc_type, exc_value, traceback",
    why="inside a TestCase the end of the application's own outermost block is its commit",
)
def _exit(original: Any) -> Any:
    def __exit__(self: Atomic, exc_type: Any, exc_value: Any, traceback: Any) -> None:  # noqa: N807
        if not _began:
            original(self, exc_type, exc_value, traceback)
        elif self in _began:
            _end_of_test_case(self, lambda: original(self, exc_type, exc_value, traceback))
        else:
            _end_inside(self, exc_type is None, lambda: original(self, exc_type, exc_value, traceback))

    return __exit__


def _end_of_test_case(block: Atomic, end: Any) -> None:
    began = _began[block]
    try:
        end()
    finally:
        del _began[block]
        connection = _connection_of(block)
        uncommitted.of(connection).roll_back()
        forget_since(connection, began)
        if not _began:
            runtime.keep_to_itself(False)


def _end_inside(block: Atomic, is_good: bool, end: Any) -> None:
    connection = _connection_of(block)
    is_good = is_good and not connection.needs_rollback
    try:
        end()
    except BaseException:
        is_good = False
        raise
    finally:
        if is_in_test_case(connection) and not has_own_block(connection):
            _end_of_own_transaction(connection, is_good=is_good)


def _end_of_own_transaction(connection: BaseDatabaseWrapper, *, is_good: bool) -> None:
    changed = uncommitted.of(connection)
    if is_good:
        changed.commit()
        send_committed(connection)
    else:
        changed.roll_back()


def began_at() -> int:
    """When the block of a TestCase began that was opened last."""
    return next(reversed(_began.values()), 0)


def forget_since(connection: BaseDatabaseWrapper, began: int) -> None:
    """
    Let everything leave the caches of this process that they have stored since *began*: what *connection* has written
    since then was rolled back. Its loads under way are not stored.
    """
    uncommitted.of(connection).doubt_loads()
    if (bus := runtime.made_bus()) is not None:
        bus.evict_loaded_since(began)


def _connection_of(block: Atomic) -> BaseDatabaseWrapper:
    return connections[block.using or DEFAULT_DB_ALIAS]
