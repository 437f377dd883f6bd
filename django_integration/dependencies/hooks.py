"""
Where Django reads, wrapped once: compilers, instances being made of rows, raw cursors.

Rule 1: where nothing records, a wrapper looks at one context variable and is gone.
Rule 2: a query is recorded when it has been sent, and before its rows are handed out. One that fails is recorded, too:
the error may be caught, and is an answer.
Rule 3: queries inside of a query are seen as they are compiled: each of them passes through `as_sql` of a compiler.
"""

from __future__ import annotations

import functools
import itertools
import re
import sys
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any, cast

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

from .queries import Rows, note_from, read_query, read_tables
from .recorder import Recorder, current

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
        self.rows_of = rows_of
        """The query whose rows will be instances."""
        self.rows: Rows | None = None
        self.empty = False
        self.done = False


_sending: ContextVar[_Sending | None] = ContextVar("invalidator_sending", default=None)


@functools.cache  # once, however often the app is set up, and whoever else wraps it
def install() -> None:
    """Wrap them."""
    _wrap_execute()
    for compiler in (SQLCompiler, SQLAggregateCompiler):
        _wrap_as_sql(compiler)
    _wrap_from()
    _wrap_rows()
    _wrap_cursor()
    for expression in (RawSQL, ExtraWhere):
        _wrap_text(expression)


def _wrap_execute() -> None:
    original = SQLCompiler.execute_sql

    @functools.wraps(original)
    def execute_sql(self: Any, *args: Any, **kwargs: Any) -> Any:
        recorder = current()
        if recorder is None or isinstance(self, _WRITES):
            return original(self, *args, **kwargs)
        if (type(self), type(self.connection)) not in _known:
            _get_to_know(self)
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

    SQLCompiler.execute_sql = execute_sql  # type: ignore[method-assign]


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


def _wrap_as_sql(compiler: Any) -> None:
    original = compiler.__dict__["as_sql"]

    @functools.wraps(original)
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

    compiler.as_sql = as_sql


_known: set[tuple[type, type]] = set()
"""Compilers and connections that have met."""


def _get_to_know(compiler: Any) -> None:
    _known.add((type(compiler), type(compiler.connection)))
    for kind in (type(compiler), compiler.connection.ops.compiler("SQLCompiler")):
        _see_through(cast("Any", kind))


@functools.cache  # once for each kind of compiler
def _see_through(compiler: type) -> None:
    """A database's own compiler may have an `as_sql` of its own that does not call Django's."""
    for kind in compiler.__mro__:
        if kind is SQLCompiler:
            break
        if "as_sql" in kind.__dict__ and kind is not SQLAggregateCompiler and not issubclass(kind, _WRITES):
            _wrap_as_sql(kind)


def _wrap_from() -> None:
    original = SQLCompiler.get_from_clause

    @functools.wraps(original)
    def get_from_clause(self: Any) -> Any:
        if current() is not None:
            note_from(self)
        return original(self)

    SQLCompiler.get_from_clause = get_from_clause  # type: ignore[method-assign]


def _wrap_rows() -> None:
    original = ModelIterable.__iter__

    @functools.wraps(original)
    def __iter__(self: Any) -> Iterator[Any]:  # noqa: N807
        rows = original(self)
        return rows if current() is None else _recorded(rows, self.queryset.query)

    ModelIterable.__iter__ = __iter__  # type: ignore[method-assign]


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
    if (seen := sending.rows) is None:
        yield first
        yield from rows
        return
    seen.begin()
    to_come = itertools.chain((first,), rows)
    for row in to_come:
        if not seen.handed_out(row):
            to_come = itertools.chain((row,), to_come)
            break
        yield row
    seen.end()
    yield from to_come


def _wrap_cursor() -> None:
    for name in ("execute", "executemany", "callproc"):
        _wrap_cursor_method(name, getattr(CursorWrapper, name))


def _wrap_cursor_method(name: str, original: Any) -> None:
    @functools.wraps(original)
    def method(self: Any, sql: Any, *args: Any, **kwargs: Any) -> Any:
        recorder = current()
        if recorder is not None and _sending.get() is None:
            _look_at_text(recorder, name, sql)
        return original(self, sql, *args, **kwargs)

    setattr(CursorWrapper, name, method)


def _look_at_text(recorder: Recorder, name: str, sql: object) -> None:
    if name != "callproc" and not _READING_SQL.match(str(sql)):
        return
    frame = sys._getframe(2)  # noqa: SLF001 - the documented way to know who calls
    while frame.f_back is not None and frame.f_globals.get("__name__") in (__name__, "django.db.backends.utils"):
        frame = frame.f_back
    # What a backend wants to know about its own connection is none of the application's data.
    if not frame.f_globals.get("__name__", "").startswith("django.db.backends."):
        recorder.read_unknown("raw SQL", frame)


def _wrap_text(expression: Any) -> None:
    original = expression.as_sql

    @functools.wraps(original)
    def as_sql(self: Any, *args: Any, **kwargs: Any) -> Any:
        recorder = current()
        if recorder is not None:
            text = self.sql if isinstance(self, RawSQL) else " ".join(self.sqls)
            if _SUBSELECT.search(text):
                recorder.read_unknown("a query in RawSQL or extra()", sys._getframe(1))  # noqa: SLF001
        return original(self, *args, **kwargs)

    expression.as_sql = as_sql
