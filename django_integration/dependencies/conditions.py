"""
What the conditions of a query say about the rows that it finds.

`equalities` finds the columns that have to be equal to constants; `UsedColumns` collects every column that decides
which rows are found. Both know the expressions of Django, and assume nothing of any other.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable
from typing import Any, TypeAlias

from django.db.models import F, Field, Model
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
from django.db.models.sql.datastructures import Join
from django.db.models.sql.where import AND, WhereNode

from ..names import TEXTS_ARE_EXACT, concrete_of
from ..names.columns import is_comparable, target_of

MAX_VALUES = 100
"""Constants of one `__in` that become tags of their own."""

EXACT_TEXT = TEXTS_ARE_EXACT - {"oracle"}  # which takes "" for NULL
"""Vendors whose databases, by default, find two texts equal if and only if Python does."""

_EXACT = (Exact, IntegerFieldExact, RelatedExact)
_IN = (In, RelatedIn)
_IS_NULL = (IsNull, RelatedIsNull)

Values = list[Any]
Equality: TypeAlias = "tuple[Field[Any, Any], Values]"
"""A column, and the constants to one of which it is equal. None among them stands for NULL."""


def equalities(query: Query, base: str, vendor: str) -> list[Equality]:
    """
    Return the equalities that every row meets that *query* finds.

    Args:
        base: the alias of the table whose columns are wanted.
        vendor: of the database, which decides which columns can be compared.
    """
    found: list[Equality] = []
    _find_equalities(query.where, base, found)
    return [equality for equality in found if is_comparable_on(equality[0], vendor)]


@functools.lru_cache(maxsize=4096)  # not without bound: a migration's models have fields of their own
def is_comparable_on(field: Field[Any, Any], vendor: str) -> bool:
    """Whether databases of *vendor* find two values of *field* equal if and only if Python does."""
    is_text = target_of(field).get_internal_type() in ("CharField", "SlugField")
    return is_comparable(field) and (not is_text or vendor in EXACT_TEXT)


def _find_equalities(where: Any, base: str, found: list[Equality]) -> None:
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
    """The constants to which a lookup of this *kind* compares; None if these are not constants, or too many."""
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


class UsedColumns:
    """
    The columns that some parts of a query use.

    Args:
        base: the alias of the base table.

    Attributes:
        columns: those of the base table.
        other_tables: the aliases of the other tables of which they use columns.
        understood: False if there was anything of which it is not known which columns it uses.
    """

    def __init__(self, base: str) -> None:
        self.base = base
        self.columns: dict[Field[Any, Any], None] = {}
        self.other_tables: set[str] = set()
        self.understood = True

    def add(self, node: Any) -> None:
        """Add those of *node*, a condition or an expression."""
        kind = type(node)
        if kind is WhereNode:
            for child in node.children:
                self.add(child)
        elif kind is Col:
            if node.alias == self.base:
                self.columns[node.target] = None
            else:
                self.other_tables.add(node.alias)
        elif isinstance(node, Lookup):
            if not _is_djangos(kind):
                self.understood = False
            self.add(node.lhs)
            self._add_right_side(node.rhs)
        elif kind is Ref:
            self.add(node.source)
        elif isinstance(node, BaseExpression):
            self._add_expression(node, kind)
        else:
            self.understood = False

    def _add_right_side(self, side: Any) -> None:
        if hasattr(side, "resolve_expression") or hasattr(side, "as_sql"):
            self.add(side)
        elif isinstance(side, list | tuple | set | frozenset):
            for item in side:
                self._add_right_side(item)

    def _add_expression(self, node: Any, kind: type) -> None:
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
            self.add(source)

    def add_ordering(self, query: Query, base: type[Model]) -> bool:
        """Add those of ORDER BY. Returns whether all of it is by columns of the base table, the one of *base*."""
        ordering: Iterable[Any] = query.extra_order_by or query.order_by
        if not ordering and query.default_ordering:
            ordering = query.get_meta().ordering or ()
        for item in ordering:
            field = _ordered_by(item, base)
            if field is None:
                return False
            self.columns[field] = None
        return True

    def add_joins(self, query: Query, aliases: Iterable[str]) -> bool:
        """Add those of the ON of the joins to *aliases*. Returns whether everything so far was understood."""
        assert query.model is not None
        by_column = {field.column: field for field in concrete_of(query.model)._meta.local_concrete_fields}
        for alias in aliases:
            join = query.alias_map[alias]
            if not isinstance(join, Join):
                continue
            if join.parent_alias == self.base:  # the near side decides which rows have a partner
                for near, _ in join.join_cols:
                    if near not in by_column:
                        return False
                    self.columns[by_column[near]] = None
            self._add_join_conditions(join)
        return self.understood

    def _add_join_conditions(self, join: Any) -> None:
        """What stands beside the joined columns: the condition of a FilteredRelation or of a generic relation."""
        if (filtered := join.filtered_relation) is not None:
            self.add(filtered.resolved_condition)
        extra = join.join_field.get_extra_restriction(join.table_alias, join.parent_alias)
        if extra is not None:
            self.add(extra)


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
        # The name of a foreign key, without its `_id`, orders by what its target is ordered by.
        if name == field.attname and (name == field.name or field.is_relation):
            return field
    return None
