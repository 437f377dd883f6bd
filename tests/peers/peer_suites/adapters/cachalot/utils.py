"""Which tables a query reads: those whose models its entry depends on."""

from __future__ import annotations

from typing import Any

from django.apps import apps
from django.db import DatabaseError, connections

from django_integration import cache
from django_integration.reads.default_cache import default_cache

from . import queries


class UncachableQuery(Exception):
    """The result of this query is not cached."""


_get_tables = None  # a name that cachalot's tests import


def tables_of(queryset: Any) -> set[str]:
    """The tables of the models that a value made from *queryset* depends on."""
    key = "tables"
    cache.invalidate(key)
    with queries.reading.past_the_cache():
        cache.get_or_set(key, lambda: list(queryset.all()))
    entry = default_cache().get_entry(key)
    assert entry is not None
    labels = {tag.partition(":")[0].partition("[")[0] for tag in entry.tags}
    models = {apps.get_model(label) for label in labels if "." in label}
    # A row of a child model and its parents' rows are one row: a change of either invalidates both.
    return {relative._meta.db_table for model in models for relative in (model, *model._meta.get_parent_list())}


def named_in(sql: str, using: str) -> set[str]:
    """The tables of models that *sql* names, quoted."""
    quote = connections[using].ops.quote_name
    tables = {model._meta.db_table for model in apps.get_models(include_auto_created=True)}
    return {table for table in tables if quote(table) in sql}


def assert_tables(_: Any, queryset: Any, *tables: object) -> None:
    """
    Replaces cachalot's: the entry must depend on every table that the SQL names.

    (cachalot's own expectations differ with CACHALOT_FINAL_SQL_CHECK, and name tables that are not in the SQL.)
    """
    try:
        queries.key_of(queryset.query.get_compiler(queryset.db))
    except queries.Unkept:
        raise UncachableQuery from None
    sql, _ = queryset.query.get_compiler(queryset.db).as_sql()
    try:
        recorded = tables_of(queryset)
    except DatabaseError:
        return  # a query that fails on purpose
    assert named_in(sql, queryset.db) <= recorded, sql
