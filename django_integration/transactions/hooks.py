"""
Where transactions begin and end: the methods of Django's connections through which they do.

Django runs `on_commit` callbacks. That is not enough, for two reasons:

- All batches of a transaction have to leave as one message, and before the callbacks of others: one that raises would
  keep ours from running. So `run_and_clear_commit_hooks` is replaced.
- With autocommit off, Django runs no callback after `commit()`. So `commit` is replaced.

Without these replacements every batch would still publish itself. Strict writes have to check their hold right before
the COMMIT, and have to know every way in which a transaction ends; and a read in a transaction is as old as the
transaction (`progress.py`). So `rollback`, `close`, `connect` and `set_autocommit` are replaced, too.

Rule 1: a commit whose outcome is unknown, because the connection was lost, is published: it may have happened.
Rule 2: a commit that a strict write refuses is rolled back before the refusal is raised. `Atomic` rolls back only if a
commit raises a DatabaseError. After any other error it turns autocommit on, which commits on SQLite.
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
        if not self.in_atomic_block:  # as above
            _refuse_or_hold(self)
        try:
            original(self)
        except (InterfaceError, OperationalError):
            # Names that are held are cached by no server before the hold ends.
            if not strict.is_holding(self):
                send_committed(list(batches_of(self)))  # rule 1
            raise
        _committed(self)
        note_beginning(self)  # after our own invalidations: what is read from here on must not be older than they are

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
        # A database that does not refuse this in a transaction commits it.
        may_commit = autocommit and not self.autocommit and not self.in_atomic_block and self.connection is not None
        if may_commit:
            _refuse_or_hold(self)
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
        strict.disconnected(self)  # from the connection before, if it was lost without a `close`
        self.run_on_commit = []  # as Django is about to do
        known.add(self)
        cursors.watch(self)
        original(self)

    return connect


def _refuse_or_hold(connection: BaseDatabaseWrapper) -> None:
    """Hold what a strict write is about to commit. If that cannot be, roll back and raise: rule 2."""
    if not strict.is_needed(connection):
        return
    try:
        strict.before_commit(connection, names_of_commit(connection))
    except BaseException:  # Ctrl-C, too: see rule 2
        try:
            connection.rollback()
        except Error:
            connection.close()  # as Django does
        raise


def _committed(connection: BaseDatabaseWrapper) -> None:
    hold = strict.take(connection)
    # Without a hold, the batches of an atomic block leave by `run_and_clear_commit_hooks`, as soon as autocommit is on.
    send_committed(take_batches(connection, by_hand=hold is None), hold)
