"""
Where Django reads: the methods through which a loader's queries and rows pass.

Rule 1: while nothing is recorded, a replacement looks at one context variable and calls the original.
Rule 2: a query is recorded when it has been sent, and before the loader gets its rows. One that fails is recorded, too:
its error may be caught, and is an answer.
Rule 3: a query inside of a query is recorded as it is compiled: each of them passes through `as_sql` of a compiler.
"""

from __future__ import annotations

import itertools
import re
import sys
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any

from django.core.exceptions import EmptyResultSet
from django.db.backends.utils import CursorWrapper
from django.db.models.expressions import RawSQL
from django.db.models.query import ModelIterable
from django.db.models.sql import Query
from django.db.models.sql.compiler import (
    SQLAggregateCompiler,
    SQLCompiler,
    SQLDeleteCompiler,
    SQLInsertCompiler,
    SQLUpdateCompiler,
)
from django.db.models.sql.where import ExtraWhere

from ..patching import Patches
from .queries import note_from, read_query, read_tables
from .recorder import Recorder, current
from .rows import RowRecorder

_WRITES = (SQLInsertCompiler, SQLDeleteCompiler, SQLUpdateCompiler)
_READING_SQL = re.compile(
    r"\s*(?:(?:--[^\n]*\n|/\*.*?\*/|\()\s*)*(?:select|with|values|table|call|exec)\b", re.IGNORECASE | re.DOTALL
)
_SUBSELECT = re.compile(r"\bselect\b", re.IGNORECASE)
_END = object()


class _Sending:
    """One query being sent, or about to be."""

    __slots__ = ("compilers", "done", "empty", "rows", "rows_of")

    def __init__(self, rows_of: Query | None = None) -> None:
        self.compilers: list[Any] = []
        """Those of the query and of the queries inside it, in the order in which they begin to compile."""
        self.rows_of = rows_of
        """The query whose rows will be instances."""
        self.rows: RowRecorder | None = None
        """What records its rows, if they have to be recorded."""
        self.empty = False
        """Whether it is not sent, because nothing can match."""
        self.done = False


_sending: ContextVar[_Sending | None] = ContextVar("invalidator_sending", default=None)


patches = Patches("Reads of a loader")


@patches.around(SQLCompiler, "execute_sql", "self, ...", why="what a loader reads is recorded when its query is sent")
def _execute_sql(original: Any) -> Any:
    def execute_sql(self: Any, *args: Any, **kwargs: Any) -> Any:
        recorder = current()
        if recorder is None or isinstance(self, _WRITES):
            return original(self, *args, **kwargs)
        if (type(self), type(self.connection)) not in _patched:
            _patch_compiler(self)
        sending, token = _sending.get(), None
        if sending is None or sending.done or sending.rows_of is not self.query:
            sending = _Sending()
            token = _sending.set(sending)
        try:
            result = original(self, *args, **kwargs)
        except BaseException:
            _record_all(recorder, sending)
            raise
        finally:
            sending.done = True
            if token is not None:
                _sending.reset(token)
        _record(recorder, self, sending)
        return result

    return execute_sql


def _record(recorder: Recorder, compiler: Any, sending: _Sending) -> None:
    if sending.empty:
        return
    if len(sending.compilers) > 1:
        for nested in sending.compilers:
            if nested is not compiler:
                read_tables(recorder, nested)
    sending.rows = read_query(recorder, compiler, whole_rows=sending.rows_of is compiler.query)


def _record_all(recorder: Recorder, sending: _Sending) -> None:
    for compiler in sending.compilers:
        read_tables(recorder, compiler)


@patches.around(SQLAggregateCompiler, "as_sql", "self, ...", why="the same, for a query that counts or sums up")
@patches.around(SQLCompiler, "as_sql", "self, ...", why="a query inside a query is recorded when it is compiled")
def _as_sql(original: Any) -> Any:
    def as_sql(self: Any, *args: Any, **kwargs: Any) -> Any:
        recorder = current()
        if recorder is None:
            return original(self, *args, **kwargs)
        sending = _sending.get()
        is_outermost = sending is not None and not sending.compilers
        if sending is not None and not sending.done:
            sending.compilers.append(self)
        try:
            compiled = original(self, *args, **kwargs)
        except EmptyResultSet:
            if sending is not None and is_outermost:
                sending.empty = True
            raise
        if sending is None or sending.done:
            read_tables(recorder, self)  # part of a write
        return compiled

    return as_sql


_own_as_sql = patches.around_each(
    "a database's own compiler, such as SQL Server's",
    "as_sql",
    "self, ...",
    why="the same, if it does not call Django's `as_sql`",
)(_as_sql)

_patched: set[tuple[type, type]] = set()
"""The compilers that have been looked at, each with the class of the connection that it compiles for."""


def _patch_compiler(compiler: Any) -> None:
    """Put `as_sql` on what *compiler* inherits it from, and on what its database makes the compilers of subqueries."""
    for kind in (type(compiler), compiler.connection.ops.compiler("SQLCompiler")):
        for owner in kind.__mro__:
            if owner is SQLCompiler:
                break
            if "as_sql" in owner.__dict__ and owner is not SQLAggregateCompiler and not issubclass(owner, _WRITES):
                _own_as_sql.put_on(owner)
    _patched.add((type(compiler), type(compiler.connection)))  # at the end: another thread goes by it


@patches.around(
    SQLCompiler, "get_from_clause", "self", why="the tables that a query joins are known while it is compiled"
)
def _get_from_clause(original: Any) -> Any:
    def get_from_clause(self: Any) -> Any:
        if current() is not None:
            note_from(self)
        return original(self)

    return get_from_clause


@patches.around(ModelIterable, "__iter__", "self", why="rows are recorded by primary key as a loader takes them")
def _iter(original: Any) -> Any:
    def __iter__(self: Any) -> Iterator[Any]:  # noqa: N807
        rows = original(self)
        return rows if current() is None else _recorded(rows, self.queryset.query)

    return __iter__


def _recorded(rows: Iterator[Any], query: Query) -> Iterator[Any]:
    sending = _Sending(rows_of=query)
    first: Any
    token = _sending.set(sending)
    try:
        first = next(rows, _END)
    finally:
        _sending.reset(token)
    if first is _END:
        return
    if (recording := sending.rows) is None:
        yield first
        yield from rows
        return
    recording.begin()
    to_come = itertools.chain((first,), rows)
    for row in to_come:
        if not recording.record(row):
            to_come = itertools.chain((row,), to_come)
            break
        yield row
    recording.end()
    yield from to_come


@patches.around(CursorWrapper, "executemany", "self, sql, ...", why="SQL of a loader's own is reported as unknown")
@patches.around(CursorWrapper, "execute", "self, sql, ...", why="SQL of a loader's own is reported as unknown")
def _cursor_execute(original: Any) -> Any:
    def execute(self: Any, sql: Any, *args: Any, **kwargs: Any) -> Any:
        recorder = current()
        if recorder is not None and _sending.get() is None and _READING_SQL.match(str(sql)):
            _note_unknown(recorder)
        return original(self, sql, *args, **kwargs)

    return execute


@patches.around(CursorWrapper, "callproc", "self, ...", why="a stored procedure is reported as unknown")
def _cursor_callproc(original: Any) -> Any:
    def callproc(self: Any, *args: Any, **kwargs: Any) -> Any:
        recorder = current()
        if recorder is not None and _sending.get() is None:
            _note_unknown(recorder)
        return original(self, *args, **kwargs)

    return callproc


def _note_unknown(recorder: Recorder) -> None:
    """Note SQL of the application's own, at the line that sends it."""
    frame = sys._getframe(2)  # noqa: SLF001 - the documented way to find the caller
    while frame.f_back is not None and frame.f_globals.get("__name__") in (__name__, "django.db.backends.utils"):
        frame = frame.f_back
    # What a database backend reads about its own connection is not the application's data.
    if not frame.f_globals.get("__name__", "").startswith("django.db.backends."):
        recorder.read_unknown("raw SQL", frame)


@patches.around(ExtraWhere, "as_sql", "self, ...", why="a subquery as text is reported as unknown")
@patches.around(RawSQL, "as_sql", "self, ...", why="a subquery as text is reported as unknown")
def _text_as_sql(original: Any) -> Any:
    def as_sql(self: Any, *args: Any, **kwargs: Any) -> Any:
        recorder = current()
        if recorder is not None:
            text = self.sql if isinstance(self, RawSQL) else " ".join(self.sqls)
            if _SUBSELECT.search(text):
                recorder.read_unknown("a query in RawSQL or extra()", sys._getframe(1))  # noqa: SLF001
        return original(self, *args, **kwargs)

    return as_sql
