"""
Writes that send no signals, seen where Django turns them into SQL: updates, inserts and deletes, wherever they begin.

`QuerySet.update`, `bulk_create`, `bulk_update`, fast deletes, the links of many-to-many relations and the managers of
reverse relations all end in `execute_sql` of one of three compilers. The compiler knows the model, the columns and the
objects, and the WHERE of its query shows whether the rows are chosen by primary key.

Rule 1: no query is added, unless an `@invalidates` function wants to see the rows (`_Rows`).
Rule 2: a statement is published if it has run and, as far as the database reports, has changed a row. If the
connection was lost outside a transaction, or if something else than the database ended it (a time limit that strikes
while it runs, a wrapper of the application's), it may have changed rows, and is published as well.
Rule 3: `Model.save` and `Collector.delete` publish their rows themselves (`saves.py`). They mark the one statement that
they are about to send, and no other: what a signal receiver or a field's `pre_save` writes meanwhile is published here.
Rule 4: rows chosen by primary key are known rows, up to `KNOWN_ROWS`; all others are unknown rows.
Rule 5: what cannot be told of a statement is told more coarsely (`names/fences.py`); the statement runs all the same.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal

from django.db import Error, InterfaceError, OperationalError, connections, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import Model, QuerySet
from django.db.models.constants import OnConflict
from django.db.models.expressions import Col
from django.db.models.lookups import Exact, In
from django.db.models.sql.compiler import SQLCompiler, SQLDeleteCompiler, SQLInsertCompiler, SQLUpdateCompiler
from django.db.models.sql.query import Query
from django.db.models.sql.where import AND, WhereNode

from ..names import Names, WritePlan, clone_of, concrete_of, ends_of, fence, plan_of
from ..patching import Patches
from ..transactions.outgoing import collect, own_transaction

KNOWN_ROWS = 500
"""
Rows of one statement that are named one by one. Of more rows the message would cost more than the entries that it
spares, so they become unknown rows.
"""

Verb = Literal["insert", "update", "delete"]

_STATEMENT = "_invalidator_statement"
"""Where a connection keeps the `Statement` in progress. A connection belongs to one thread or task."""
_HANDLED = "_invalidator_handled_by_caller"
"""Where it keeps the mark of rule 3: a verb, and the row of an insert or the model of an update or delete."""


class Statement:
    """One statement of the ORM on its way to the database."""

    __slots__ = ("compiled", "compiler", "ran", "rows")

    def __init__(self, compiler: SQLCompiler) -> None:
        self.compiler = compiler
        self.compiled = False
        """Whether the SQL has been made. What is sent before is another write, such as that of a field's `pre_save`."""
        self.ran = False
        self.rows = 0
        """Rows changed so far; -1 if the database does not report it."""

    def has_run(self, cursor: Any) -> None:
        """Count the rows that *cursor* has changed for this statement, which Django may send in several parts."""
        # With RETURNING the count is right only once the last row has been fetched.
        rows: int = -1 if cursor.description else cursor.rowcount
        self.rows = -1 if rows < 0 or self.rows < 0 else self.rows + rows
        self.ran = True

    def may_have_run(self, error: BaseException) -> bool:
        """Whether the statement may have changed rows, though it ended with *error*."""
        if isinstance(error, InterfaceError | OperationalError):
            return not self.compiler.connection.in_atomic_block  # its answer may have been lost
        return self.compiled and not isinstance(error, Error)


def compiled_statement(connection: BaseDatabaseWrapper) -> Statement | None:
    """Return the statement of the ORM that *connection* is about to run; None if the SQL is the application's own."""
    statement: Statement | None = connection.__dict__.get(_STATEMENT)
    return statement if statement is not None and statement.compiled else None


@contextlib.contextmanager
def handled_by_caller(verb: Verb, target: object, using: str) -> Iterator[None]:
    """
    Mark the statement that the caller sends in this block: the caller publishes its rows itself.

    Args:
        target: the row of an insert, or the model of an update or delete.
    """
    state = connections[using].__dict__
    before = state.get(_HANDLED)
    state[_HANDLED] = (verb, target)
    try:
        yield
    finally:
        state[_HANDLED] = before


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
        outer, mark = state.get(_STATEMENT), state.get(_HANDLED)
        if outer is not None and outer.compiler is self:
            return original(self, *args, **kwargs)  # one of the wrapped methods calls another
        statement = Statement(self)
        state[_STATEMENT], state[_HANDLED] = statement, None
        try:
            plan = plan_of(_model_of(self.query), self.connection.alias)
            if not plan.is_watched:
                return original(self, *args, **kwargs)
            if _is_handled_by_caller(mark, verb, self.query):
                return _execute_handled(statement, plan, lambda: original(self, *args, **kwargs))
            return _execute(statement, kind(self), lambda: original(self, *args, **kwargs))
        finally:
            state[_STATEMENT], state[_HANDLED] = outer, mark

    return execute


def _is_handled_by_caller(mark: tuple[Verb, object] | None, verb: Verb, query: Any) -> bool:
    if mark is None or mark[0] != verb:
        return False
    if verb == "insert":
        return len(query.objs) == 1 and query.objs[0] is mark[1]
    return _model_of(query) is mark[1]


def _execute_handled(statement: Statement, plan: WritePlan, original: Callable[[], Any]) -> Any:
    try:
        return original()
    except BaseException as error:
        if statement.may_have_run(error):
            _collect_coarsely(plan)
        raise


def _execute(statement: Statement, rows: _Rows, original: Callable[[], Any]) -> Any:
    with rows.transaction():
        rows.before()
        try:
            result = original()
        except BaseException as error:
            if statement.may_have_run(error):
                _collect_coarsely(rows.plan)
            raise
        if not statement.ran or statement.rows == 0:
            return result
        names = Names()
        try:
            with fence(names, rows.plan):
                names.update(rows.names(statement.rows, result))
            names.update(rows.after(statement.rows, result))
        except BaseException:
            names.everything = True
            raise
        finally:
            collect(names, rows.using)
    return result


def _collect_coarsely(plan: WritePlan) -> None:
    names = Names()
    with fence(names, plan):
        plan.add_coarsely(names)
    collect(names, plan.using)


class _Rows:
    """The rows of one statement, and the names of their change."""

    def __init__(self, compiler: SQLCompiler) -> None:
        self.query: Any = compiler.query
        self.using = compiler.connection.alias
        self.model = _model_of(self.query)
        self.pks: Collection[object] | None = None
        self.seen = Names()
        """The names that functions gave the rows before the statement."""
        self.plan = plan_of(self.model, self.using)
        self.wanted = self.plan.has_functions
        self.read = self.wanted and not self.plan.is_historical

    def transaction(self) -> contextlib.AbstractContextManager[object]:
        """A transaction, if a function reads the rows before: no other writer may come between reading and writing."""
        connection = connections[self.using]
        if self.wanted and not connection.in_atomic_block and connection.get_autocommit():
            return transaction.atomic(using=self.using)
        return own_transaction(self.using)

    def before(self) -> None:
        """Read the rows that functions want to see, as they are before the statement."""

    def names(self, count: int, result: Any) -> Names:
        """
        Return the tags of the rows that were written.

        Args:
            count: how many there are; -1 if that is not known.
            result: what the compiler has returned; None if it has raised.
        """
        raise NotImplementedError

    def after(self, count: int, result: Any) -> Names:
        """Return the names that functions give the rows before and after; everything if they cannot be asked."""
        # A migration's model links rows, and no signal of it reaches us.
        return Names(everything=self.wanted or (self.plan.is_historical and self.plan.links_wanted()))

    def _were_read(self, count: int) -> bool:
        """Whether every row that was written is one that was read before."""
        return self.pks is not None and 0 <= count <= len(self.pks)

    def _known(self, count: int) -> Collection[object] | None:
        """The primary keys of the rows of an update or delete; None if they are not known, or too many."""
        return self.pks if self._were_read(count) else self._found()

    def _found(self) -> Collection[object] | None:
        """The primary keys in the WHERE; None if it does not choose the rows by them, or there are too many."""
        return _few(_values_in(self.query, lambda column: column.primary_key and column.model is self.model))

    def _read_found(self) -> None:
        if not self.read:
            return
        with fence(Names(), self.plan):  # rows that were not read make everything stale (`after`)
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
        names = Names()
        rows: list[Model] = []
        with fence(names, self.plan):
            rows += self._rows(result)
        # On a conflict nobody has read the row that was there; and without its key, no function can name a row.
        if not self.read or self.query.on_conflict is not None or any(row.pk is None for row in rows):
            return Names(everything=True)
        for row in rows:
            self.plan.add_functions_after(names, row)
        return names

    def _rows(self, result: Any) -> Iterator[Model]:
        """The objects with the keys that they have in the database; Django sets these only after we return."""
        objs: Sequence[Model] = self.query.objs
        keys = self._returned_keys(result)
        own = self.query.on_conflict is not OnConflict.UPDATE or self._conflicts_by_key()
        for index, given in enumerate(objs):
            if keys is None and own:
                yield given
                continue
            row = clone_of(given)
            # On a conflict the row that was there was updated, and has kept its own key.
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
    """
    The values that the foreign keys of a through *model* have in the rows of *query*, by attribute name.

    A key is missing if the WHERE does not bind it. *written* are the values that the query sets, by attribute name.
    """
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
    """The values to which the WHERE of *query* limits a wanted column of its own table; None if it limits none."""
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
    """The lookups by equality that every row found by a WHERE fulfils."""
    if isinstance(node, WhereNode):
        if node.connector == AND and not node.negated:
            for child in node.children:
                yield from _conditions(child)
    elif isinstance(node, Exact | In) and type(node).__module__.startswith("django."):
        yield node  # a lookup that is not Django's own may find more than equal values


def _select_keys(query: Any, model: type[Model], using: str) -> Collection[object] | None:
    """Read the primary keys of the rows that *query* is about to write, and lock the rows where one table is read."""
    select = query.chain(klass=Query)
    select.clear_ordering(force=True)
    select.clear_select_clause()
    select.select_for_update = False  # of other tables, perhaps
    rows: QuerySet[Any, Any] = QuerySet(model=model, query=select, using=using)
    features = connections[using].features
    if features.has_select_for_update and features.supports_select_for_update_with_limit and _can_be_locked(select):
        rows = rows.select_for_update(no_key=features.has_select_for_no_key_update)
    return list(rows.values_list("pk", flat=True)[: KNOWN_ROWS + 1])


def _can_be_locked(select: Any) -> bool:
    """Whether every database locks the rows of *select*: PostgreSQL refuses what is not one row of one table each."""
    return (
        len(select.alias_map) <= 1
        and not (select.distinct or select.group_by or select.extra_tables or select.annotations)
        and select.model._meta.managed  # else it may be a view
    )


patches = Patches("Statements of the ORM")


def _watch(compiler: Any, verb: Verb, kind: type[_Rows], why: str) -> None:
    before = f"a query that a field sends before the {verb} is not mistaken for it"
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
