"""
Commits inside a `TestCase`, where Django commits nothing: the end of the application's own outermost atomic block is
treated as one.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from django.db import DEFAULT_DB_ALIAS, connections, transaction

from ..patching import Patches
from ..transactions import batches, progress

patches = Patches("Commits inside a TestCase")
_blocks = 0
"""How many `commits_in_test_cases` are open."""


@contextlib.contextmanager
def commits_in_test_cases() -> Iterator[None]:
    """Inside the block the transaction around a `TestCase` is treated as if there were none: rule 2. May be nested."""
    global _blocks  # noqa: PLW0603 - what it patches is as global
    _blocks += 1
    if _blocks == 1:
        patches.install()
        progress.test_cases_commit = True
    try:
        yield
    finally:
        _blocks -= 1
        if _blocks == 0:
            patches.remove()
            progress.test_cases_commit = False


@patches.around(
    transaction.Atomic,
    "__exit__",
    "self, exc_type, exc_value, traceback",
    why="inside a TestCase the end of the application's own outermost block is its commit",
)
def _exit(original: Any) -> Any:
    def __exit__(self: Any, exc_type: Any, exc_value: Any, traceback: Any) -> None:  # noqa: N807
        if not progress.test_cases_commit:  # another package has wrapped this, so it was not removed
            original(self, exc_type, exc_value, traceback)
            return
        connection = connections[self.using or DEFAULT_DB_ALIAS]
        is_good = exc_type is None and not connection.needs_rollback
        try:
            original(self, exc_type, exc_value, traceback)
        except BaseException:
            is_good = False
            raise
        finally:
            # Outside of all blocks it was a real transaction, and the other hooks have seen its end.
            is_inside = connection.in_atomic_block and not getattr(self, "_from_testcase", False)
            if is_inside and not progress.has_own_block(connection):
                batches.end_in_test_case(connection, committed=is_good)

    return __exit__
