"""Which models are kept in a table, and recording a table as a whole."""

from __future__ import annotations

import sys
from typing import Any

from django.apps import apps
from django.db.models import Model
from django.db.models.sql import Query

from ..names import concrete_of
from .recorder import Recorder


def read_table(recorder: Recorder, query: Query, alias: str) -> None:
    """Record the table that *query* calls *alias*."""
    table = query.alias_map[alias]
    _read(recorder, table.table_name, _models_of(table.table_name) or _models_by_query(query, table))


def read_extra_tables(recorder: Recorder, query: Query) -> None:
    """Record those that `QuerySet.extra(tables=…)` names."""
    for name in query.extra_tables:
        _read(recorder, name, _models_of(name))


def _read(recorder: Recorder, name: str, models: tuple[type[Model], ...]) -> None:
    if not models:
        recorder.read_unknown(f"the table {name!r}, which is no model's,", sys._getframe())  # noqa: SLF001
    for model in models:
        recorder.read_table(model)


def _models_by_query(query: Query, table: Any) -> tuple[type[Model], ...]:
    """Models that are in no registry: those of a migration, or those that a test has made."""
    field: Any = getattr(table, "join_field", None)
    candidates = [query.model] if field is None else [field.model, field.related_model]
    return tuple(
        concrete_of(model)
        for model in candidates
        if isinstance(model, type) and issubclass(model, Model) and model._meta.db_table == table.table_name
    )


_models: dict[str, tuple[type[Model], ...]] = {}
_models_known = 0
"""How many models there were when `_models` was made: more are registered while Django starts."""


def _models_of(name: str) -> tuple[type[Model], ...]:
    """The registered models of the table *name*; several may share it."""
    global _models, _models_known
    found = _models.get(name)
    if found is None and len(models := apps.get_models(include_auto_created=True)) != _models_known:
        by_table: dict[str, tuple[type[Model], ...]] = {}
        for model in models:
            if not model._meta.proxy:
                by_table[model._meta.db_table] = (*by_table.get(model._meta.db_table, ()), model)
        _models, _models_known = by_table, len(models)
        found = _models.get(name)
    return found or ()
