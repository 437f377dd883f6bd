"""
Transactions in SQL: what BEGIN, COMMIT, ROLLBACK, SAVEPOINT and their like do to the transaction of a connection.

Applications send them with a cursor of their own, and so does Django for its savepoints, and for BEGIN on SQLite.
`writes/transaction_sql.py` finds them in a text; here is what they mean.

Rule 1: a statement is taken for what it says after the database has run it without an error. If a text has several, or
the database may have run a part of it, what was changed counts as committed and as rolled back.
Rule 2: SQL that ends the transaction of an atomic block is obeyed, not refused: migrations do it. What is written in
the rest of the block may be committed at once or at its end, and is published both times.
Rule 3: a transaction that was begun in SQL may end unseen: in a procedure, by the driver, by a time-out. Where the
driver knows, it is asked, before a write waits for the COMMIT; otherwise what may have ended it makes its writes count
twice, as in rule 2.
Rule 4: a transaction that is prepared here may be committed anywhere. So it counts as rolled back when it is prepared,
and whoever commits a prepared transaction invalidates everything.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

from django.db.backends.base.base import BaseDatabaseWrapper

from ..names import Names
from . import in_tests, strict, uncommitted
from .committing import committing, refuse_or_hold
from .progress import is_in_test_case, is_in_transaction, note_beginning
from .sending import send, send_committed, send_in_doubt

T = TypeVar("T")

Kind = Literal[
    "begin",
    "commit",
    "roll back",
    "savepoint",
    "release",
    "roll back to",
    "prepared",
    "commit prepared",
    "autocommit off",
    "autocommit on",
    "may commit",
]


@dataclass(frozen=True, slots=True)
class Step:
    """
    One statement.

    Attributes:
        name: of a savepoint, as every spelling of it is folded.
        chains: whether another transaction begins at once.
    """

    kind: Kind
    name: str = ""
    chains: bool = False


def look_again(connection: BaseDatabaseWrapper) -> None:
    """If the transaction that was begun in SQL has ended unseen, nobody knows how (rule 3)."""
    changed = uncommitted.of(connection)
    if changed.by_sql and not changed.stays_by_sql and _is_really_in_transaction(connection) is False:
        send_in_doubt(connection)
        changed.roll_back()
        changed.ended()


def _is_really_in_transaction(connection: BaseDatabaseWrapper) -> bool | None:
    """What the driver of *connection* says, without asking the database; None if it says nothing."""
    driver = connection.connection
    if connection.vendor == "sqlite":
        return bool(driver.in_transaction)
    if connection.vendor == "mysql":
        flags = getattr(driver, "server_status", None)  # PyMySQL; mysqlclient says nothing
        return None if flags is None else bool(flags & _IN_TRANSACTION)
    status = getattr(getattr(driver, "info", None), "transaction_status", None)  # psycopg and psycopg2
    return None if status is None or status == _UNKNOWN else status != _IDLE


_IN_TRANSACTION = 1
_IDLE, _UNKNOWN = 0, 4


def run(connection: BaseDatabaseWrapper, steps: Sequence[Step], original: Callable[[], T]) -> T:
    """Call *original*, which has *connection* run SQL with these *steps*."""
    if len(steps) > 1:
        return _run_several(connection, steps, original)
    step = steps[0]
    if step.kind == "begin":
        note_beginning(connection)  # before the database takes a snapshot
    if not _commits(connection, step):
        result = original()
        _apply(connection, step)
        return result
    refuse_or_hold(connection)
    stays_open = connection.in_atomic_block
    with committing(connection):
        result = original()
    _committed(connection)
    _go_on(connection, step, stays_open=stays_open)
    return result


def _commits(connection: BaseDatabaseWrapper, step: Step) -> bool:
    if not is_in_transaction(connection):
        return False
    match step.kind:
        case "commit" | "autocommit on":
            return True
        case "begin":
            return connection.vendor == "mysql"  # it commits the one before
        case "release":
            # SQLite begins a transaction with a savepoint outside of any, and commits it when that is released.
            changed = uncommitted.of(connection)
            return connection.vendor == "sqlite" and changed.begun_by == step.name and changed.is_first(step.name)
    return False


def _apply(connection: BaseDatabaseWrapper, step: Step) -> None:
    """The database has done *step*, which is no commit."""
    changed = uncommitted.of(connection)
    match step.kind:
        case "begin" | "autocommit off":
            _begin(connection, step)
        case "savepoint":
            _set_savepoint(connection, step.name)
        case "release":
            changed.release_savepoint(step.name)
        case "roll back to":
            _roll_back_to(connection, step.name)
        case "roll back" | "prepared":
            _roll_back(connection, step)
        case "commit prepared":
            send(Names(everything=True))
        case "may commit":
            if changed.batches:
                send_in_doubt(connection)
            changed.is_loose = changed.by_sql or changed.is_loose


def _begin(connection: BaseDatabaseWrapper, step: Step) -> None:
    if not is_in_transaction(connection):
        changed = uncommitted.of(connection)
        changed.by_sql = True
        changed.stays_by_sql = step.kind == "autocommit off"


def _set_savepoint(connection: BaseDatabaseWrapper, name: str) -> None:
    changed = uncommitted.of(connection)
    if not is_in_transaction(connection):
        if connection.vendor != "sqlite":
            return  # it has no effect there
        note_beginning(connection)
        changed.by_sql = True
        changed.begun_by = name
    changed.set_savepoint(name)


def _roll_back_to(connection: BaseDatabaseWrapper, name: str) -> None:
    savepoint = uncommitted.of(connection).roll_back_to(name)
    if is_in_test_case(connection):
        in_tests.forget_since(connection, in_tests.began_at() if savepoint is None else savepoint.at)


def _roll_back(connection: BaseDatabaseWrapper, step: Step) -> None:
    was_in_transaction = is_in_transaction(connection)
    stays_open = connection.in_atomic_block
    changed = uncommitted.of(connection)
    changed.roll_back()
    changed.ended()
    strict.rolled_back(connection)
    if was_in_transaction:
        _go_on(connection, step, stays_open=stays_open)
    if is_in_test_case(connection):
        in_tests.forget_since(connection, in_tests.began_at())


def _committed(connection: BaseDatabaseWrapper) -> None:
    send_committed(connection)
    note_beginning(connection)


def _go_on(connection: BaseDatabaseWrapper, step: Step, *, stays_open: bool) -> None:
    """The transaction has ended."""
    changed = uncommitted.of(connection)
    note_beginning(connection)
    if step.kind == "autocommit on":
        changed.begun_by_django()
    elif step.chains or step.kind == "begin":
        changed.by_sql = changed.by_sql or not (connection.in_atomic_block or not connection.autocommit)
    changed.is_loose = stays_open  # rule 2


def _run_several(connection: BaseDatabaseWrapper, steps: Sequence[Step], original: Callable[[], T]) -> T:
    try:
        return original()
    finally:
        changed = uncommitted.of(connection)
        send_in_doubt(connection)
        for step in steps:
            _apply_in_doubt(connection, step)
        changed.is_loose = connection.in_atomic_block and any(step.kind in _ENDS for step in steps)


_ENDS = ("commit", "roll back", "prepared", "autocommit on")


def _apply_in_doubt(connection: BaseDatabaseWrapper, step: Step) -> None:
    """The database may have done *step*, one of several."""
    changed = uncommitted.of(connection)
    if step.kind not in _ENDS:
        _apply(connection, step)
    elif not connection.in_atomic_block and connection.autocommit:
        changed.commit()
        changed.ended()
        send_committed(connection)
