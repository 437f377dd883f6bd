"""
The methods of a connection by which a transaction begins and ends, each wrapped once.

Batches are `on_commit` callbacks, and would be sent without any wrapper. But two things Django does not give:

- All batches of a transaction are to be one message, and to be sent before other callbacks, since one that raises keeps
  later ones from running. So `run_and_clear_commit_hooks()` is wrapped.
- With autocommit off Django runs no callback after `commit()`. So `commit()` is wrapped.

Strict writes check their hold right before the COMMIT and need to know every way in which a transaction ends; and a
read is as old as its transaction (`progress.py`). So `rollback()`, `close()`, `connect()` and `set_autocommit()` are
wrapped, too.

Rule 1: a commit whose answer was lost may have happened, so its names are published.
Rule 2: a commit that strict writes refuse is rolled back before the refusal is raised. `Atomic` rolls back only if a
commit raises a DatabaseError; after any other exception it turns autocommit on, and with that SQLite commits.
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
        if not self.in_atomic_block:  # inside one the original raises
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
        if not self.in_atomic_block:  # likewise
            _ask_before_commit(self)
        try:
            original(self)
        except (InterfaceError, OperationalError):
            if not strict.is_holding(self):  # else nobody caches these names before the hold ends
                send_committed(list(batches_of(self)))  # rule 1
            raise
        _committed(self)
        note_beginning(self)  # after our own messages: what is read from here on is newer than they are

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
        strict.disconnected(self)  # the connection before this one may have been lost without a call of `close()`
        self.run_on_commit = []  # Django does the same right after
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
    except BaseException:  # rule 2, for Ctrl-C as well
        try:
            connection.rollback()
        except Error:
            connection.close()  # as Django does
        raise


def _committed(connection: BaseDatabaseWrapper) -> None:
    hold = strict.take(connection)
    # Batches that Django itself will run wait for it, unless the transaction holds names: those are released now.
    send_committed(take_batches(connection, by_hand=hold is None), hold)
