"""
Where transactions begin and end: the methods of Django's connections through which they do.

What a transaction has changed is in a list of our own (`uncommitted.py`), and Django calls nobody for it:

- After a commit that an `atomic` block makes, Django turns autocommit on and then runs `on_commit` callbacks. Ours
  leave right before these, as one message. So `run_and_clear_commit_hooks` is replaced.
- With autocommit off, Django does nothing after `commit()`. So `commit` is replaced.
- `rollback`, `close` and `connect` end a transaction that has not happened, and `set_autocommit` begins and ends some.
- Savepoints are set, released and rolled back to in SQL, by Django as by applications: see `in_sql.py`.

Strict writes have to check their hold right before the COMMIT, and have to know every way in which a transaction ends;
and a read in a transaction is as old as the transaction (`progress.py`).
"""

from __future__ import annotations

from typing import Any

from django.db.backends.base.base import BaseDatabaseWrapper

from ..patching import Patches
from . import cursors, strict, uncommitted
from .committing import committing, lost, refuse_or_hold
from .progress import known, note_beginning, note_block
from .sending import send_committed

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
            send_committed(self)
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
        if self.in_atomic_block:  # the original raises
            original(self)
            return
        refuse_or_hold(self)
        with committing(self):
            original(self)
        note_beginning(self)  # after our own invalidations: what is read from here on must not be older than they are

    return commit


@patches.around(
    BaseDatabaseWrapper, "rollback", "self", why="what the transaction has changed is forgotten, what it holds released"
)
def _rollback(original: Any) -> Any:
    def rollback(self: BaseDatabaseWrapper) -> None:
        original(self)  # if it fails, Django closes the connection
        uncommitted.of(self).roll_back()
        uncommitted.of(self).ended()
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
                lost(self)

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
        if not autocommit:
            # Before BEGIN, and before the first statement, by which some databases take their snapshot.
            note_beginning(self)
        if not may_commit:
            original(self, autocommit, *args, **kwargs)
            uncommitted.of(self).begun_by_django()  # by a BEGIN in SQL, perhaps
            note_block(self, is_begun=not autocommit)
            return
        refuse_or_hold(self)
        try:
            with committing(self):
                original(self, autocommit, *args, **kwargs)
            uncommitted.of(self).begun_by_django()
            note_block(self, is_begun=False)
        finally:
            send_committed(self)  # of the commit before, if autocommit could not be turned on

    return set_autocommit


@patches.around(BaseDatabaseWrapper, "connect", "self", why="a new connection is in no transaction and holds nothing")
def _connect(original: Any) -> Any:
    def connect(self: BaseDatabaseWrapper) -> None:
        lost(self)  # the connection before, if it was lost without a `close`
        known.add(self)
        cursors.watch(self)
        original(self)

    return connect
