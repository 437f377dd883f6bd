"""
Which models are kept in a table, and recording a table as a whole.

Rule 1: a query is understood if all in it that names tables is Django's own, and each table is a model's.
Rule 2: of any other, its SQL is asked as well (`read_sql`). It names every table there is, whoever has written it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from types import FrameType
from typing import Any

from django.apps import apps
from django.db.models import Model
from django.db.models.sql import Query
from django.db.models.sql.datastructures import BaseTable, Join

from ..names import concrete_of, is_model
from ..sql.reads import read
from ..sql.words import plain_name
from .recorder import Recorder

_DJANGOS_TABLES = (BaseTable, Join)


def is_understood(compiler: Any) -> bool:
    """Whether the query of *compiler* reads the tables of its `alias_map`, and no others."""
    query: Query = compiler.query
    return (
        _is_djangos(compiler)
        and all(_models_of(table.table_name) or _models_by_query(query, table) for table in query.alias_map.values())
        and all(map(_models_of, query.extra_tables))
    )


def read_tables(recorder: Recorder, compiler: Any, aliases: list[str]) -> None:
    """Record all tables of the query of *compiler* as wholes, as far as its models are known."""
    query: Query = compiler.query
    for alias in aliases:
        read_table(recorder, query, alias)
    for name in query.extra_tables:
        for model in _models_of(name):
            recorder.read_table(model)


def read_table(recorder: Recorder, query: Query, alias: str) -> None:
    """Record the table that *query* calls *alias*."""
    table: Any = query.alias_map[alias]
    name = getattr(table, "table_name", None)
    models = _models_of(name) if isinstance(name, str) else ()
    if not models:
        models = _models_by_query(query, table)
        if models and isinstance(name, str):
            recorder.tables.add(plain_name(name))
    if type(table) not in _DJANGOS_TABLES:
        models = (*models, *_models_within(table))
        recorder.read_foreign(type(table))
    for model in models:
        recorder.read_table(model)


def read_sql(recorder: Recorder, text: str, frame: FrameType | None) -> None:
    """
    Record the tables that *text*, which is SQL, reads as wholes.

    Args:
        frame: the code that sends it.
    """
    reading = read(text)
    tables = _models_by_name()
    found = False
    for name in (*reading.tables, *reading.mentioned):
        for model in tables.get(name, ()):
            recorder.read_table(model)
            found = True
    if reading.in_doubt:
        folded = text.casefold()
        for name, models in tables.items():
            if name in folded:
                for model in models:
                    recorder.read_table(model)
                    found = True
        if not found and not reading.unknown and not reading.tables:
            recorder.read_unknown("raw SQL", frame)
    for name in reading.tables:
        if name not in tables and name not in recorder.tables:
            recorder.read_unknown(f"the table {name!r}, which is no model's,", frame)
    for what in reading.unknown:
        recorder.read_unknown(what, frame)


def _is_djangos(compiler: Any) -> bool:
    """Whether all that makes the query of *compiler* is Django's or its backend's: it puts no tables into its SQL."""
    module = type(compiler).__module__
    return (
        all(type(table) in _DJANGOS_TABLES for table in compiler.query.alias_map.values())
        and type(compiler.query).__module__.startswith("django.")
        and (module.startswith("django.") or module == compiler.connection.ops.compiler_module)
    )


def _models_by_query(query: Query, table: Any) -> tuple[type[Model], ...]:
    """Models that are in no registry: those of a migration, or those that a test has made."""
    field: Any = getattr(table, "join_field", None)
    candidates: tuple[Any, ...] = (
        (query.model,) if field is None else (getattr(field, "model", None), getattr(field, "related_model", None))
    )
    return tuple(
        concrete_of(model)
        for model in candidates
        if is_model(model) and model._meta.db_table == getattr(table, "table_name", None)
    )


def _models_within(table: Any) -> Iterator[type[Model]]:
    """The models that *table*, of a class that is not Django's, has among its attributes, or that these have."""
    for item in getattr(table, "__dict__", {}).values():
        for candidate in (item, _attribute(item, "model"), _attribute(item, "related_model")):
            if is_model(candidate):
                yield concrete_of(candidate)


def _attribute(item: Any, name: str) -> Any:
    with contextlib.suppress(Exception):
        return getattr(item, name, None)
    return None


_models: dict[str, tuple[type[Model], ...]] = {}
_by_plain_name: dict[str, tuple[type[Model], ...]] = {}
_models_known = 0
"""How many models there were when these were made: more are registered while Django starts."""


def _models_of(name: str) -> tuple[type[Model], ...]:
    """The registered models of the table *name*; several may share it."""
    found = _models.get(name)
    if found is None and _has_learned_more():
        found = _models.get(name)
    return found or ()


def _models_by_name() -> dict[str, tuple[type[Model], ...]]:
    """The registered models by the plain names of their tables: see `plain_name`."""
    _has_learned_more()
    return _by_plain_name


def _has_learned_more() -> bool:
    """Look for models that were registered since the last look. Returns whether there were any."""
    global _models, _by_plain_name, _models_known
    models = apps.get_models(include_auto_created=True)
    if len(models) == _models_known:
        return False
    tables: dict[str, tuple[type[Model], ...]] = {}
    plain: dict[str, tuple[type[Model], ...]] = {}
    for model in models:
        if not model._meta.proxy:
            name = model._meta.db_table
            tables[name] = (*tables.get(name, ()), model)
            plain[plain_name(name)] = (*plain.get(plain_name(name), ()), model)
    _models, _by_plain_name, _models_known = tables, plain, len(models)
    return True
