"""
Which tags a query gives to the value that is made from its result.

A query reads one **base table** and perhaps others. What a value depends on, by table:

Rule 1, rows by primary key: the conditions that all rows have to meet (the top-level AND of WHERE) give the primary
key of the base table as a constant, or as one of at most `MAX_VALUES` constants. Whatever the shape of the result
(rows, values, a count, an aggregate), nobody but these rows can change it: their row tags, and `:*`.

Rule 2, rows by a column's value: the same for another comparable column *f* (`fields.py`), equal to a constant, one of
some, or NULL; and the result is whole rows, as instances, with no OFFSET, no aggregate, window, DISTINCT ON, UNION or
extra(). Then

- whoever is in the result is known by its row tag, and its change, or its leaving, by that;
- whoever joins it has the value of *f*: `[f=value]`, unless only other columns were written: `[c=*]` for each column
  *c* of the base table that decides who is in the result (WHERE, ON of joins, and ORDER BY before a LIMIT);
- and `:*` is for writes of which nobody knows the rows.

Who takes the first few out of an `iterator()` and stops has a LIMIT of his own.

Rule 3, anything else: the model's tag.

Rule 4, other tables in a query, and every query inside of it (subqueries, EXISTS, the parts of a UNION): the model's
tag. Two exceptions, if nothing but the SELECT list looks at them: rows that `select_related` adds along foreign keys
have their row tags, by the value of the key (so that a row that is not there yet is waited for); and the tables of a
model's parents, by multi-table inheritance, are one row with its own.

Rule 5: a column counts as comparable only if this database says so: text, on those that tell "a" from "A".
Rule 6: what is not understood (an expression of somebody else's, SQL in text) is the model's tag.
Rule 7: a query that Django does not send, since nothing can match (`pk__in=[]`), reads nothing.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Iterable
from typing import Any, TypeAlias

from django.apps import apps
from django.core.exceptions import ValidationError
from django.db.models import F, Field, ForeignKey, Model, OneToOneField
from django.db.models.expressions import (
    BaseExpression,
    Col,
    ColPairs,
    OrderBy,
    RawSQL,
    Ref,
    ResolvedOuterRef,
    Star,
    Subquery,
    Value,
)
from django.db.models.fields.related_lookups import RelatedExact, RelatedIn, RelatedIsNull
from django.db.models.fields.tuple_lookups import TupleIn
from django.db.models.lookups import Exact, In, IntegerFieldExact, IsNull, Lookup
from django.db.models.sql import Query
from django.db.models.sql.constants import INNER
from django.db.models.sql.datastructures import BaseTable, Join
from django.db.models.sql.where import AND, WhereNode

from ..names import TEXTS_ARE_EXACT, concrete_of, model_tag, row_tag
from ..names.columns import any_value_tag, field_tag, is_comparable, target_of
from .recorder import MAX_NAMES, Recorder

MAX_VALUES = 100
"""Constants of one `__in` that are tags of their own."""

EXACT_TEXT = TEXTS_ARE_EXACT - {"oracle"}  # which takes "" for NULL
"""Vendors that, as they come, find two texts equal if and only if Python does."""

_EXACT = (Exact, IntegerFieldExact, RelatedExact)
_IN = (In, RelatedIn)
_IS_NULL = (IsNull, RelatedIsNull)

Values = list[Any]
Equality: TypeAlias = "tuple[Field[Any, Any], Values]"


class Rows:
    """
    Takes the tags of rows as they are handed out.

    Args:
        model: of the rows themselves; None if the table is recorded as a whole.
        related: what `select_related` adds to each of them.
        query: whose rows they are.
    """

    __slots__ = ("_attname", "_label", "_model", "_names", "_query", "_recorder", "_related")

    def __init__(self, recorder: Recorder, model: type[Model] | None, related: list[Related], query: Query) -> None:
        self._query = query
        self._recorder = recorder
        self._model = model
        self._names: dict[str, None] = {}
        self._label = self._attname = ""
        if model is not None:
            self._label = model_tag(model)
            self._attname = model._meta.pk.attname
            self._names = recorder.names_of(model)
        self._related = related

    def begin(self) -> None:
        """The first row is about to be handed out."""
        if self._model is not None:
            self._recorder.begin_rows(self._stopped)

    def end(self) -> None:
        """There are no more rows."""
        self._recorder.end_rows(self._stopped)

    def _stopped(self) -> None:
        """Nobody takes the rest of the rows. As with a LIMIT, who comes first decides."""
        if self._model is None:
            return
        looks = _Looks("")
        if looks.at_ordering(self._query, self._model):
            self._recorder.read_names(self._model, [any_value_tag(self._model, column) for column in looks.columns])
        else:
            self._recorder.read_table(self._model)

    def handed_out(self, row: Model) -> bool:
        """*row* is about to be handed out. Returns False if no more of them need be shown."""
        if self._model is not None:
            # What the recorder itself does with names, without asking it for each row; and `row.pk`, likewise.
            pk = row.__dict__.get(self._attname)
            self._names[_row_tag(self._model, self._label, row.pk if pk is None else pk)] = None
            if len(self._names) > MAX_NAMES and not self._recorder.read_names(self._model, ()):
                self._model = None
        for related in self._related:
            related.handed_out(self._recorder, row)
        return self._model is not None or bool(self._related)


class Related:
    """A foreign key that `select_related` has followed, and those followed from there."""

    __slots__ = ("_attname", "_field", "_label", "_model", "_related")

    def __init__(self, field: Any, related: list[Related]) -> None:
        self._field = field
        self._attname = field.attname
        target: type[Model] = self._field.related_model
        self._model = concrete_of(target)
        self._label = model_tag(self._model)
        self._related = related

    def handed_out(self, recorder: Recorder, row: Model) -> None:
        """*row* holds the key."""
        if self._attname not in row.__dict__:
            recorder.read_table(self._model)
            return
        key = row.__dict__[self._attname]
        if key is None:
            return  # of the row itself, which says when that changes
        recorder.read_names(self._model, (_row_tag(self._model, self._label, key),))
        if self._related:
            target = self._field.get_cached_value(row, None)
            if target is not None:
                for related in self._related:
                    related.handed_out(recorder, target)


def note_from(compiler: Any) -> None:
    """*compiler* is about to write its FROM clause: the only moment at which Django knows which joins are in it."""
    count = compiler.query.alias_refcount
    compiler._invalidator_from = [alias for alias in compiler.query.alias_map if count[alias]]  # noqa: SLF001


def read_tables(recorder: Recorder, compiler: Any) -> None:
    """Record all tables of the query of *compiler* as wholes."""
    query: Query = compiler.query
    for alias in _aliases(compiler):
        _read_table(recorder, query, alias)
    for name in query.extra_tables:
        models = _models_of_table(name)
        if not models:
            recorder.read_unknown(f"the table {name!r}, which is no model's,", sys._getframe())  # noqa: SLF001
        for model in models:
            recorder.read_table(model)


def read_query(recorder: Recorder, compiler: Any, *, whole_rows: bool) -> Rows | None:
    """
    Record what *compiler* has just sent.

    Args:
        whole_rows: its result is made into instances of its model.

    Returns:
        whom to show the rows, if they count one by one.
    """
    query: Any = compiler.query
    aliases = _aliases(compiler)
    base = _base_model(query, aliases)
    if base is None:
        read_tables(recorder, compiler)
        return None
    others = aliases[1:]
    vendor = compiler.connection.vendor
    equalities: list[Equality] = []
    _find_equalities(query.where, aliases[0], equalities)
    equalities = [equality for equality in equalities if _is_comparable(equality[0], vendor)]
    by_key = None
    for field, values in equalities:
        if field.primary_key:
            by_key = values
            break
    if by_key is not None and not others:  # the usual case, and the quickest
        label = model_tag(base)
        recorder.read_names(base, [_row_tag(base, label, value) for value in by_key])
        return None
    looks = _Looks(aliases[0])
    looks.at(query.where)
    wants_rows = whole_rows and _has_rows(query)
    is_row = by_key is not None or wants_rows
    related = _read_others(recorder, compiler, others, looks, is_row=is_row, base=base) if others else []
    if by_key is not None:
        recorder.read_names(base, [_row_tag(base, model_tag(base), value) for value in by_key])
        return Rows(recorder, None, related, query) if related else None
    if wants_rows and _is_comparable(base._meta.pk, vendor):
        names = _names_by_value(base, equalities, looks, query, others)
        if names and recorder.read_names(base, names):
            return Rows(recorder, base, related, query)
    recorder.read_table(base)
    return Rows(recorder, None, related, query) if related else None


def _names_by_value(
    base: type[Model],
    equalities: list[Equality],
    looks: _Looks,
    query: Query,
    others: Iterable[str],
) -> list[str]:
    """The tags of rule 2, without those of rows; none if it does not apply."""
    if not equalities or not looks.understood or not looks.at_joins(query, others):
        return []
    if query.is_sliced and not looks.at_ordering(query, base):
        return []
    field, values = min(equalities, key=_how_many)
    try:
        return [
            *[field_tag(base, field, value) for value in values],
            *[any_value_tag(base, column) for column in looks.columns],
        ]
    except (ArithmeticError, AttributeError, TypeError, ValueError, ValidationError):
        return []  # the database knows what to do with such a value; we do not


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


# What a query is.


def _aliases(compiler: Any) -> list[str]:
    """Those that are in the FROM clause, the base table's first; more, if a compiler writes it in its own way."""
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


def _model(query: Query) -> type[Model]:
    assert query.model is not None
    return query.model


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


@functools.lru_cache(maxsize=4096)  # not without bound: a migration's models have fields of their own
def _is_comparable(field: Field[Any, Any], vendor: str) -> bool:
    is_text = target_of(field).get_internal_type() in ("CharField", "SlugField")
    return is_comparable(field) and (not is_text or vendor in EXACT_TEXT)


def _find_equalities(where: Any, base: str, found: list[Equality]) -> None:
    """Let *found* take the columns of the base table that have to be equal to constants, for a row to be a result."""
    if where.connector != AND or where.negated:
        return
    for node in where.children:
        kind = type(node)
        if kind is WhereNode:
            _find_equalities(node, base, found)
            continue
        lhs = getattr(node, "lhs", None)
        if kind is TupleIn and type(lhs) is ColPairs and len(lhs.targets) == 1 and lhs.alias == base:
            # So prefetch_related asks for the targets of a foreign key.
            values = _constants(In, [value[0] for value in node.rhs] if isinstance(node.rhs, list) else node.rhs)
            target = lhs.targets[0]
        elif type(lhs) is Col and lhs.alias == base:
            values, target = _constants(kind, node.rhs), lhs.target
        else:
            continue
        if values is not None:
            found.append((target, values))


def _constants(kind: type, rhs: Any) -> Values | None:
    if kind in _EXACT:
        return [rhs] if _is_constant(rhs) else None
    if kind in _IN:
        if isinstance(rhs, BaseExpression) or not isinstance(rhs, Iterable):
            return None
        values = list(rhs)
        if len(values) > MAX_VALUES or not all(map(_is_constant, values)):
            return None
        return [value for value in values if value is not None]  # IN finds no NULL
    return [None] if kind in _IS_NULL and rhs is True else None


def _is_constant(value: object) -> bool:
    return not hasattr(value, "resolve_expression") and not hasattr(value, "as_sql") and not isinstance(value, tuple)


class _Looks:
    """What the conditions of a query look at. In doubt, `understood` is False."""

    def __init__(self, base: str) -> None:
        self.base = base
        self.columns: dict[Field[Any, Any], None] = {}
        self.others: set[str] = set()
        self.understood = True

    def at(self, node: Any) -> None:
        """Go through *node*, a condition or an expression."""
        kind = type(node)
        if kind is WhereNode:
            for child in node.children:
                self.at(child)
        elif kind is Col:
            if node.alias == self.base:
                self.columns[node.target] = None
            else:
                self.others.add(node.alias)
        elif isinstance(node, Lookup):
            if not _is_djangos(kind):
                self.understood = False
            self.at(node.lhs)
            self._at_side(node.rhs)
        elif kind is Ref:
            self.at(node.source)
        elif isinstance(node, BaseExpression):
            self._at_expression(node, kind)
        else:
            self.understood = False

    def _at_side(self, side: Any) -> None:
        if hasattr(side, "resolve_expression") or hasattr(side, "as_sql"):
            self.at(side)
        elif isinstance(side, list | tuple | set | frozenset):
            for item in side:
                self._at_side(item)

    def _at_expression(self, node: Any, kind: type) -> None:
        if kind in (Value, Star):
            return
        sources = [source for source in node.get_source_expressions() if source is not None]
        if (
            not _is_djangos(kind)
            or isinstance(node, Subquery | Query | RawSQL | ResolvedOuterRef)
            or (not sources and not kind.__module__.startswith("django.db.models.functions"))
        ):
            self.understood = False
        for source in sources:
            self.at(source)

    def at_ordering(self, query: Query, base: type[Model]) -> bool:
        """Go through ORDER BY. Returns whether it is by columns of the base table alone."""
        ordering: Iterable[Any] = query.extra_order_by or query.order_by
        if not ordering and query.default_ordering:
            ordering = query.get_meta().ordering or ()
        for item in ordering:
            field = _ordered_by(item, base)
            if field is None:
                return False
            self.columns[field] = None
        return True

    def at_joins(self, query: Query, others: Iterable[str]) -> bool:
        """Go through the conditions of joins, as far as they look at the base table. False in doubt."""
        by_column = {field.column: field for field in concrete_of(_model(query))._meta.local_concrete_fields}
        for alias in others:
            join = query.alias_map[alias]
            if not isinstance(join, Join):
                continue
            if join.parent_alias == self.base:  # the near side says who has a partner
                for near, _ in join.join_cols:
                    if near not in by_column:
                        return False
                    self.columns[by_column[near]] = None
            self._at_conditions(join)
        return self.understood

    def _at_conditions(self, join: Any) -> None:
        """What stands beside the columns in the ON of *join*: of a FilteredRelation, of a generic relation."""
        if (filtered := join.filtered_relation) is not None:
            self.at(filtered.resolved_condition)
        extra = join.join_field.get_extra_restriction(join.table_alias, join.parent_alias)
        if extra is not None:
            self.at(extra)


def _is_djangos(kind: type) -> bool:
    return kind.__module__.startswith(("django.db.models.", "django.contrib.postgres."))


def _ordered_by(item: Any, base: type[Model]) -> Field[Any, Any] | None:
    """The column of the base table that *item* orders by; None if it is anything else."""
    if isinstance(item, OrderBy):
        item = item.expression
    if isinstance(item, F):
        item = item.name  # type: ignore[attr-defined]
    if not isinstance(item, str):
        return None
    name = item.lstrip("-+")
    if name == "pk":
        return base._meta.pk
    for field in base._meta.local_concrete_fields:
        # By the name of a foreign key is by the ordering of its target.
        if name == field.attname and (name == field.name or field.is_relation):
            return field
    return None


# The other tables.


def _read_others(
    recorder: Recorder, compiler: Any, aliases: list[str], looks: _Looks, *, is_row: bool, base: type[Model]
) -> list[Related]:
    """Record the tables of *aliases*; returns whom to show the rows instead, where they count one by one."""
    query: Query = compiler.query
    looked_at = _looked_at(query, aliases, looks, base)
    related: list[Related] = []
    covered: set[str] = set()
    if looked_at is None or compiler.klass_info is None:
        looked_at = set(aliases)
    while True:
        covered.clear()
        related = _related(compiler, compiler.klass_info or {}, looked_at, covered)
        # Where a join that counts begins, its near side decides who has a partner.
        begins = {
            query.alias_map[alias].parent_alias
            for alias in aliases
            if alias not in covered and (alias in looked_at or not _is_parent_link(query.alias_map[alias]))
        }
        if begins <= {looks.base, *looked_at}:
            break
        looked_at |= begins
    inherited = {looks.base} if is_row else set()
    for alias in aliases:
        join: Any = query.alias_map[alias]
        if alias in covered:
            continue
        if alias not in looked_at and join.parent_alias in inherited and _is_parent_link(join):
            inherited.add(alias)
        else:
            _read_table(recorder, query, alias)
    return related


def _looked_at(query: Query, aliases: list[str], looks: _Looks, base: type[Model]) -> set[str] | None:
    """Those of *aliases* that anything but the SELECT list of instances looks at; None if nobody knows."""
    # Columns of the base table in annotations and, without LIMIT, in ORDER BY decide nothing about other rows.
    others = _Looks(looks.base)
    for annotation in query.annotations.values():
        others.at(annotation)
    if not (looks.understood and others.understood and others.at_ordering(query, base)):
        return None
    filtered = {alias for alias in aliases if getattr(query.alias_map[alias], "filtered_relation", None) is not None}
    return looks.others | others.others | filtered


def _is_parent_link(join: Any) -> bool:
    """Whether *join* goes from a row to the same row in the table of a parent model."""
    field: Any = join.join_field
    return type(field) is OneToOneField and bool(field.remote_field.parent_link) and field.target_field.primary_key


def _is_key(field: object) -> bool:
    return type(field) in (ForeignKey, OneToOneField)


def _related(compiler: Any, info: Any, looked_at: set[str], covered: set[str]) -> list[Related]:
    """The foreign keys that `select_related` follows to tables nobody else looks at; *covered* takes their aliases."""
    found = []
    for further in info.get("related_klass_infos", ()):
        select = further["select_fields"]
        if further["reverse"] or not _is_key(further["field"]) or not select:
            continue
        field: Any = further["field"]
        alias = compiler.select[select[0]][0].alias
        join: Any = compiler.query.alias_map.get(alias)
        if (
            alias in looked_at
            or not isinstance(join, Join)
            or not _is_comparable(field.target_field, compiler.connection.vendor)
            or not field.target_field.primary_key
            # Without a constraint, a target that is not there keeps the row itself out.
            or (join.join_type == INNER and not field.db_constraint)
            or join.join_field is not field
        ):
            continue
        covered.add(alias)
        found.append(Related(field, _related(compiler, further, looked_at, covered)))
    return found


# Tables and their models.


def _read_table(recorder: Recorder, query: Query, alias: str) -> None:
    table = query.alias_map[alias]
    models = _models_of_table(table.table_name)
    if not models:
        # A model that is in no registry: a migration's, or one that a test has made.
        field: Any = getattr(table, "join_field", None)
        candidates = [query.model] if field is None else [field.model, field.related_model]
        models = tuple(
            concrete_of(model)
            for model in candidates
            if isinstance(model, type) and issubclass(model, Model) and model._meta.db_table == table.table_name
        )
    if not models:
        recorder.read_unknown(f"the table {table.table_name!r}, which is no model's,", sys._getframe())  # noqa: SLF001
    for model in models:
        recorder.read_table(model)


_models: dict[str, tuple[type[Model], ...]] = {}
_models_known = 0


def _models_of_table(name: str) -> tuple[type[Model], ...]:
    global _models, _models_known
    found = _models.get(name)
    if found is None and len(apps.get_models(include_auto_created=True)) != _models_known:
        by_table: dict[str, tuple[type[Model], ...]] = {}
        models = apps.get_models(include_auto_created=True)
        for model in models:
            if not model._meta.proxy:
                by_table[model._meta.db_table] = (*by_table.get(model._meta.db_table, ()), model)
        _models, _models_known = by_table, len(models)
        found = _models.get(name)
    return found or ()


def _row_tag(model: type[Model], label: str, pk: object) -> str:
    return f"{label}:{pk}" if type(pk) is int else row_tag(model, pk)
