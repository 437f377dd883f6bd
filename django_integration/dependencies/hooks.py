"""
Where Django reads: the methods through which a loader's queries and rows pass.

Rule 1: while nothing is recorded, a replacement looks at one context variable and calls the original.
Rule 2: a query is recorded when it has been sent, and before the loader gets its rows. One that fails is recorded, too:
its error may be caught, and is an answer.
Rule 3: a query inside of a query is recorded as it is compiled: each of them passes through `as_sql` of a compiler.
Rule 4: SQL in text is asked for its tables (`tables.py`), wherever it is: in a cursor, or inside a query.
Rule 5: the application gets what Django returns, whatever happens here. A query that cannot be recorded finely is
recorded by all tables that it names; if that fails, too, the value is not kept.
"""

from __future__ import annotations

import functools
import itertools
import sys
from collections.abc import Iterator
from types import FrameType
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
from ..sql.words import text_of
from .queries import note_from, read_query, read_whole_tables
from .recorder import Recorder, current, report
from .rows import RowRecorder, record_known
from .sending import Sending, current_sending, has_query
from .tables import is_understood, read_sql

_WRITES = (SQLInsertCompiler, SQLDeleteCompiler, SQLUpdateCompiler)
_END = object()


patches = Patches("Reads of a loader")


@patches.around(SQLCompiler, "execute_sql", "self, ...", why="what a loader reads is recorded when its query is sent")
def _execute_sql(original: Any) -> Any:
    def execute_sql(self: Any, *args: Any, **kwargs: Any) -> Any:
        recorder = current()
        if recorder is None or isinstance(self, _WRITES):
            return original(self, *args, **kwargs)
        if (type(self), type(self.connection)) not in _patched:
            recorder.fenced(_patch_compiler, self)
        sending, token = current_sending.get(), None
        if sending is None or sending.done or sending.rows_of is not self.query:
            sending = Sending()
            token = current_sending.set(sending)
        try:
            result = original(self, *args, **kwargs)
        except BaseException:
            recorder.fenced(_record_whole, recorder, sending)
            raise
        finally:
            sending.done = True
            if token is not None:
                current_sending.reset(token)
        if not sending.empty:
            _record(recorder, self, sending)
        return result

    return execute_sql


def _record(recorder: Recorder, compiler: Any, sending: Sending) -> None:
    try:
        if all(map(is_understood, sending.compilers)) and not sending.holds_more():
            for nested in sending.compilers:
                if nested is not compiler:
                    read_whole_tables(recorder, nested)
            sending.rows = read_query(recorder, compiler, whole_rows=sending.rows_of is compiler.query)
            return
    except Exception as error:  # noqa: BLE001 - whatever it is, it is ours
        report(error, "a query was recorded by its tables as wholes")
    recorder.fenced(_record_whole, recorder, sending)


def _record_whole(recorder: Recorder, sending: Sending) -> None:
    """Record every table that the query names in any way."""
    for compiler in sending.compilers:
        read_whole_tables(recorder, compiler)
    if sending.sql is not None:
        read_sql(recorder, sending.sql, sys._getframe())  # noqa: SLF001


@patches.around(SQLAggregateCompiler, "as_sql", "self, ...", why="the same, for a query that counts or sums up")
@patches.around(SQLCompiler, "as_sql", "self, ...", why="a query inside a query is recorded when it is compiled")
def _as_sql(original: Any) -> Any:
    def as_sql(self: Any, *args: Any, **kwargs: Any) -> Any:
        recorder = current()
        if recorder is None:
            return original(self, *args, **kwargs)
        sending = current_sending.get()
        if sending is None or sending.done:
            compiled = original(self, *args, **kwargs)
            recorder.fenced(
                read_whole_tables, recorder, self
            )  # part of a write, whose SQL is looked at when it is sent
            return compiled
        is_outermost = not sending.compilers
        sending.compilers.append(self)
        try:
            compiled = original(self, *args, **kwargs)
        except EmptyResultSet:
            sending.empty = sending.empty or is_outermost
            raise
        recorder.fenced(_note_sql, sending, compiled, is_outermost)
        return compiled

    return as_sql


def _note_sql(sending: Sending, compiled: Any, is_outermost: bool) -> None:
    if is_outermost:
        sending.sql = compiled[0]
    else:
        sending.inner.append(compiled[0])


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
        if (recorder := current()) is not None:
            recorder.fenced(note_from, self)
        return original(self)

    return get_from_clause


@patches.around(ModelIterable, "__iter__", "self", why="rows are recorded by primary key as a loader takes them")
def _iter(original: Any) -> Any:
    def __iter__(self: Any) -> Iterator[Any]:  # noqa: N807
        rows = original(self)
        if (recorder := current()) is None:
            return rows  # type: ignore[no-any-return]
        if known := self.queryset._known_related_objects:  # noqa: SLF001 - of a related manager
            recorder.fenced(record_known, recorder, known)
        return _recorded(recorder, rows, self.queryset.query)

    return __iter__


def _recorded(recorder: Recorder, rows: Iterator[Any], query: Query) -> Iterator[Any]:
    sending = Sending(rows_of=query)
    first: Any
    token = current_sending.set(sending)
    try:
        first = next(rows, _END)
    finally:
        current_sending.reset(token)
    if first is _END:
        return
    if (recording := sending.rows) is None:
        yield first
        yield from rows
        return
    recorder.fenced(recording.begin)
    to_come = itertools.chain((first,), rows)
    for row in to_come:
        if not _record_row(recorder, recording, row):
            to_come = itertools.chain((row,), to_come)
            break
        yield row
    recorder.fenced(recording.end)
    yield from to_come


def _record_row(recorder: Recorder, recording: RowRecorder, row: Any) -> bool:
    """Record *row*. Returns False if those after it need not be recorded."""
    try:
        return recording.record(row)
    except Exception as error:  # noqa: BLE001 - whatever it is, it is ours
        report(error, "rows were recorded by their tables as wholes")
        recorder.fenced(recording.give_up)
        return False


@patches.around(CursorWrapper, "executemany", "self, sql, ...", why="SQL of a loader's own is asked for its tables")
@patches.around(CursorWrapper, "execute", "self, sql, ...", why="SQL of a loader's own is asked for its tables")
def _cursor_execute(original: Any) -> Any:
    def execute(self: Any, sql: Any, *args: Any, **kwargs: Any) -> Any:
        if (recorder := current()) is not None and not _is_being_sent(sql):
            recorder.fenced(_read_text, recorder, sql, self)
        return original(self, sql, *args, **kwargs)

    return execute


def _is_being_sent(sql: Any) -> bool:
    """Whether *sql* is that of the ORM's query that is being sent, which is recorded as such."""
    sending = current_sending.get()
    return sending is not None and not sending.done and sql == sending.sql


@patches.around(CursorWrapper, "callproc", "self, procname, ...", why="a stored procedure is reported as unknown")
def _cursor_callproc(original: Any) -> Any:
    def callproc(self: Any, procname: Any, *args: Any, **kwargs: Any) -> Any:
        if (recorder := current()) is not None:
            recorder.fenced(_read_procedure, recorder, procname)
        return original(self, procname, *args, **kwargs)

    return callproc


_DRIVERS_READS = frozenset({"callfunc", "copy", "copy_expert", "copy_to", "stream"})
"""Methods of drivers' cursors that read: of oracledb and psycopg."""


@patches.around(
    CursorWrapper, "__getattr__", "self, attr", why="the same, for `copy` and `stream` of a driver's cursor"
)
def _cursor_getattr(original: Any) -> Any:
    def __getattr__(self: Any, attr: str) -> Any:  # noqa: N807
        found = original(self, attr)
        if attr in _DRIVERS_READS and (recorder := current()) is not None and callable(found):
            return recorder.fenced(_reading, recorder, found, self) or found
        return found

    return __getattr__


def _reading(recorder: Recorder, method: Any, cursor: Any) -> Any:
    """*method* of a driver, recording what it reads when it is called."""
    name = method.__name__

    @functools.wraps(method)
    def read(*args: Any, **kwargs: Any) -> Any:
        if name == "callfunc":
            recorder.fenced(_read_procedure, recorder, *args[:1])
        else:
            recorder.fenced(_read_of_driver, recorder, name, cursor, args, kwargs)
        return method(*args, **kwargs)

    return read


def _read_of_driver(recorder: Recorder, name: str, cursor: Any, args: Any, kwargs: Any) -> None:
    if name == "copy_to":  # of psycopg2: a file and a table
        sql = f"COPY {args[1] if len(args) > 1 else kwargs['table']} TO STDOUT"
    else:
        sql = args[0] if args else next(kwargs[key] for key in ("statement", "query", "sql") if key in kwargs)
    _read_text(recorder, sql, cursor)


def _read_text(recorder: Recorder, sql: Any, cursor: Any) -> None:
    """Record what the application's own *sql* reads, sent by the line that called a method of a cursor."""
    frame = _sender()
    # What a database backend reads about its own connection is not the application's data.
    if not _is_in(frame, "django.db.backends.", "django.contrib.postgres.", "django.contrib.gis.db.backends."):
        read_sql(recorder, text_of(sql, cursor.cursor), frame)


def _read_procedure(recorder: Recorder, name: object) -> None:
    recorder.read_unknown(f"the procedure {name!r}", _sender())


def _sender() -> FrameType | None:
    """The frame that called a method of a cursor."""
    frame: FrameType | None = sys._getframe()  # noqa: SLF001 - the documented way to find the caller
    while _is_in(frame, "django_integration.", "django.db.backends.utils"):
        frame = frame and frame.f_back
    return frame


def _is_in(frame: FrameType | None, *modules: str) -> bool:
    return frame is not None and str(frame.f_globals.get("__name__", "")).startswith(modules)


@patches.around(ExtraWhere, "as_sql", "self, ...", why="a subquery in text is asked for its tables")
@patches.around(RawSQL, "as_sql", "self, ...", why="a subquery in text is asked for its tables")
def _text_as_sql(original: Any) -> Any:
    def as_sql(self: Any, *args: Any, **kwargs: Any) -> Any:
        if (recorder := current()) is not None:
            recorder.fenced(_read_part, recorder, (self.sql,) if isinstance(self, RawSQL) else self.sqls)
        return original(self, *args, **kwargs)

    return as_sql


def _read_part(recorder: Recorder, texts: Any) -> None:
    sending = current_sending.get()
    for text in filter(has_query, texts):
        read_sql(recorder, f"SELECT ({text})", sys._getframe())  # noqa: SLF001
        if sending is not None:
            sending.recorded.append(text)
