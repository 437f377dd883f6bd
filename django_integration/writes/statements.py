"""
Writes that send no signals, taken where Django turns them into SQL: updates, inserts and deletes of whatever origin.

`QuerySet.update`, `bulk_create`, `bulk_update`, fast deletes, the links of many-to-many relations and the managers of
reverse relations all end in one of three compilers' `execute_sql`. It knows the model, the columns and the objects, and
its WHERE says whether the rows are named by their primary keys.

Rule 1: no query is added, unless an `@invalidates` function wants to see the rows (`_Rows`).
Rule 2: only what has run, and has changed a row as far as the database says, is told; and, where the connection
was lost outside a transaction, what may have.
Rule 3: `Model.save` and `Collector.delete` tell by themselves (`writes.py`). They mark the one statement they are about
to send, and no other: what a signal receiver or a field's `pre_save` writes meanwhile is told here.
Rule 4: rows named by key are known rows, up to `KNOWN_ROWS`; others are unknown rows.
"""

from __future__ import annotations

import contextlib
import copy
import functools
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal

from django.db import InterfaceError, OperationalError, connections, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import Model, QuerySet
from django.db.models.constants import OnConflict
from django.db.models.expressions import Col
from django.db.models.lookups import Exact, In
from django.db.models.sql.compiler import SQLCompiler, SQLDeleteCompiler, SQLInsertCompiler, SQLUpdateCompiler
from django.db.models.sql.query import Query
from django.db.models.sql.where import AND, WhereNode

from ..names import Names, concrete_of, ends_of, has_expressions, plan_of
from ..patching import Patches
from ..transactions.outgoing import collect, own_transaction

KNOWN_ROWS = 500
"""Rows of one statement that are named one by one; of more, a message would be longer than the caches it spares."""

Verb = Literal["insert", "update", "delete"]

_STATEMENT = "_invalidator_statement"
"""Where a connection keeps the `Statement` in progress. A connection belongs to one thread or task."""
_TOLD = "_invalidator_told"
"""Where it keeps the mark of rule 3: a verb, and the model, or the row for an insert."""


class Statement:
    """One statement of the ORM on its way to the database."""

    __slots__ = ("compiled", "compiler", "ran", "rows")

    def __init__(self, compiler: SQLCompiler) -> None:
        self.compiler = compiler
        self.compiled = False
        """Whether the SQL is made: before that, what is sent is somebody else's, such as a field's `pre_save`."""
        self.ran = False
        self.rows = 0
        """Rows changed so far, -1 if the database does not say."""

    def has_run(self, cursor: Any) -> None:
        """Note what *cursor* says of a part of this statement."""
        # With RETURNING the count is right only after the last row was fetched.
        rows: int = -1 if cursor.description else cursor.rowcount
        self.rows = -1 if rows < 0 or self.rows < 0 else self.rows + rows
        self.ran = True


def compiled_statement(connection: BaseDatabaseWrapper) -> Statement | None:
    """Return the ORM's own statement that *connection* is about to run; None if the SQL is somebody else's."""
    statement: Statement | None = connection.__dict__.get(_STATEMENT)
    return statement if statement is not None and statement.compiled else None


@contextlib.contextmanager
def told(verb: Verb, target: object, using: str) -> Iterator[None]:
    """Mark the statement that is about to be sent as told by who sends it: the row of an insert, a model otherwise."""
    state = connections[using].__dict__
    before = state.get(_TOLD)
    state[_TOLD] = (verb, target)
    try:
        yield
    finally:
        state[_TOLD] = before


def _as_sql(original: Any) -> Any:
    def as_sql(self: SQLCompiler, *args: Any, **kwargs: Any) -> Any:
        sql = original(self, *args, **kwargs)
        statement: Statement | None = self.connection.__dict__.get(_STATEMENT)
        if statement is not None:
            statement.compiled = True
        return sql

    return as_sql


def _execute_sql(verb: Verb, kind: type[_Rows], original: Any) -> Any:
    def execute(self: SQLCompiler, *args: Any, **kwargs: Any) -> Any:
        state = self.connection.__dict__
        outer, mark = state.get(_STATEMENT), state.get(_TOLD)
        if outer is not None and outer.compiler is self:
            return original(self, *args, **kwargs)  # one of the methods makes use of the other
        statement = Statement(self)
        state[_STATEMENT], state[_TOLD] = statement, None
        try:
            if _is_told(mark, verb, self.query) or not plan_of(_model_of(self.query), self.connection.alias).is_watched:
                return original(self, *args, **kwargs)
            return _execute(self, statement, kind(self), lambda: original(self, *args, **kwargs))
        finally:
            state[_STATEMENT], state[_TOLD] = outer, mark

    return execute


def _is_told(mark: tuple[Verb, object] | None, verb: Verb, query: Any) -> bool:
    if mark is None or mark[0] != verb:
        return False
    if verb == "insert":
        return len(query.objs) == 1 and query.objs[0] is mark[1]
    return _model_of(query) is mark[1]


def _execute(compiler: SQLCompiler, statement: Statement, rows: _Rows, original: Callable[[], Any]) -> Any:
    using = rows.using
    with rows.transaction():
        rows.before()
        try:
            result = original()
        except (InterfaceError, OperationalError):
            if not compiler.connection.in_atomic_block:
                collect(rows.names(-1, None), using)  # the answer may be what was lost
            raise
        if not statement.ran or statement.rows == 0:
            return result
        names = Names(everything=True)
        try:
            names = rows.names(statement.rows, result)
            names.update(rows.after(statement.rows, result))
        finally:
            collect(names, using)
    return result


class _Rows:
    """The rows of one statement, and what they are called."""

    def __init__(self, compiler: SQLCompiler) -> None:
        self.query: Any = compiler.query
        self.using = compiler.connection.alias
        self.model = _model_of(self.query)
        self.pks: Collection[object] | None = None
        self.seen = Names()
        """What functions named for the rows before the statement."""
        self.plan = plan_of(self.model, self.using)
        self.wanted = self.plan.has_functions
        self.read = self.wanted and not self.plan.is_historical

    def transaction(self) -> contextlib.AbstractContextManager[object]:
        """What the statement needs around it: rows that a function has seen must be those that are written."""
        connection = connections[self.using]
        if self.wanted and not connection.in_atomic_block and connection.get_autocommit():
            return transaction.atomic(using=self.using)
        return own_transaction(self.using)

    def before(self) -> None:
        """Read what functions want to see, as it is before."""

    def names(self, count: int, result: Any) -> Names:
        """Return the tags of *count* rows (-1: not known); *result* is what the compiler has returned, if it has."""
        raise NotImplementedError

    def after(self, count: int, result: Any) -> Names:
        """Return what functions name for these rows before and after; everything if that is not known."""
        # A migration's model sends no signal that we receive for what it links.
        return Names(everything=self.wanted or (self.plan.is_historical and self.plan.links_wanted()))

    def _were_read(self, count: int) -> bool:
        """Whether the rows that were written are those that were read before."""
        return self.pks is not None and 0 <= count <= len(self.pks)

    def _known(self, count: int) -> Collection[object] | None:
        """The primary keys of the rows of an update or delete, if they are known and not too many."""
        return self.pks if self._were_read(count) else self._found()

    def _found(self) -> Collection[object] | None:
        """Those in its WHERE."""
        return _few(_values_in(self.query, lambda column: column.primary_key and column.model is self.model))

    def _read_found(self) -> None:
        if not self.read:
            return
        self.pks = self._found()
        if self.pks is None:
            self.pks = _few(_select_keys(self.query, self.model, self.using))
        if self.pks is not None:
            self.plan.add_functions_in_database(self.seen, list(self.pks), lock=True)


class _Update(_Rows):
    def before(self) -> None:
        self._read_found()

    def names(self, count: int, result: Any) -> Names:
        names = Names()
        columns = {field.attname: value for field, _, value in self.query.values}
        pks = self._known(count)
        if pks is None or any(field.primary_key for field, _, _ in self.query.values):
            pks = None
        else:
            self.plan.add_columns(names, columns)
        self.plan.add_rows(names, pks, _ends(self.query, self.model, columns))
        return names

    def after(self, count: int, result: Any) -> Names:
        if self.pks is None or not self._were_read(count):
            return super().after(count, result)
        self.plan.add_functions_in_database(self.seen, list(self.pks))
        return self.seen


class _Delete(_Rows):
    def before(self) -> None:
        self._read_found()

    def names(self, count: int, result: Any) -> Names:
        names = Names()
        self.plan.add_rows(names, self._known(count), _ends(self.query, self.model, {}))
        self.plan.add_dependents(names)
        return names

    def after(self, count: int, result: Any) -> Names:
        if not self._were_read(count):
            return super().after(count, result)
        return self.seen


class _Insert(_Rows):
    def names(self, count: int, result: Any) -> Names:
        names = Names()
        if len(self.query.objs) > KNOWN_ROWS:
            self.plan.add_table(names)
            return names
        updates = self.query.on_conflict is OnConflict.UPDATE
        for row in self._rows(result):
            self.plan.add_written(names, row, own_table=True)
        if updates:
            self.plan.add_columns(names, [column.name for column in self.query.update_fields])
        return names

    def after(self, count: int, result: Any) -> Names:
        if not self.wanted:
            return super().after(count, result)
        rows = list(self._rows(result))
        # Who was there before a conflict, nobody has read; and a name made of a key that is not known is none.
        if not self.read or self.query.on_conflict is not None or any(row.pk is None for row in rows):
            return Names(everything=True)
        names = Names()
        for row in rows:
            if has_expressions(row):
                self.plan.add_functions_in_database(names, [row.pk])
            else:
                self.plan.add_functions(names, row)
        return names

    def _rows(self, result: Any) -> Iterator[Model]:
        """The objects with the keys that they have now: Django will set them only in a moment."""
        objs: Sequence[Model] = self.query.objs
        keys = self._returned_keys(result)
        own = self.query.on_conflict is not OnConflict.UPDATE or self._conflicts_by_key()
        for index, given in enumerate(objs):
            if keys is None and own:
                yield given
                continue
            row = copy.copy(given)
            # On a conflict it was the row that was there, whose key is its own.
            setattr(row, self.model._meta.pk.attname, keys[index] if keys else None)
            yield row

    def _returned_keys(self, result: Any) -> list[object] | None:
        columns = self.returning or ()
        key = self.model._meta.pk
        if not result or len(result) != len(self.query.objs) or key not in columns:
            return None
        position = list(columns).index(key)
        return [values[position] for values in result]

    def _conflicts_by_key(self) -> bool:
        return [column.primary_key for column in self.query.unique_fields] == [True]

    def __init__(self, compiler: SQLCompiler) -> None:
        super().__init__(compiler)
        self._compiler: Any = compiler

    @property
    def returning(self) -> Iterable[Any] | None:
        """The columns that the statement returns."""
        columns: Iterable[Any] | None = self._compiler.returning_fields
        return columns


def _model_of(query: Any) -> type[Model]:
    return concrete_of(query.get_meta().model)


def _ends(query: Any, model: type[Model], written: Mapping[str, object]) -> dict[str, list[object]]:
    """What the foreign keys of a through *model* hold in the rows of *query*, as far as its WHERE names them."""
    ends: dict[str, list[object]] = {}
    for key in ends_of(model):
        found = _few(_values_in(query, lambda column, key=key: column is key))  # type: ignore[misc]
        if found is None:
            continue
        ends[key.attname] = list(found)
        if key.attname in written:
            value = written[key.attname]
            if isinstance(value, Model):
                value = value.pk
            if hasattr(value, "resolve_expression"):
                del ends[key.attname]
            else:
                ends[key.attname].append(value)
    return ends


def _few(values: Collection[object] | None) -> Collection[object] | None:
    return values if values is not None and len(values) <= KNOWN_ROWS else None


def _values_in(query: Any, is_wanted: Callable[[Any], bool]) -> Collection[object] | None:
    """The values to one of which *query* binds a column of its own table; None if it does not."""
    for lookup in _conditions(query.where):
        left, right = lookup.lhs, lookup.rhs
        if not isinstance(left, Col) or left.alias != query.base_table or not is_wanted(left.target):
            continue
        if lookup.bilateral_transforms or not lookup.rhs_is_direct_value():
            continue
        values = [right] if isinstance(lookup, Exact) else list(right)
        if not any(hasattr(value, "resolve_expression") for value in values):
            return [value for value in values if value is not None]
    return None


def _conditions(node: Any) -> Iterator[Any]:
    """The lookups by equality that all rows of a WHERE fulfil."""
    if isinstance(node, WhereNode):
        if node.connector == AND and not node.negated:
            for child in node.children:
                yield from _conditions(child)
    elif isinstance(node, Exact | In) and type(node).__module__.startswith("django."):
        yield node  # one of somebody else's may find more than what is equal


def _select_keys(query: Any, model: type[Model], using: str) -> Collection[object] | None:
    """Read the primary keys of the rows that *query* is about to write, and lock them where that is simple."""
    select = query.chain(klass=Query)
    select.clear_ordering(force=True)
    select.clear_select_clause()
    rows: QuerySet[Any, Any] = QuerySet(model=model, query=select, using=using)
    features = connections[using].features
    if features.has_select_for_update and len(select.alias_map) <= 1 and not select.distinct and not select.group_by:
        rows = rows.select_for_update(no_key=features.has_select_for_no_key_update)
    return list(rows.values_list("pk", flat=True)[: KNOWN_ROWS + 1])


patches = Patches("Statements of the ORM")


def _watch(compiler: Any, verb: Verb, kind: type[_Rows], why: str) -> None:
    before = f"a query that a field sends before the {verb} is not taken for it"
    patches.around(compiler, "as_sql", "self, ...", why=before)(_as_sql)
    patches.around(compiler, "execute_sql", "self, ...", why=why)(functools.partial(_execute_sql, verb, kind))


_watch(SQLInsertCompiler, "insert", _Insert, "`bulk_create` and many-to-many relations send no signal for a row")
_watch(SQLUpdateCompiler, "update", _Update, "`QuerySet.update` and `bulk_update` send no signal")
_watch(SQLDeleteCompiler, "delete", _Delete, "deletes without reading the rows first send no signal")
patches.around(
    SQLUpdateCompiler,
    "execute_returning_sql",
    "self, returning_fields",
    why="the same, for an update that returns columns",
    since=(6, 0),
)(functools.partial(_execute_sql, "update", _Update))
