"""
Commits inside a `TestCase`, where nothing is committed: the end of the application's own outermost atomic block counts.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from django.db import DEFAULT_DB_ALIAS, connections, transaction

from ..transactions import batches, progress

_Atomic = transaction.Atomic
_real_exit: Any = _Atomic.__exit__
_commits = 0


@contextlib.contextmanager
def commits_in_test_cases() -> Iterator[None]:
    """Inside the block the transaction around a `TestCase` counts as none: rule 2. May be nested."""
    global _commits, _real_exit  # noqa: PLW0603 - the patch is as global
    _commits += 1
    if _commits == 1:
        _real_exit = _Atomic.__exit__
        _Atomic.__exit__ = _exit_and_tell  # type: ignore[method-assign]
        progress.test_cases_commit = True
    try:
        yield
    finally:
        _commits -= 1
        if _commits == 0:
            _Atomic.__exit__ = _real_exit  # type: ignore[method-assign]
            progress.test_cases_commit = False


def _exit_and_tell(block: Any, kind: Any, error: Any, trace: Any) -> None:
    """In the place of `Atomic.__exit__`."""
    connection = connections[block.using or DEFAULT_DB_ALIAS]
    is_good = kind is None and not connection.needs_rollback
    try:
        _real_exit(block, kind, error, trace)
    except BaseException:
        is_good = False
        raise
    finally:
        # Outside of any block it was a real transaction, and has really ended.
        is_inside = connection.in_atomic_block and not getattr(block, "_from_testcase", False)
        if is_inside and not progress.has_own_block(connection):
            batches.end_in_test_case(connection, committed=is_good)
