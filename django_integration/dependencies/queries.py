"""
Which tags a query gives to the value that is made from its result.

A query reads one **base table** and perhaps others. What a value depends on, by table:

Rule 1, rows by primary key: the conditions that all rows have to meet (the top-level AND of WHERE) give the primary
key of the base table as a constant, or as one of at most `MAX_VALUES` constants. Whatever the shape of the result
(rows, values, a count, an aggregate), only these rows can change it: their row tags, and `:*`.

Rule 2, rows by a column's value: the same for another comparable column *f* (`names/columns.py`), equal to a constant,
one of some, or NULL; and the result is whole rows, as instances, with no OFFSET, no aggregate, window, DISTINCT ON,
UNION or extra(). Then

- each row of the result has its row tag, which is invalidated when the row changes or leaves the result;
- a row that joins the result has the value of *f*: `[f=value]`, unless only other columns were written: `[c=*]` for
  each column *c* of the base table that decides which rows are in the result (WHERE, ON of joins, and ORDER BY before
  a LIMIT);
- and `:*` is for writes to rows that are not known.

A loader that takes the first few rows out of an `iterator()` and stops has a LIMIT of its own.

Rule 3, anything else: the model's tag.

Rule 4, other tables in a query, and every query inside of it (subqueries, EXISTS, the parts of a UNION): the model's
tag. There are two exceptions, if only the SELECT list uses them (`joins.py`): rows that `select_related` adds along
foreign keys have their row tags, by the value of the key, so that a row that is added later invalidates; and the tables
of a model's parents, by multi-table inheritance, have one row with its own.

Rule 5: a column counts as comparable only if this database compares as Python does: text, where "a" and "A" differ.
Rule 6: what is not understood (an expression that is not Django's, SQL in text) is the model's tag, and that of every
table that the SQL names (`tables.py`).
Rule 7: a query that Django does not send, since nothing can match (`pk__in=[]`), reads nothing. A row without a primary
key is never found: `pk=None` waits for no row, but for unknown ones.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django.db.models import ForeignKey, Model
from django.db.models.sql import Query
from django.db.models.sql.datastructures import BaseTable

from ..names import concrete_of, model_tag
from ..names.columns import any_value_tag, field_tag
from .conditions import Equality, UsedColumns, equalities, is_comparable_on
from .joins import read_joins
from .recorder import Recorder
from .rows import IMPOSSIBLE_VALUE, RowRecorder, tag_of_row
from .tables import read_tables


def note_from(compiler: Any) -> None:
    """*compiler* is about to write its FROM clause: the only moment at which Django knows which joins are in it."""
    count = compiler.query.alias_refcount
    compiler._invalidator_from = [alias for alias in compiler.query.alias_map if count[alias]]  # noqa: SLF001


def read_whole_tables(recorder: Recorder, compiler: Any) -> None:
    """Record all tables of the query of *compiler* as wholes."""
    read_tables(recorder, compiler, _aliases(compiler))


def read_query(recorder: Recorder, compiler: Any, *, whole_rows: bool) -> RowRecorder | None:
    """
    Record what *compiler* has just sent.

    Args:
        whole_rows: its result is made into instances of its model.

    Returns:
        what records its rows, if they have to be recorded one by one.
    """
    query: Any = compiler.query
    aliases = _aliases(compiler)
    base = _base_model(query, aliases)
    if base is None:
        read_whole_tables(recorder, compiler)
        return None
    others = aliases[1:]
    vendor = compiler.connection.vendor
    equal = equalities(query, aliases[0], vendor)
    by_key = None
    for field, values in equal:
        if field.primary_key:
            by_key = values
            break
    if by_key is not None and not others:  # the usual case, and the quickest
        _read_rows(recorder, base, by_key)
        return None
    used = UsedColumns(aliases[0])
    used.add(query.where)
    wants_rows = whole_rows and _has_rows(query)
    by_rows = by_key is not None or wants_rows
    related = read_joins(recorder, compiler, others, used, base=base, by_rows=by_rows) if others else []
    if by_key is not None:
        _read_rows(recorder, base, by_key)
        return RowRecorder(recorder, None, related, query) if related else None
    if wants_rows and is_comparable_on(base._meta.pk, vendor):
        names = _names_by_value(base, equal, used, query, others)
        if names and recorder.read_names(base, names):
            return RowRecorder(recorder, base, related, query)
    recorder.read_table(base)
    return RowRecorder(recorder, None, related, query) if related else None


def _read_rows(recorder: Recorder, model: type[Model], pks: Iterable[object]) -> None:
    label = model_tag(model)
    try:
        names = [tag_of_row(model, label, pk) for pk in pks if pk is not None]
    except IMPOSSIBLE_VALUE:
        recorder.read_table(model)
    else:
        recorder.read_names(model, names)


def _names_by_value(
    base: type[Model], equal: list[Equality], used: UsedColumns, query: Query, others: Iterable[str]
) -> list[str]:
    """The tags of rule 2, without those of rows; none if it does not apply."""
    if not equal or not used.understood or not used.add_joins(query, others):
        return []
    if query.is_sliced and not used.add_ordering(query, base):
        return []
    field, values = min(equal, key=_how_many)
    try:
        return [
            *[field_tag(base, field, value) for value in values],
            *[any_value_tag(base, column) for column in used.columns],
        ]
    except IMPOSSIBLE_VALUE:
        return []


def _how_many(equality: Equality) -> tuple[int, int]:
    """How many rows are likely to come and go under one value: the fewer the better."""
    field, values = equality
    if field.unique:
        kind = 0
    elif isinstance(field, ForeignKey):
        kind = 1
    else:
        kind = 3 if None in values or field.choices or field.get_internal_type() == "BooleanField" else 2
    return kind, len(values)


def _aliases(compiler: Any) -> list[str]:
    """Those in the FROM clause, the base table's first; more than those, if a compiler writes it in its own way."""
    noted: list[str] | None = getattr(compiler, "_invalidator_from", None)
    return list(compiler.query.alias_map) if noted is None else noted


def _base_model(query: Query, aliases: list[str]) -> type[Model] | None:
    """The model of the rows, if this is a query over one base table that Django alone has written."""
    if type(query) is not Query or query.combinator or query.extra or query.extra_tables or not aliases:
        return None
    model = query.model
    if not isinstance(model, type) or model._meta.abstract:
        return None
    base = concrete_of(model)
    first = query.alias_map[aliases[0]]
    return base if type(first) is BaseTable and first.table_name == base._meta.db_table else None


def _has_rows(query: Query) -> bool:
    """Whether each row of the result is one row of the base table, whatever other rows of it are."""
    return not (
        query.low_mark
        or query.distinct_fields
        or query.group_by is not None
        or any(
            annotation.contains_aggregate or annotation.contains_over_clause
            for annotation in query.annotations.values()
        )
    )
