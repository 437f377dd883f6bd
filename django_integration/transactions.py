"""
When an invalidation leaves: after the commit, one message per transaction; at once where there is no transaction.

Names are collected in batches, one for each stretch of a transaction between two savepoints. A batch is an
ordinary `on_commit` callback, so Django itself drops it when its savepoint or its transaction is rolled back, and
`TestCase.captureOnCommitCallbacks` sees it. Two things Django does not give:

- all batches of a transaction leave as one message, and before other callbacks, of which one that raises would keep
  ours from running. `BaseDatabaseWrapper.run_and_clear_commit_hooks` is wrapped for that, once;
- with autocommit off Django runs no callback after `commit()`, so `commit()` is wrapped.

Without the wrappers every batch still sends itself. Two others need to know more of how transactions begin and end.
Reads inside of one (`source.py`) count from its beginning: not before the connection last came into being, committed,
rolled back, or turned autocommit off. Strict writes (`holds.py`) look once more before the COMMIT, and want to know of
every way in which a transaction ends. `rollback()`, `close()`, `connect()` and `set_autocommit()` are wrapped for them.

Rule 1: nothing is invalidated before the commit. A reader would load the old row and keep it.
Rule 2: after the commit nothing raises: the data is written, and a request that says otherwise would lie.
Rule 3: a commit of which the answer was lost may have been one, and is told.
Rule 4: a commit that strict writes refuse is rolled back before the refusal is raised. `Atomic` rolls back when a
commit raises a DatabaseError, and for nothing else; it would go on and turn autocommit on, by which SQLite commits.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from django.db import DEFAULT_DB_ALIAS, Error, InterfaceError, OperationalError, connections, router, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import Model

from invalidator import Receipt, name_slots, now_ns

from . import attention, cursors, holds, registry
from .names import Names, Target, is_model
from .runtime import bus

logger = logging.getLogger(__name__)

_BEGAN = "_invalidator_began"
"""Where a connection keeps the time of `began_at`."""

LOOK_BACK = 32
"""Callbacks searched for a batch to go on with; without a limit, n saves among n callbacks of others take n² steps."""


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
        add_target(by_alias.setdefault(using or alias_of(target), Names()), target)
    return tell(by_alias)


def tell(by_alias: Mapping[str, Names]) -> Receipt | None:
    """
    Invalidate names, each after the commit of the transaction in progress on its database, or at once if there is none.

    Returns and raises as `invalidate` does.
    """
    # Only now, when every target has proved good, does the first name leave.
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


def add_target(names: Names, target: Target) -> None:
    """Add all that *target* stands for. Raises as `invalidate` does."""
    names.add(target)
    if isinstance(target, Model):
        names.update(registry.names_of(target))


def collect(names: Names, using: str) -> None:
    """
    Invalidate *names* after the commit of the transaction in progress on *using*, or at once if there is none.

    Raises, with strict writes, as `holds.announce` does.
    """
    if names and not _keep_for_commit(names, using):
        send(names)


def announce(names: Names, using: str) -> None:
    """With strict writes, hold *names* already, in the transaction in progress on *using*. Raises as `collect`."""
    if names and _in_transaction(using):
        holds.announce(connections[using], names)


def own_transaction(using: str) -> contextlib.AbstractContextManager[object]:
    """With strict writes a transaction, if there is none, so that a write can still be refused; else nothing."""
    if holds.is_strict() and not _in_transaction(using):
        return transaction.atomic(using=using)
    return contextlib.nullcontext()


def send(names: Names) -> Receipt:
    """Tell every server now."""
    if names.everything:
        return bus().clear()
    return bus().invalidate(*names.keys, tags=tuple(names.tags))


known: weakref.WeakSet[BaseDatabaseWrapper] = weakref.WeakSet()
"""Every connection of this process that was ever used."""


class Batch:
    """The names of one stretch of a transaction. `send` is what `on_commit` gets."""

    __slots__ = ("__weakref__", "_touched", "by_hand", "names", "sent")

    def __init__(self, *, by_hand: bool) -> None:
        self.names = Names()
        self.by_hand = by_hand
        """Whether the application commits by hand (autocommit off)."""
        self.sent = False
        number = id(self)
        # Django drops a batch when its savepoint is rolled back, and tells nobody.
        attention.active[number] = weakref.ref(self, lambda _: attention.active.pop(number, None))
        self._touched = _Touched()

    def send(self) -> None:
        """Send this batch alone; does nothing the second time."""
        _send_committed([self])

    def touched(self, slots: int) -> set[int]:
        """The slots of its names in a ledger of so many."""
        return self._touched.slots_of(self.names, slots)


class _Touched:
    """The slots of names: of those that are added, each is hashed once."""

    __slots__ = ("_of", "_seen", "_slots")

    def __init__(self) -> None:
        self._slots: set[int] = set()
        self._seen = (0, 0)
        self._of: tuple[int, object] = (0, None)

    def slots_of(self, names: Names, slots: int) -> set[int]:
        if self._of[0] != slots or self._of[1] is not names.tags:  # other settings; too many names became fewer
            self._slots, self._seen, self._of = set(), (0, 0), (slots, names.tags)
        if self._seen != (len(names.keys), len(names.tags)):
            # Copies, taken in one step: a coroutine asks while the transaction's own thread adds.
            keys, tags = tuple(names.keys), tuple(names.tags)
            self._slots.update(name_slots(keys[self._seen[0] :], tags[self._seen[1] :], slots))
            self._seen = (len(keys), len(tags))
        return self._slots


def _keep_for_commit(names: Names, using: str) -> bool:
    """Keep *names* if a transaction is in progress on *using*; False if there is none."""
    if not _in_transaction(using):
        return False
    if names:
        connection = connections[using]
        # Kept first: if this raises and the application goes on all the same, the commit is where it is asked again.
        _open_batch(connection).names.update(names)
        holds.announce(connection, names)
    return True


test_cases_commit = False
"""Whether the transaction around a TestCase counts as none (`testing.py`): what it holds is there for good, then."""


def has_own_block(connection: BaseDatabaseWrapper) -> bool:
    """Whether the application itself has opened an atomic block, and not only the TestCase around it."""
    return len(connection.atomic_blocks) > holds.blocks_of_test_case(connection)


def end_in_test_case(connection: BaseDatabaseWrapper, *, committed: bool) -> None:
    """
    The application's own transaction inside a TestCase is over: send what it has collected, or forget it.

    Its batches stay where they are, as done: `captureOnCommitCallbacks` counts from a place in that list.
    """
    batches = list(batches_of(connection))
    if committed:
        _send_committed(batches)
    else:
        _take_names(batches)


def _in_transaction(using: str) -> bool:
    connection = connections[using]
    if test_cases_commit and connection.in_atomic_block:
        return has_own_block(connection)
    return is_in_transaction(connection)


def _open_batch(connection: BaseDatabaseWrapper) -> Batch:
    """The batch that goes where a callback registered now would go."""
    stretch = set(connection.savepoint_ids)
    if _is_own_transaction(connection):
        for entry in reversed(connection.run_on_commit[-LOOK_BACK:]):
            batch = _batch_of(entry[1])
            if batch is not None and not batch.sent and entry[0] == stretch:
                return batch
    return _register(connection)


def _register(connection: BaseDatabaseWrapper) -> Batch:
    # `commit_on_exit` is False in an atomic block that was entered with autocommit off.
    by_hand = not connection.in_atomic_block or not connection.commit_on_exit
    batch = Batch(by_hand=by_hand)
    if connection.in_atomic_block:
        transaction.on_commit(batch.send, using=connection.alias, robust=True)
    else:
        # What on_commit() would do, if it did not refuse: with autocommit off, it trusts nobody to run callbacks.
        entry: Any = (set(connection.savepoint_ids), batch.send, True)
        connection.run_on_commit.append(entry)
    return batch


def _is_own_transaction(connection: BaseDatabaseWrapper) -> bool:
    """
    Whether the application itself opened a transaction or savepoint, and not only the TestCase around it.

    In a TestCase a save stands for a transaction of its own: if it joined an earlier batch, a
    `captureOnCommitCallbacks` that began in between would miss it.
    """
    around = holds.blocks_of_test_case(connection)
    return not around or any(savepoint is not None for savepoint in connection.savepoint_ids[around - 1 :])


def _batch_of(callback: Callable[[], object]) -> Batch | None:
    owner = getattr(callback, "__self__", None)
    return owner if isinstance(owner, Batch) else None


def _take_batches(connection: BaseDatabaseWrapper, *, by_hand: bool) -> list[Batch]:
    """Take our callbacks out of *connection*: those that survived every rollback."""
    taken: list[Batch] = []
    rest = []
    for entry in connection.run_on_commit:
        batch = _batch_of(entry[1])
        if batch is not None and (batch.by_hand or not by_hand):
            taken.append(batch)
        else:
            rest.append(entry)
    connection.run_on_commit = rest
    return taken


def _take_names(batches: Iterable[Batch]) -> Names:
    names = Names()
    for batch in batches:
        if not batch.sent:
            batch.sent = True
            attention.active.pop(id(batch), None)
            names.update(batch.names)
    return names


def _names_of_commit(connection: BaseDatabaseWrapper) -> Names:
    """What a commit now would invalidate."""
    names = Names()
    for batch in batches_of(connection):
        names.update(batch.names)
    return names


def batches_of(connection: BaseDatabaseWrapper) -> Iterator[Batch]:
    """What the transaction in progress on *connection* has written, and was not told yet."""
    for entry in connection.run_on_commit:
        batch = _batch_of(entry[1])
        if batch is not None and not batch.sent:
            yield batch


def began_at(connection: BaseDatabaseWrapper) -> int:
    """A time, of the bus' clock, at which the transaction in progress on *connection* cannot have begun yet."""
    began: int = getattr(connection, _BEGAN, 0)  # unknown: nothing that was ever invalidated may be kept
    return began


def _began(connection: BaseDatabaseWrapper) -> None:
    """What is read on *connection* from here on may be as old as now. (`connect()` turns autocommit on or off.)"""
    setattr(connection, _BEGAN, now_ns())


def is_in_transaction(connection: BaseDatabaseWrapper) -> bool:
    """Whether a transaction is in progress on *connection*."""
    # `get_autocommit()` would connect to the database only to say that nothing is going on there.
    return connection.in_atomic_block or (connection.connection is not None and not connection.autocommit)


def is_in_test_case(connection: BaseDatabaseWrapper) -> bool:
    """Whether the transaction in progress on *connection* is the one around a TestCase."""
    return holds.blocks_of_test_case(connection) > 0


def _send_committed(batches: Iterable[Batch], hold: holds.TransactionHold | None = None) -> None:
    """Send what was not sent yet, as one message: that of the release, if it was held. Never raises."""
    names = _take_names(batches)
    if hold is not None:
        names = hold.unheld(names)
    try:
        if names:
            send(names)
    except Exception:
        logger.exception(
            "invalidation_failed keys=%d tags=%d everything=%s", len(names.keys), len(names.tags), names.everything
        )
    finally:
        if hold is not None:
            hold.release()


@functools.cache  # once, however often the app is set up, and whoever else wraps it
def install() -> None:
    """Wrap every method by which a transaction ends."""
    _wrap_commit_hooks()
    _wrap_commit()
    _wrap_rollback()
    _wrap_close()
    _wrap_set_autocommit()
    _wrap_connect()


def _wrap_commit_hooks() -> None:
    original = BaseDatabaseWrapper.run_and_clear_commit_hooks

    @functools.wraps(original)
    def run_and_clear_commit_hooks(self: BaseDatabaseWrapper) -> None:
        if not self.in_atomic_block:  # inside one the original refuses, and says so
            _send_committed(_take_batches(self, by_hand=False))
        original(self)

    BaseDatabaseWrapper.run_and_clear_commit_hooks = run_and_clear_commit_hooks  # type: ignore[method-assign]


def _wrap_commit() -> None:
    original = BaseDatabaseWrapper.commit

    @functools.wraps(original)
    def commit(self: BaseDatabaseWrapper) -> None:
        if not self.in_atomic_block:  # as above
            _ask_before_commit(self)
        try:
            original(self)
        except (InterfaceError, OperationalError):
            if not holds.is_holding(self):  # else nobody caches these names before the hold ends
                _send_committed(list(batches_of(self)))  # the answer may be what was lost
            raise
        _committed(self)
        _began(self)  # after our own invalidations, or what is read from here on would be older than they are

    BaseDatabaseWrapper.commit = commit  # type: ignore[method-assign]


def _wrap_rollback() -> None:
    original = BaseDatabaseWrapper.rollback

    @functools.wraps(original)
    def rollback(self: BaseDatabaseWrapper) -> None:
        original(self)  # if it fails, Django closes the connection
        holds.rolled_back(self)
        _began(self)

    BaseDatabaseWrapper.rollback = rollback  # type: ignore[method-assign]


def _wrap_close() -> None:
    original = BaseDatabaseWrapper.close

    @functools.wraps(original)
    def close(self: BaseDatabaseWrapper) -> None:
        try:
            original(self)
        finally:
            if self.connection is None or self.closed_in_transaction:
                holds.disconnected(self)

    BaseDatabaseWrapper.close = close  # type: ignore[method-assign]


def _wrap_set_autocommit() -> None:
    original = BaseDatabaseWrapper.set_autocommit

    @functools.wraps(original)
    def set_autocommit(self: BaseDatabaseWrapper, autocommit: bool, *args: Any, **kwargs: Any) -> None:
        # Databases that do not refuse this in a transaction commit it.
        may_commit = autocommit and not self.autocommit and not self.in_atomic_block and self.connection is not None
        if may_commit:
            _ask_before_commit(self)
        if not autocommit:
            _began(self)  # before the first statement, by which some databases take their snapshot, and before BEGIN
        original(self, autocommit, *args, **kwargs)
        if may_commit:
            _committed(self)

    BaseDatabaseWrapper.set_autocommit = set_autocommit  # type: ignore[method-assign]


def _wrap_connect() -> None:
    original = BaseDatabaseWrapper.connect

    @functools.wraps(original)
    def connect(self: BaseDatabaseWrapper) -> None:
        holds.disconnected(self)  # from what was there before, if nobody has said so
        self.run_on_commit = []  # as Django does in a moment
        known.add(self)
        cursors.watch(self)
        original(self)

    BaseDatabaseWrapper.connect = connect  # type: ignore[method-assign]


def _ask_before_commit(connection: BaseDatabaseWrapper) -> None:
    """Roll back and raise if strict writes refuse this commit."""
    if not holds.is_needed(connection):
        return
    try:
        holds.before_commit(connection, _names_of_commit(connection))
    except BaseException:  # Ctrl-C, too: see rule 4
        try:
            connection.rollback()
        except Error:
            connection.close()  # as Django does
        raise


def _committed(connection: BaseDatabaseWrapper) -> None:
    hold = holds.take(connection)
    # What Django would run when autocommit is on again waits for that; what was held leaves now.
    _send_committed(_take_batches(connection, by_hand=hold is None), hold)
