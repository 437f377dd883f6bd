"""
What has to be done before, at and after a commit, whoever asks for it: Django (`hooks.py`) or SQL (`in_sql.py`).

Rule 1: a commit of which the outcome is not known counts as both (`send_in_doubt`): it may have happened, and it may
not. It is not known if the connection was lost, and if something else than an answer of the database ended it, such as
a time limit.
Rule 2: a commit that a strict write refuses is rolled back before the refusal is raised. `Atomic` rolls back only if a
commit raises a DatabaseError. After any other error it turns autocommit on, which commits on SQLite.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from django.db import DatabaseError, Error, InterfaceError, OperationalError
from django.db.backends.base.base import BaseDatabaseWrapper

from ..names import Names
from . import strict, uncommitted
from .sending import send_committed, send_in_doubt
from .uncommitted import quietly


def lost(connection: BaseDatabaseWrapper) -> None:
    """The connection is no more, and neither is its transaction."""
    send_committed(connection)
    changed = uncommitted.of(connection)
    changed.roll_back()
    changed.begun_by_django()
    changed.ended()
    strict.disconnected(connection)


def refuse_or_hold(connection: BaseDatabaseWrapper) -> None:
    """Hold what a strict write is about to commit. If that cannot be, roll back and raise: rule 2."""
    if not strict.is_needed(connection):
        return
    try:
        changed = uncommitted.of(connection)
        strict.before_commit(connection, changed.names(), _followed(changed))
    except BaseException:  # Ctrl-C, too: see rule 2
        try:
            connection.rollback()
        except Error:
            connection.close()  # as Django does
        raise


def _followed(changed: uncommitted.Uncommitted) -> Names:
    names = Names()
    for follower in uncommitted.followers_of(changed.batches):
        names.update(quietly(follower.names) or Names())
    return names


@contextlib.contextmanager
def committing(connection: BaseDatabaseWrapper) -> Iterator[None]:
    """The block commits the transaction in progress on *connection*, if it ends without an error."""
    changed = uncommitted.of(connection)
    if changed.batches and _may_be_given_up(connection):
        changed.doubt()  # if it was not, it is published all the same
    try:
        yield
    except (InterfaceError, OperationalError):
        send_in_doubt(connection)  # rule 1
        raise
    except DatabaseError:
        raise  # it was refused
    except BaseException:
        send_in_doubt(connection)
        raise
    changed.commit()
    changed.ended()
    hold = strict.take(connection)
    # Others leave when autocommit is on again: a second level may be a table of this database.
    if changed.by_hand or hold is not None:
        send_committed(connection, hold)


def _may_be_given_up(connection: BaseDatabaseWrapper) -> bool:
    """
    Whether the database may have rolled the transaction back already, and will say nothing about it at the COMMIT.

    PostgreSQL answers ROLLBACK to the COMMIT of a transaction in which a statement has failed; MariaDB rolls back at a
    deadlock, and SQLite when its disk is full. An application that catches such an error goes on to the COMMIT.
    """
    if connection.errors_occurred:  # Django's note of errors other than those of data and constraints
        return True
    info = getattr(connection.connection, "info", None)
    return getattr(info, "transaction_status", None) == _FAILED


_FAILED = 3
"""The status of a transaction in which a statement has failed, in psycopg and psycopg2 alike."""
