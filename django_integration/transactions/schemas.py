"""
Where the tables of a connection are, if SQL of the application's own has said so: `SET search_path`, `USE`.

The same query then reads other tables, so what it gives belongs to that schema (`reads/context.py`).

Rule 1: until this process runs such a statement, nobody asks for a schema. From then on everybody does.
Rule 2: nothing is concluded from the text of a statement: it may be local to a transaction, and be rolled back. The
database is asked, once after each statement that may have chosen another schema, and after each end of a transaction or
savepoint in which one was.
Rule 3: what cannot be told (the transaction is broken, or a coroutine asks, which may use any connection) is equal to
nothing: no value is shared.
"""

from __future__ import annotations

import asyncio
import itertools
import re
from collections.abc import Callable
from typing import Any, NamedTuple

from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper

from .progress import began_at, is_in_transaction, known

_STATE = "_invalidator_schema"
"""Where a connection on which a schema may have been chosen keeps what is known of it."""


class _Chooser(NamedTuple):
    may_choose: re.Pattern[str]
    question: str


_CHOOSERS = {
    "postgresql": _Chooser(
        re.compile(
            r"search_path|\b(?:SET\s+(?:SESSION\s+|LOCAL\s+)?(?:SCHEMA|ROLE|SESSION\s+AUTHORIZATION)|RESET|DISCARD)\b",
            re.IGNORECASE,
        ),
        "SELECT current_setting('search_path'), current_user",
    ),
    "mysql": _Chooser(re.compile(r"(?:\A|;)\s*USE\b", re.IGNORECASE), "SELECT DATABASE()"),
    "oracle": _Chooser(
        re.compile(r"\bCURRENT_SCHEMA\b", re.IGNORECASE), "SELECT SYS_CONTEXT('USERENV', 'CURRENT_SCHEMA') FROM DUAL"
    ),
}
"""By vendor: the statements after which the database has to be asked, and how."""


class _State:
    """What is known of the schema of one connection."""

    __slots__ = ("began_at", "in_transaction", "session", "text")

    def __init__(self, connection: BaseDatabaseWrapper) -> None:
        self.session: Any = connection.connection
        """The driver's: a new one begins with the schema of the settings."""
        self.text: str | None = None
        """None while the database has to be asked."""
        self.in_transaction = is_in_transaction(connection)
        """Whether the schema was chosen in a transaction, whose end may take it back."""
        self.began_at = 0
        """Of that transaction."""


class Schemas:
    """
    The schemas of this process' connections.

    Attributes:
        are_chosen: whether any statement may have chosen one.
        on_first: called when that becomes true.
    """

    def __init__(self) -> None:
        self.are_chosen = False
        self.on_first: list[Callable[[], object]] = []

    def may_choose(self, connection: BaseDatabaseWrapper, text: str) -> bool:
        """Whether *text* may choose a schema: then `chosen` has to be called before it is run, and after."""
        chooser = _CHOOSERS.get(connection.vendor)
        return chooser is not None and chooser.may_choose.search(text) is not None

    def chosen(self, connection: BaseDatabaseWrapper) -> None:
        """A statement on *connection* may have chosen a schema."""
        connection.__dict__[_STATE] = _State(connection)
        if not self.are_chosen:
            self.are_chosen = True
            for callback in self.on_first:
                callback()

    def ended(self, connection: BaseDatabaseWrapper) -> None:
        """A statement has ended a transaction or a savepoint on *connection*, or begun one."""
        state = connection.__dict__.get(_STATE)
        if state is not None and state.in_transaction:
            state.text = None

    def here_in_threads(self) -> str:
        """`here`, but "" in a coroutine, where the caller knows better."""
        return "" if is_in_a_coroutine() else self.here()

    def here(self) -> str:
        """The schemas that were chosen on the connections of this thread; a text like no other, if it is not known."""
        if is_in_a_coroutine():
            texts = {_known_schema_of(connection) for connection in list(known)}
            return texts.pop() if len(texts) == 1 else nothing_known()
        return "".join(map(_schema_of, connections.all(initialized_only=True)))


schemas = Schemas()


def is_in_a_coroutine() -> bool:
    """Whether the caller may use the connection of any thread."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def _schema_of(connection: BaseDatabaseWrapper) -> str:
    """What was chosen on *connection*, which is this thread's; "" if nothing."""
    state: _State | None = connection.__dict__.get(_STATE)
    if state is None:
        return ""
    if state.session is not connection.connection:
        del connection.__dict__[_STATE]
        return ""
    if state.text is None or (state.in_transaction and state.began_at != began_at(connection)):
        state.in_transaction = state.in_transaction and is_in_transaction(connection)
        state.began_at = began_at(connection)
        state.text = _ask(connection)
    return state.text or nothing_known()


def _known_schema_of(connection: BaseDatabaseWrapper) -> str:
    """The same of any connection, without asking."""
    state: _State | None = connection.__dict__.get(_STATE)
    if state is None or state.session is not connection.connection:
        return ""
    return nothing_known() if state.text is None or state.in_transaction else state.text


def _ask(connection: BaseDatabaseWrapper) -> str | None:
    try:
        # The driver's own cursor: this is no query of the application's.
        with connection.connection.cursor() as cursor:
            cursor.execute(_CHOOSERS[connection.vendor].question)
            return f"{connection.alias}={cursor.fetchone()!r} "
    except Exception:  # noqa: BLE001 - the transaction is broken, or the connection lost: the application will see
        return None


_numbers = itertools.count()


def nothing_known() -> str:
    """Return a text like no other."""
    return f"unknown {next(_numbers)}"
