"""
Writes that send no signals: deletes. And, for strict writes, a transaction around what Django writes without one.

`Collector.delete` is where Django deletes, whoever asks: `instance.delete()`, `queryset.delete()`, the admin, a
cascade. It knows the rows it has fetched, the queries by which it deletes the rest unseen (fast deletes), and the
foreign keys it sets to NULL or a default. It is wrapped once, because the signals would cost what fast deletes save:
one receiver of `post_delete` for a model makes Django fetch each of its rows.

Rule 1: no query is added, unless an `@invalidates` function wants to see the rows.
Rule 2: a row that was fetched is known; rows that were not are the model's `*` tag, and only if any was deleted.
Rule 3: names are taken before the delete, which forgets the rows, and collected after it, when it has worked.
Rule 4: where no transaction is open, a strict write opens one around itself and its signals: only what is not
committed yet can be refused. Many-to-many changes need no help, Django opens one for them.
"""

from __future__ import annotations

import contextlib
import copy
import functools
from collections.abc import Iterable
from typing import Any, cast

from django.db import router
from django.db.models import Field, Model, QuerySet
from django.db.models.deletion import Collector

from . import registry
from .names import Names, is_watched
from .transactions import announce, collect, own_transaction


@functools.cache  # once, however often the app is set up, and whoever else wraps it
def install() -> None:
    """Wrap `Collector.delete` and `Model.save_base`."""
    _wrap_delete()
    _wrap_save()


def _wrap_delete() -> None:
    original = Collector.delete

    @functools.wraps(original)
    def delete(self: Collector) -> tuple[int, dict[str, int]]:
        with _transaction_for(_models_of(self), self.using):
            names = _names_of_known_rows(self)
            unseen = [rows.model for rows in self.fast_deletes]
            announce(names, self.using)  # refused now, the rows in memory keep their primary keys
            result = original(self)
            names.update(_names_of_unseen_rows(unseen, result[1]))
            collect(names, self.using)
            return result

    Collector.delete = delete  # type: ignore[method-assign]


def _wrap_save() -> None:
    original: Any = Model.save_base

    @functools.wraps(original)
    def save_base(self: Model, *args: Any, **kwargs: Any) -> None:
        # Django passes it by name; somebody else may not.
        using = kwargs.get("using") or (args[3] if len(args) > 3 else None)
        with _transaction_for((type(self),), using or router.db_for_write(type(self), instance=self)):
            original(self, *args, **kwargs)

    Model.save_base = save_base  # type: ignore[method-assign]


def _transaction_for(models: Iterable[type[Model]], using: str) -> contextlib.AbstractContextManager[object]:
    """Rule 4, for a write to *models*; those that nobody watches are written as if we were not there."""
    return own_transaction(using) if any(map(is_watched, models)) else contextlib.nullcontext()


def _models_of(collector: Collector) -> set[type[Model]]:
    columns = (column for column, _ in collector.field_updates)
    return {*collector.data, *(rows.model for rows in collector.fast_deletes), *(column.model for column in columns)}


def _names_of_known_rows(collector: Collector) -> Names:
    names = Names()
    for model, rows in collector.data.items():
        if rows and is_watched(model):
            _add_deleted(names, model, rows, collector)
    # The stubs take the values for rows; they are lists of collections of rows.
    field_updates: dict[tuple[Field[Any, Any], Any], list[Iterable[Model]]] = cast("Any", collector.field_updates)
    for (column, value), groups in field_updates.items():
        if is_watched(column.model):
            for updated in groups:
                _add_updated(names, column, value, updated)
    return names


def _add_deleted(names: Names, model: type[Model], rows: Iterable[Model], collector: Collector) -> None:
    for row in rows:
        names.row_changed(row)
    if not registry.has_functions(model):
        return
    if registry.is_historical(model):
        names.everything = True
    elif isinstance(collector.origin, Model):
        # What the application holds in its hands may have been changed since it was read.
        names.update(registry.names_in_database(model, [row.pk for row in rows], collector.using))
    else:
        _add_named(names, rows)


def _add_updated(names: Names, column: Field[Any, Any], value: object, rows: Iterable[Model]) -> None:
    """Add the names for rows of which Django will set *column* to *value* because its target is deleted."""
    wanted = registry.has_functions(column.model)
    if isinstance(rows, QuerySet) and rows._result_cache is None:  # noqa: SLF001 - as Collector.delete itself asks
        # Django updates these without looking at them. So do we, unless a function wants to see them.
        if not wanted:
            names.table_changed(column.model)
            return
        rows = list(rows.all())
    for row in rows:
        names.row_changed(row)
        if wanted:
            after = copy.copy(row)
            setattr(after, column.name if isinstance(value, Model) else column.attname, value)
            _add_named(names, (row, after))


def _add_named(names: Names, rows: Iterable[Model]) -> None:
    for row in rows:
        if registry.is_historical(type(row)):
            names.everything = True
            return
        names.update(registry.names_of(row))


def _names_of_unseen_rows(models: Iterable[type[Model]], deleted: dict[str, int]) -> Names:
    names = Names()
    for model in models:
        if is_watched(model) and deleted.get(model._meta.label):
            names.table_changed(model)
            # A function was registered for it after Django looked, or for a migration's model.
            names.everything |= registry.has_functions(model)
    return names
