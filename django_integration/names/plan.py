"""
From a written row to names, in one pass.

What a write makes stale follows from its model: the tables that the row is in, the models that share the row by
inheritance, the rows that it links, the columns that can be compared, the functions of `@invalidates`. A `WritePlan`
works that out once for each model and database, when it is first needed. Whoever sees a write (a save, a delete, a
statement, a link, `invalidate(row)`) asks the plan, and gets the names.

Rule 1: the plan sends no query, unless a function of `@invalidates` wants to see rows. What is not in memory is not
known, and unknown rows are the `*` tag.
Rule 2: a change of a row is a change of its model, of all its parents and of all its children: a child's copy holds the
parent's columns. A row of a many-to-many relation's through table is a change of the rows that it links.
Rule 3: values are named for a row that was written whole. A write of some of its columns names these columns, and no
value: what is in memory beside them may be old.
Rule 4: a plan is made anew when models, functions or the setting have changed.
Rule 5: a model for which no plan can be made has one all the same, by which every write of it is a change of everything
(`_EverythingPlan`).
"""

from __future__ import annotations

import functools
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from django.core.signals import setting_changed
from django.db import DEFAULT_DB_ALIAS
from django.db.models import Model

from invalidator import Tag

from ..conf import SETTING
from . import functions as registered
from .columns import tags_of_columns, tags_of_values
from .fences import fence
from .functions import Target
from .names import Names
from .relations import (
    MOST_MODELS,
    concrete_of,
    dependents_in_database,
    ends_of,
    family,
    has_expressions,
    have_one_key,
    is_historical,
    is_model,
    tables_of,
)
from .tags import has_inexact_key, known_row_tag, model_tag, row_tags, unknown_rows_tag
from .watched import is_watched

Ends = Mapping[str, Collection[object]]
"""What the foreign keys of a through model hold in some rows, by attribute name, as far as is known."""


class _Table:
    """A table in which a row has columns."""

    __slots__ = ("is_historical", "model", "unknown")

    def __init__(self, model: type[Model]) -> None:
        self.model = model
        self.is_historical = is_historical(model)
        self.unknown = (model_tag(model), unknown_rows_tag(model))

    def tags_of_values(self, state: Mapping[str, object]) -> Iterable[str]:
        """The tags of a row of which every column here was written; *state* is its `__dict__`."""
        return self.unknown if self.is_historical else tags_of_values(self.model, state)

    def tags_of_columns(self, columns: Collection[str] | None) -> Iterable[str]:
        """The tags of these columns (None: all), of which the values are not known."""
        return self.unknown if self.is_historical else tags_of_columns(self.model, columns)


class _Relative:
    """A model that shares rows with *base*: itself, a parent or a child."""

    __slots__ = ("has_key_of_base", "has_other_rows", "model", "table", "unknown")

    def __init__(self, model: type[Model], base: type[Model]) -> None:
        self.model = model
        self.has_key_of_base = have_one_key(model, base)
        self.has_other_rows = has_inexact_key(model)
        self.table = model_tag(model)
        self.unknown = unknown_rows_tag(model)

    def key_in(self, row: Model) -> object:
        """The primary key of *row* in this table; None if it is not known without a query."""
        if self.has_key_of_base:
            return _known(row.pk)
        # A parent's columns are the child's attributes. A child with a key of its own is not known.
        return _known(row.__dict__.get(self.model._meta.pk.attname)) if isinstance(row, self.model) else None

    def add_to(self, tags: dict[str, None], key: object) -> None:
        """Add the tags of a change of the row with this key; None stands for unknown rows."""
        tags[self.table] = None
        name = None if key is None else known_row_tag(self.model, key)
        if name is not None:
            tags[name] = None
        if name is None or self.has_other_rows:
            tags[self.unknown] = None


def _known(key: object) -> object:
    """*key*; None if a part of it is missing, or is an expression, whose value only the database knows."""
    parts = key if isinstance(key, tuple) else (key,)
    return None if any(part is None or hasattr(part, "resolve_expression") for part in parts) else key


def _family(model: type[Model]) -> tuple[_Relative, ...]:
    return tuple(_Relative(relative, model) for relative in family(model))


def _add_by_key(tags: dict[str, None], relatives: Iterable[_Relative], key: object) -> None:
    for relative in relatives:
        relative.add_to(tags, key if relative.has_key_of_base else None)


class _Link:
    """A foreign key of a through table: the row at its end changes with the link."""

    __slots__ = ("attname", "is_by_primary_key", "related_model", "relatives")

    def __init__(self, key: Any) -> None:
        self.attname: str = key.attname
        self.is_by_primary_key: bool = key.target_field.primary_key
        self.related_model: type[Model] = concrete_of(key.related_model)
        self.relatives = _family(self.related_model)

    def add_to(self, tags: dict[str, None], values: Iterable[object] | None) -> None:
        """Add the tags of the rows at the end of the link; None stands for unknown values."""
        for value in values if values is not None and self.is_by_primary_key else (None,):
            _add_by_key(tags, self.relatives, value)


class WritePlan:
    """
    What a write to rows of one model, in one database, makes stale.

    The methods that begin with `add_` add names to those that they are given.

    Attributes:
        model: the concrete one.
        is_watched: whether its changes are published at all. The caller asks; the methods name what they are asked for.
        has_functions: whether some `@invalidates` function wants to see its rows, or its children's.
        is_historical: whether it is a migration's model, whose rows no function can see.
    """

    def __init__(self, model: type[Model], using: str) -> None:
        self.model = concrete_of(model)
        self.using = using
        self.related = model._meta.related_objects
        self.is_watched = is_watched(self.model)
        self.is_historical = is_historical(self.model)
        self.has_functions = registered.any_for(self.model)
        self._functions = registered.of_rows(self.model)
        self._children_wanted = registered.children_wanted(self.model)
        self._table = _Table(self.model)
        self._tables = tuple(map(_Table, tables_of(self.model)))
        self._watched_tables = tuple(table for table in self._tables if is_watched(table.model))
        self._family = _family(self.model)
        self._links = tuple(map(_Link, ends_of(self.model)))

    def links_wanted(self) -> bool:
        """Whether the rows are links, and some function wants to see the rows at one of their ends."""
        return any(plan_of(link.related_model, self.using).has_functions for link in self._links)

    # Names of what was written.

    def add_written(
        self, names: Names, row: Model, columns: Collection[str] | None = None, *, own_table: bool = False
    ) -> None:
        """
        Add all names of a row that was written just now.

        Args:
            columns: names or attribute names of those written, as in `save(update_fields=…)`. None: all of them, and
                *row* holds what the database holds now, apart from columns that it lacks and expressions.
            own_table: whether only the model's own table was written, and none of its parents'.
        """
        state = row.__dict__
        for table in (self._table,) if own_table else self._watched_tables:
            tags = table.tags_of_values(state) if columns is None else table.tags_of_columns(columns)
            names.tags.update(dict.fromkeys(tags))
        self.add_row(names, row)

    def add_row(self, names: Names, row: Model) -> None:
        """Add the tags of a row that has changed in columns that the caller names, or was deleted."""
        for relative in self._family:
            relative.add_to(names.tags, relative.key_in(row))
        for link in self._links:
            # Only what is in memory: a deferred column would cost a query.
            link.add_to(names.tags, (_known(row.__dict__.get(link.attname)),))
        names.bound()

    def add_named_row(self, names: Names, row: Model) -> None:
        """
        Add the tags of a row that the application names as changed. Raises InvalidName if it was never saved.

        Which columns have changed is not known; what is in memory may be older than what changed them.
        """
        row_tags(row)
        for table in self._tables:
            names.tags.update(dict.fromkeys(table.tags_of_columns(None)))
        self.add_row(names, row)

    def add_rows(self, names: Names, pks: Iterable[object] | None, ends: Ends | None = None) -> None:
        """Add the tags of rows by their primary keys, and of the rows that they link. *pks* is None if not known."""
        for pk in (None,) if pks is None else pks:
            _add_by_key(names.tags, self._family, pk)
        for link in self._links:
            link.add_to(names.tags, (ends or {}).get(link.attname))
        names.bound()

    def add_table(self, names: Names) -> None:
        """Add the tags for a change of which the rows are not known."""
        self.add_rows(names, None)

    def add_columns(self, names: Names, columns: Collection[str]) -> None:
        """Add the tags of *columns* of the model's own table, by name or attribute name: some rows' values changed."""
        names.tags.update(dict.fromkeys(self._table.tags_of_columns(columns)))
        names.bound()

    def add_coarsely(self, names: Names) -> None:
        """Add all that any write to rows of the model could make stale."""
        self.add_table(names)
        self.add_dependents(names)
        # No function has seen the rows.
        names.everything |= self.has_functions or self.links_wanted()

    def add_dependents(self, names: Names) -> None:
        """Add the tables whose rows the database itself deletes or changes when rows of the model are deleted."""
        for dependent in dependents_in_database(self.model):
            plan = plan_of(dependent, self.using)
            if plan.is_watched:
                plan.add_table(names)

    # What functions name.

    def add_functions(self, names: Names, row: Model) -> None:
        """Add what the functions of the model, and of its parents, name for *row*. Their errors come through."""
        for function in self._functions:
            for target in registered.call(function, row):
                add_target(names, target)

    def add_functions_after(self, names: Names, row: Model) -> None:
        """Add what the functions name for a row that was written just now, as it is in the database after that."""
        is_in_memory = False
        with fence(names, self):
            is_in_memory = not has_expressions(row)
        if is_in_memory:
            self.add_functions(names, row)
        else:
            self.add_functions_in_database(names, [row.pk])

    def add_functions_in_database(
        self, names: Names, pks: Sequence[object], *, lock: bool = False, only_children: bool = False
    ) -> None:
        """
        Add what the functions name for the rows with these primary keys as they are in the database.

        Args:
            lock: keep the rows as they are until the transaction ends, where there is one and the database can.
            only_children: only for the rows as rows of a child model, by multi-table inheritance.
        """
        known: list[object] = []
        with fence(names, self):
            known += [pk for pk in pks if _known(pk) is not None]
            names.everything |= len(known) < len(pks)
        own = (self.model,) if self._functions and not only_children else ()
        for model in (*own, *self._children_wanted):
            plan = plan_of(model, self.using)
            for start in range(0, len(known), registered.ROWS_PER_QUERY):
                for row in self._read(names, model, known[start : start + registered.ROWS_PER_QUERY], lock=lock):
                    plan.add_functions(names, row)

    def _read(self, names: Names, model: type[Model], pks: Sequence[object], *, lock: bool) -> Sequence[Model]:
        with fence(names, self):
            return registered.read_rows(model, self.model._meta.pk.name, pks, self.using, lock=lock)
        return ()  # what the functions would have named is everything now


class _EverythingPlan(WritePlan):
    """The plan of a model of which something cannot be told: every write of it makes everything stale."""

    def __init__(self, model: type[Model], using: str) -> None:
        self.model = model
        self.using = using
        self.related = model._meta.related_objects
        self.is_watched = self.is_historical = True  # as of a migration's model, no function sees the rows
        self.has_functions = False

    def links_wanted(self) -> bool:
        return False

    def _add_everything(self, names: Names, *_: object, **__: object) -> None:
        names.everything = True

    add_written = add_row = add_named_row = add_rows = add_columns = add_dependents = _add_everything
    add_table = add_coarsely = add_functions = add_functions_in_database = _add_everything


@functools.lru_cache(maxsize=MOST_MODELS)
def _make_plan(model: type[Model], using: str) -> WritePlan:
    everything = _EverythingPlan(concrete_of(model), using)
    with fence(Names(), everything):
        return WritePlan(model, using)
    return everything


def plan_of(model: type[Model], using: str | None) -> WritePlan:
    """Return the plan of *model* in the database *using* (None: the default one), made when it is first asked for."""
    plan = _make_plan(model, using or DEFAULT_DB_ALIAS)
    # Django makes this list anew when a model is added.
    if plan.related is not model._meta.related_objects:
        forget_plans()
        plan = _make_plan(model, using or DEFAULT_DB_ALIAS)
    return plan


def forget_plans() -> None:
    """Make every plan anew when it is needed next."""
    _make_plan.cache_clear()


def plan_of_row(row: Model) -> WritePlan:
    """Return the plan of *row* in the database that it was read from or saved to."""
    return plan_of(type(row), row._state.db)


def add_target(names: Names, target: Target) -> None:
    """
    Add a key, a tag, a row or a table that the application names.

    Raises:
        TypeError: *target* is none of these.
        InvalidName: a key is impossible, or a row was never saved.
    """
    if isinstance(target, str | Tag):
        names.add_name(target)
    elif isinstance(target, Model):
        plan_of_row(target).add_named_row(names, target)
    elif is_model(target):
        plan_of(target, None).add_table(names)
    else:
        raise TypeError(
            "a key (str), a tag (tag('prices')), a model instance or a model class can be invalidated, "
            f"not {type(target).__name__}: {target!r}"
        )


def _on_setting_changed(*, setting: str, **_: object) -> None:
    if setting in (SETTING, "INSTALLED_APPS"):
        forget_plans()


registered.on_added(forget_plans)
setting_changed.connect(_on_setting_changed, dispatch_uid="invalidator.plan")
