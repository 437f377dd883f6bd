"""
Saves and deletes of rows in memory. And, for strict writes, a transaction around what Django writes without one.

Every save of a row goes through `Model.save_base`, and every delete through `Collector.delete`: those of a row, of a
query set, of the admin, of a cascade. Both have the rows in memory, so they name them more exactly than their
statements could (`statements.py`), and mark these statements as handled by the caller. What they do by queries alone
(fast deletes, `SET_NULL` of rows that Django does not fetch) is published by the statements.

Rule 1: no query is added, unless an `@invalidates` function wants to see the rows.
Rule 2: a row that was written is published even if a receiver that is called before ours fails, and if no signal is
sent (for the tables that Django makes for many-to-many relations).
Rule 3: the names of a written row are taken right after its statement, before other code can change the row in memory.
Rule 4: the names of a delete are taken before it, since Django forgets the rows; they are collected in its transaction,
once a statement has succeeded, so that all of a delete is one message.
Rule 5: where no transaction is open, a strict write opens one around itself and its signals: only what is not
committed yet can be refused.
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Any, cast

from django.db import connections, router
from django.db.models import Field, Model, QuerySet
from django.db.models.deletion import Collector
from django.db.models.sql.subqueries import DeleteQuery, UpdateQuery

from ..interrupts import is_interruption
from ..names import Names, WritePlan, clone_of, concrete_of, fence, plan_of
from ..patching import Patches
from ..transactions.outgoing import announce, collect, own_transaction
from .receivers import note_written, take_written
from .statements import KNOWN_ROWS, Verb, handled_by_caller

_DELETING = "_invalidator_deleting"
"""Where a connection keeps the names of the `Collector` at work, which publishes the rows that it has in memory."""


patches = Patches("Saves and deletes of rows")


@patches.around(Collector, "delete", "self", why="deleted rows are invalidated with those of their cascade")
def _delete(original: Any) -> Any:
    def delete(self: Collector) -> tuple[int, dict[str, int]]:
        with _transaction_for(self):
            names = _names_of_known_rows(self)
            announce(names, self.using)  # refused now, the rows in memory keep their primary keys
            with _deleting(names, self.using):
                result: tuple[int, dict[str, int]] = original(self)
            collect(names, self.using)
            return result

    return delete


@contextlib.contextmanager
def _deleting(names: Names, using: str) -> Iterator[None]:
    """Keep *names* for the first statement on rows in memory, which collects them in the delete's own transaction."""
    state = connections[using].__dict__
    before = state.get(_DELETING)
    state[_DELETING] = names
    try:
        yield
    finally:
        state[_DELETING] = before


@patches.around(DeleteQuery, "delete_batch", "self, pk_list, using", why="`Collector.delete` invalidates its rows")
def _delete_batch(original: Any) -> Any:
    def delete_batch(self: DeleteQuery, pk_list: Any, using: str) -> int:
        with _handled_by_collector("delete", self, using):
            count: int = original(self, pk_list, using)
            return count

    return delete_batch


@patches.around(
    UpdateQuery,
    "update_batch",
    "self, pk_list, values, using",
    why="`Collector.delete` invalidates its rows",
)
def _update_batch(original: Any) -> Any:
    def update_batch(self: UpdateQuery, pk_list: Any, values: Any, using: str) -> None:
        with _handled_by_collector("update", self, using):
            original(self, pk_list, values, using)

    return update_batch


@contextlib.contextmanager
def _handled_by_collector(verb: Verb, query: Any, using: str) -> Iterator[None]:
    names: Names | None = connections[using].__dict__.get(_DELETING)
    if names is None:
        yield
        return
    with handled_by_caller(verb, concrete_of(query.get_meta().model), using):
        yield
    collect(names, using)
    names.clear()


@patches.around(
    Model,
    "save_base",
    "self, raw=False, force_insert=False, force_update=False, using=None, ...",
    why="a row is invalidated even if a receiver of its signals fails; a strict write needs a transaction",
)
def _save_base(original: Any) -> Any:
    def save_base(self: Model, *args: Any, **kwargs: Any) -> None:
        # Django passes it by name; other callers may pass it by position.
        using = kwargs.get("using") or (args[3] if len(args) > 3 else None)
        using = using or router.db_for_write(type(self), instance=self)
        plan = plan_of(type(self), using)
        if not plan.is_watched:
            original(self, *args, **kwargs)
            return
        with own_transaction(using):
            try:
                original(self, *args, **kwargs)
            finally:
                # The names that our receiver of `post_save` would have taken, had it been called.
                if names := take_written(self):
                    names.everything |= plan.has_functions
                    collect(names, using)

    return save_base


@patches.around(
    Model,
    "_save_table",
    "self, raw=False, cls=None, force_insert=False, force_update=False, using=None, update_fields=None",
    why="which columns a save writes is known nowhere else",
)
def _save_table(original: Any) -> Any:
    def save_table(
        self: Model,
        raw: bool = False,
        cls: type[Model] | None = None,
        force_insert: Any = False,
        force_update: bool = False,
        using: str | None = None,
        update_fields: Collection[str] | None = None,
    ) -> bool:
        plan = plan_of(cls or type(self), using)
        try:
            updated: bool = original(
                self,
                raw=raw,
                cls=cls,
                force_insert=force_insert,
                force_update=force_update,
                using=using,
                update_fields=update_fields,
            )
            # Parents come first: with the model's own table the row is whole, and their columns are its attributes.
            if plan.is_watched and plan.model is concrete_of(type(self)):
                names = note_written(self)
                with fence(names, plan):
                    plan.add_written(names, self, update_fields, own_table=raw)
        except BaseException as error:
            if plan.is_watched and (not isinstance(error, Exception) or is_interruption(error)):
                plan.add_coarsely(note_written(self))  # it struck after the statement, perhaps
            raise
        return updated

    return save_table


@patches.around(Model, "_do_update", "self, base_qs, using, ...", why="`Model.save_base` invalidates its row")
def _do_update(original: Any) -> Any:
    def do_update(self: Model, base_qs: Any, using: str, *args: Any, **kwargs: Any) -> Any:
        with handled_by_caller("update", concrete_of(base_qs.model), using):
            return original(self, base_qs, using, *args, **kwargs)

    return do_update


@patches.around(Model, "_do_insert", "self, manager, using, ...", why="`Model.save_base` invalidates its row")
def _do_insert(original: Any) -> Any:
    def do_insert(self: Model, manager: Any, using: str, *args: Any, **kwargs: Any) -> Any:
        with handled_by_caller("insert", self, using):
            return original(self, manager, using, *args, **kwargs)

    return do_insert


def _transaction_for(collector: Collector) -> contextlib.AbstractContextManager[object]:
    """The transaction of rule 5 for a delete; none if no change of its models is published."""
    watched = True
    with fence(Names(), None):
        watched = any(plan_of(model, collector.using).is_watched for model in _models_of(collector))
    return own_transaction(collector.using) if watched else contextlib.nullcontext()


def _models_of(collector: Collector) -> set[type[Model]]:
    columns = (column for column, _ in collector.field_updates)
    return {*collector.data, *(rows.model for rows in collector.fast_deletes), *(column.model for column in columns)}


def _names_of_known_rows(collector: Collector) -> Names:
    names = Names()
    deleted: list[tuple[WritePlan, list[Model]]] = []
    updated: list[tuple[WritePlan, Field[Any, Any], object, Collection[Model]]] = []
    with fence(names, None):
        deleted += [(plan_of(model, collector.using), list(rows)) for model, rows in collector.data.items()]
        # The stubs take the values for rows; they are lists of collections of rows.
        updates: dict[tuple[Field[Any, Any], Any], list[Collection[Model]]] = cast("Any", collector.field_updates)
        for (column, value), groups in updates.items():
            updated += [(plan_of(column.model, collector.using), column, value, rows) for rows in groups]
    for plan, rows in deleted:
        if rows and plan.is_watched:
            _add_deleted(names, plan, rows, collector)
    for plan, column, value, group in updated:
        if plan.is_watched:
            _add_updated(names, plan, column, value, group)
    return names


def _add_deleted(names: Names, plan: WritePlan, rows: Sequence[Model], collector: Collector) -> None:
    with fence(names, plan):
        _add_rows(names, plan, rows)
        plan.add_dependents(names)
    if not plan.has_functions:
        return
    if plan.is_historical:
        names.everything = True
    elif isinstance(collector.origin, Model):
        # The application may have changed the row in memory since it was read.
        plan.add_functions_in_database(names, [row.pk for row in rows])
    else:
        _add_functions(names, plan, rows)


def _add_rows(names: Names, plan: WritePlan, rows: Collection[Model]) -> None:
    if len(rows) > KNOWN_ROWS:
        plan.add_table(names)
        return
    for row in rows:
        plan.add_row(names, row)


def _add_updated(
    names: Names, plan: WritePlan, column: Field[Any, Any], value: object, rows: Collection[Model]
) -> None:
    """Add the names for rows of which Django will set *column* to *value* because its target is deleted."""
    if isinstance(rows, QuerySet) and rows._result_cache is None:  # noqa: SLF001 - as Collector.delete itself asks
        return  # Django updates these by a query, which `statements.py` sees
    with fence(names, plan):
        _add_rows(names, plan, rows)
        plan.add_columns(names, [column.name])
    if plan.has_functions:
        for row in rows:
            seen = [row]
            with fence(names, plan):
                after = clone_of(row)
                setattr(after, column.name if isinstance(value, Model) else column.attname, value)
                seen.append(after)
            _add_functions(names, plan, seen)


def _add_functions(names: Names, plan: WritePlan, rows: Iterable[Model]) -> None:
    if plan.is_historical:
        names.everything = True
        return
    for row in rows:
        plan.add_functions(names, row)
