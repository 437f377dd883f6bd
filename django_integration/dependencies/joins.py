"""
The tables that a query joins to its base table: rule 4 of `queries.py`.

A joined table is recorded as a whole, but for two cases in which only the SELECT list uses it: a table that
`select_related` adds along a foreign key is recorded by the rows that are found there, and the table of a parent model
(multi-table inheritance) has the same row as the base table.
"""

from __future__ import annotations

from typing import Any

from django.db.models import ForeignKey, Model, OneToOneField
from django.db.models.sql import Query
from django.db.models.sql.constants import INNER
from django.db.models.sql.datastructures import Join

from .conditions import UsedColumns, is_comparable_on
from .recorder import Recorder
from .rows import RelatedRecorder
from .tables import read_table


def read_joins(
    recorder: Recorder, compiler: Any, aliases: list[str], used: UsedColumns, *, base: type[Model], by_rows: bool
) -> list[RelatedRecorder]:
    """
    Record the tables of *aliases* as wholes, but for those that are recorded row by row.

    Args:
        used: by WHERE.
        base: the model of the base table.
        by_rows: the base table is recorded by rows, so the tables of its parent models are.

    Returns:
        what records the others row by row.
    """
    query: Query = compiler.query
    decisive = _decisive_tables(query, aliases, used, base)
    if decisive is None or compiler.klass_info is None:
        decisive = set(aliases)
    related, covered = _related_and_covered(compiler, aliases, decisive, used.base)
    parents = {used.base} if by_rows else set()
    for alias in aliases:
        join: Any = query.alias_map[alias]
        if alias in covered:
            continue
        if alias not in decisive and join.parent_alias in parents and _is_parent_link(join):
            parents.add(alias)
        else:
            read_table(recorder, query, alias)
    return related


def _decisive_tables(query: Query, aliases: list[str], used: UsedColumns, base: type[Model]) -> set[str] | None:
    """Those of *aliases* that more than the SELECT list of instances uses; None if that is not known."""
    # Columns of the base table in annotations and, without LIMIT, in ORDER BY decide nothing about other rows.
    besides = UsedColumns(used.base)
    for annotation in query.annotations.values():
        besides.add(annotation)
    if not (used.understood and besides.understood and besides.add_ordering(query, base)):
        return None
    filtered = {alias for alias in aliases if getattr(query.alias_map[alias], "filtered_relation", None) is not None}
    return used.other_tables | besides.other_tables | filtered


def _related_and_covered(
    compiler: Any, aliases: list[str], decisive: set[str], base: str
) -> tuple[list[RelatedRecorder], set[str]]:
    """What records tables row by row, and the aliases of these. Adds to *decisive* what turns out to be so."""
    query: Query = compiler.query
    while True:
        covered: set[str] = set()
        related = _related(compiler, compiler.klass_info or {}, decisive, covered)
        # Where a join begins that is recorded as a whole, the near side decides which rows have a partner.
        near_sides = {
            query.alias_map[alias].parent_alias
            for alias in aliases
            if alias not in covered and (alias in decisive or not _is_parent_link(query.alias_map[alias]))
        }
        if near_sides <= {base, *decisive}:
            return related, covered
        decisive |= near_sides


def _related(compiler: Any, info: Any, decisive: set[str], covered: set[str]) -> list[RelatedRecorder]:
    """For foreign keys that `select_related` follows to tables not in *decisive*; *covered* takes their aliases."""
    found = []
    for further in info.get("related_klass_infos", ()):
        select = further["select_fields"]
        if further["reverse"] or type(further["field"]) not in (ForeignKey, OneToOneField) or not select:
            continue
        field: Any = further["field"]
        alias = compiler.select[select[0]][0].alias
        join: Any = compiler.query.alias_map.get(alias)
        if (
            alias in decisive
            or not isinstance(join, Join)
            or not is_comparable_on(field.target_field, compiler.connection.vendor)
            or not field.target_field.primary_key
            # Without a constraint, a target that is not there keeps the row itself out.
            or (join.join_type == INNER and not field.db_constraint)
            or join.join_field is not field
        ):
            continue
        covered.add(alias)
        found.append(RelatedRecorder(field, _related(compiler, further, decisive, covered)))
    return found


def _is_parent_link(join: Any) -> bool:
    """Whether *join* goes from a row to the same row in the table of a parent model."""
    field: Any = join.join_field
    return type(field) is OneToOneField and bool(field.remote_field.parent_link) and field.target_field.primary_key
