"""
What the rest of the app calls to publish names: after the commit if a transaction is in progress, else at once; and to
learn how a transaction ends.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Hashable, Mapping
from typing import TypeVar, cast

from django.db import DEFAULT_DB_ALIAS, connections, router, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import Model

from invalidator import Receipt

from ..names import Names, Target, add_target, is_model, plan_of_row
from . import in_sql, strict, uncommitted
from .progress import (
    connections_in_view,
    counts_as_in_transaction,
    is_by_hand,
    is_in_own_transaction,
    is_in_transaction,
    may_be_of_caller,
)
from .sending import send
from .uncommitted import Batch, Follower

F = TypeVar("F", bound=Follower)


def invalidate(*targets: Target, using: str | None = None) -> Receipt | None:
    """
    Invalidate keys (str), tags (`tag("prices")`), rows (model instances) and tables (model classes) on every server.

    Outside a transaction this happens at once, and the receipt says whether Redis has accepted it. Inside one it
    happens after the commit, in the transaction's one message, and never if that is rolled back; then there is no
    receipt yet, and None is returned.

    A row stands for all that a save of it would invalidate: its tags, and what `@invalidates` functions name for it
    as it is in memory.

    Args:
        using: the database alias whose transaction counts. None takes, for a row, the one it was read from or saved
            to; for a model, the one its writes go to; for keys and tags, the default one.

    Raises:
        TypeError: a target is none of these.
        InvalidName: a key or tag is empty or too long, or a row was never saved.
        PublishError: at once, with `PUBLISH="raise"` or in a transaction with `WRITES="strict"`, when Redis cannot be
            reached.
        HoldEnded: with `WRITES="strict"`, when the transaction has taken too long.
    """
    by_alias: dict[str, Names] = {}
    for target in targets:
        add_stale(by_alias.setdefault(using or alias_of(target), Names()), target)
    return publish_after_commit(by_alias)


def publish_after_commit(by_alias: Mapping[str, Names]) -> Receipt | None:
    """
    Invalidate names, each after the commit of the transaction in progress on its database, or at once if there is none.

    Returns and raises as `invalidate` does.
    """
    # Nothing was published before every target was known to be valid.
    at_once = Names()
    deferred = False
    for alias, names in by_alias.items():
        if _keep_for_commit(names, alias):
            deferred = True
        else:
            at_once.update(names)
    if not deferred:
        return send(at_once)
    if at_once:
        send(at_once)
    return None


def alias_of(target: Target) -> str:
    """The database whose transaction a change of *target* is most likely part of."""
    if isinstance(target, Model):
        return target._state.db or router.db_for_write(type(target), instance=target)
    return router.db_for_write(target) if is_model(target) else DEFAULT_DB_ALIAS


def add_stale(names: Names, target: Target) -> None:
    """Add all that is stale if *target* has changed, what functions name for a row too. Raises as `invalidate` does."""
    add_target(names, target)
    if isinstance(target, Model):
        plan_of_row(target).add_functions(names, target)


def collect(names: Names, using: str) -> None:
    """
    Invalidate *names* after the commit of the transaction in progress on *using*, or at once if there is none.

    Raises, with strict writes, as `strict.announce` does.
    """
    if names and not _keep_for_commit(names, using):
        send(names)


def announce(names: Names, using: str) -> None:
    """With strict writes, hold *names* now, for the transaction in progress on *using*. Raises as `collect`."""
    if names and counts_as_in_transaction(using):
        strict.announce(connections[using], names)


def own_transaction(using: str) -> contextlib.AbstractContextManager[object]:
    """With strict writes a transaction, if none is open, so that a write can still be refused; else nothing."""
    if strict.is_strict() and not is_in_transaction(connections[using]):
        return transaction.atomic(using=using)
    return contextlib.nullcontext()


def _keep_for_commit(names: Names, using: str) -> bool:
    """Keep *names* if a transaction is in progress on *using*; False if there is none."""
    connection = connections[using]
    in_sql.look_again(connection)
    if not is_in_own_transaction(connection):
        return False
    if names:
        # Kept first: if the announcement raises and the application ignores it, the commit announces them again.
        _open_batch(connection).add(names)
        strict.announce(connection, names)
        if uncommitted.of(connection).is_loose:  # it may be committed already (`in_sql.py`)
            send(names)
    return True


def _open_batch(connection: BaseDatabaseWrapper) -> Batch:
    changed = uncommitted.of(connection)
    changed.by_hand = changed.by_hand or is_by_hand(connection)
    return changed.open()


def follow(key: Hashable, make: Callable[[], F]) -> list[tuple[F, bool]]:
    """
    Let a `Follower` know how the present stretch of each transaction in progress ends: those of the calling thread, on
    whichever database, whether they have written or not. In a coroutine those from within which it was called; those
    that are committed by hand or in SQL are everybody's, since that is not known of them.

    Returns:
        for each of them the follower under *key*, made now if there is none, and whether it has written; an empty list
        outside of a transaction.
    """
    in_progress = [
        connection
        for connection in connections_in_view()
        if is_in_own_transaction(connection) and may_be_of_caller(connection)
    ]
    return [
        (cast("F", _open_batch(connection).follow(key, make)), uncommitted.of(connection).has_written)
        for connection in in_progress
    ]
