"""
The methods by which a transaction begins and ends, wrapped once.

Django runs `on_commit` callbacks, and two things it does not give:

- all batches of a transaction leave as one message, and before other callbacks, of which one that raises would keep
  ours from running; `run_and_clear_commit_hooks` is wrapped for that;
- with autocommit off Django runs no callback after `commit()`, so `commit()` is wrapped.

Without the wrappers every batch still sends itself. Strict writes also check their hold right before the COMMIT, and
need every way in which a transaction ends; and reads are as old as their transaction (`progress.py`). So `rollback()`,
`close()`, `connect()` and `set_autocommit()` are wrapped, too.

Rule 1: a commit of which the answer was lost may have happened, and is published.
Rule 2: a commit that strict writes refuse is rolled back before the refusal is raised. `Atomic` rolls back when a
commit raises a DatabaseError, and for nothing else; it would go on and turn autocommit on, by which SQLite commits.
"""

from __future__ import annotations

from typing import Any

from django.db import Error, InterfaceError, OperationalError
from django.db.backends.base.base import BaseDatabaseWrapper

from ..patching import Patches
from . import cursors, strict
from .batches import batches_of, names_of_commit, send_committed, take_batches
from .progress import known, note_beginning

patches = Patches("Transactions")


@patches.around(
    BaseDatabaseWrapper,
    "run_and_clear_commit_hooks",
    "self",
    why="the invalidations of a transaction leave as one message, before other callbacks run",
)
def _run_and_clear_commit_hooks(original: Any) -> Any:
    def run_and_clear_commit_hooks(self: BaseDatabaseWrapper) -> None:
        if not self.in_atomic_block:  # inside one the original refuses, and says so
            send_committed(take_batches(self, by_hand=False))
        original(self)

    return run_and_clear_commit_hooks


@patches.around(
    BaseDatabaseWrapper,
    "commit",
    "self",
    why="with autocommit off Django runs no callback after a commit; and a strict write may refuse it",
)
def _commit(original: Any) -> Any:
    def commit(self: BaseDatabaseWrapper) -> None:
        if not self.in_atomic_block:  # as above
            _ask_before_commit(self)
        try:
            original(self)
        except (InterfaceError, OperationalError):
            if not strict.is_holding(self):  # else nobody caches these names before the hold ends
                send_committed(list(batches_of(self)))  # the answer may be what was lost
            raise
        _committed(self)
        note_beginning(self)  # after our own invalidations, or what is read from here on would be older than they are

    return commit


@patches.around(BaseDatabaseWrapper, "rollback", "self", why="what a strict write holds is released")
def _rollback(original: Any) -> Any:
    def rollback(self: BaseDatabaseWrapper) -> None:
        original(self)  # if it fails, Django closes the connection
        strict.rolled_back(self)
        note_beginning(self)

    return rollback


@patches.around(BaseDatabaseWrapper, "close", "self", why="the same, for a transaction that is lost")
def _close(original: Any) -> Any:
    def close(self: BaseDatabaseWrapper) -> None:
        try:
            original(self)
        finally:
            if self.connection is None or self.closed_in_transaction:
                strict.disconnected(self)

    return close


@patches.around(
    BaseDatabaseWrapper,
    "set_autocommit",
    "self, autocommit, ...",
    why="turning autocommit off begins a transaction, turning it on may commit one",
)
def _set_autocommit(original: Any) -> Any:
    def set_autocommit(self: BaseDatabaseWrapper, autocommit: bool, *args: Any, **kwargs: Any) -> None:
        # Databases that do not refuse this in a transaction commit it.
        may_commit = autocommit and not self.autocommit and not self.in_atomic_block and self.connection is not None
        if may_commit:
            _ask_before_commit(self)
        if not autocommit:
            # Before BEGIN, and before the first statement, by which some databases take their snapshot.
            note_beginning(self)
        original(self, autocommit, *args, **kwargs)
        if may_commit:
            _committed(self)

    return set_autocommit


@patches.around(BaseDatabaseWrapper, "connect", "self", why="a new connection is in no transaction and holds nothing")
def _connect(original: Any) -> Any:
    def connect(self: BaseDatabaseWrapper) -> None:
        strict.disconnected(self)  # from what was there before, if nobody has said so
        self.run_on_commit = []  # as Django does in a moment
        known.add(self)
        cursors.watch(self)
        original(self)

    return connect


def _ask_before_commit(connection: BaseDatabaseWrapper) -> None:
    """Roll back and raise if strict writes refuse this commit."""
    if not strict.is_needed(connection):
        return
    try:
        strict.before_commit(connection, names_of_commit(connection))
    except BaseException:  # Ctrl-C, too: see rule 4
        try:
            connection.rollback()
        except Error:
            connection.close()  # as Django does
        raise


def _committed(connection: BaseDatabaseWrapper) -> None:
    hold = strict.take(connection)
    # What Django would run when autocommit is on again waits for that; what was held leaves now.
    send_committed(take_batches(connection, by_hand=hold is None), hold)
