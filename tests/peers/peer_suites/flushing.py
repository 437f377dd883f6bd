"""
Empty tables after a `TransactionTestCase`, in a tenth of the time.

Django truncates, and then works out anew which content types and permissions there have to be. Here the rows are
deleted, by SQL that no compiler has made (which every cache has to notice), and these are put back as they were.
"""

from __future__ import annotations

from typing import Any

import reading
from django.apps import apps
from django.db import connections
from django.test import TransactionTestCase

KEPT = ("contenttypes.ContentType", "auth.Permission")


def flush_quickly() -> None:
    """Call it when the tables are there, and no test has run."""
    models = [apps.get_model(label) for label in KEPT]
    with reading.past_the_cache():
        rows = {alias: [(model, list(model._base_manager.using(alias))) for model in models] for alias in connections}

    def _fixture_teardown(self: Any) -> None:
        for alias in self._databases_names(include_mirrors=False):
            _delete_all(alias)
            for model, kept in rows[alias]:
                model._base_manager.using(alias).bulk_create(kept)

    TransactionTestCase._fixture_teardown = _fixture_teardown  # type: ignore[attr-defined]


def _delete_all(alias: str) -> None:
    # Again as in the conftest of tests/unit/django_integration: cacheops' tests are a package `tests` of their own.
    connection = connections[alias]
    tables = connection.introspection.django_table_names(only_existing=True, include_views=False)
    deletes = [f"DELETE FROM {connection.ops.quote_name(table)}" for table in tables]
    with connection.constraint_checks_disabled():  # the others check at the commit
        connection.ops.execute_sql_flush(deletes)
