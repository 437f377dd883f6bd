"""
Receivers of signals: from `post_save` to the names of the saved row; and what `@invalidates` functions name for links.

All other writes are seen where Django carries them out (`saves.py`, `statements.py`). A receiver of `pre_delete` makes
Django fetch every row before it deletes it, and one of `m2m_changed` makes it look for existing links before it adds
some; so these are connected only for models whose rows a function wants to see.

Rule 1: the tags of a row need no query. Only `@invalidates` functions may need one (`names/functions.py`).
Rule 2: the names found so far are collected even if a function raises after them.
Rule 3: ours is the first receiver of `post_save`: another one may read the row that was just saved, and must not get
the old one from a cache. (Models connect theirs while they are imported, before any app is ready.)
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Literal

from django.apps import apps
from django.db import router
from django.db.models import Model
from django.db.models.signals import m2m_changed, post_save, pre_delete, pre_save

from ..names import Names, WritePlan, concrete_of, fence, is_model, plan_of
from ..transactions.outgoing import collect

_UID = "invalidator"
_BEFORE = "_invalidator_before"
"""Where a row's state keeps, between `pre_save` and `post_save`, the names that functions gave the row as it was."""

_WRITTEN = "_invalidator_written"
"""Where it keeps, between the SQL of a save and its `post_save`, the names of the row as it was written."""

M2MAction = Literal["pre_add", "post_add", "pre_remove", "post_remove", "pre_clear", "post_clear"]


def connect() -> None:
    """Connect the receivers; a second time changes nothing."""
    pre_save.connect(before_save, dispatch_uid=_UID)
    post_save.connect(after_save, dispatch_uid=_UID)
    _put_first(post_save)


def _put_first(signal: Any) -> None:
    """Make our receiver the first of *signal*. Django calls receivers in the order of this list."""
    with signal.lock:
        signal.receivers.sort(key=lambda receiver: receiver[0][0] != _UID)
        signal.sender_receivers_cache.clear()


def keep_rows() -> None:
    """Make Django fetch the rows that it deletes or links, for models whose rows an `@invalidates` function wants."""
    for model in apps.get_models(include_auto_created=True):
        plan = plan_of(model, None)
        if plan.has_functions:
            pre_delete.connect(_row_is_wanted, sender=model, dispatch_uid=_UID)
        if plan.links_wanted():
            m2m_changed.connect(links_changed, sender=model, dispatch_uid=_UID)


def _row_is_wanted(sender: type[Model], **_: object) -> None:
    """Do nothing when called: being connected is enough to turn off fast deletes, for this model only."""


def before_save(
    sender: type[Model], instance: Model | None = None, using: str | None = None, raw: bool = False, **_: object
) -> None:
    """
    Keep what the functions name for the row as it is in the database; that costs a query, if there are functions.

    Whoever sends this signal by hand may leave out all but the sender, as for the next one.
    """
    if instance is None or not is_model(sender):
        return
    plan = plan_of(sender, using)
    if raw or instance.pk is None or not plan.is_watched or not plan.has_functions or plan.is_historical:
        return
    # A new row is not locked: MySQL would lock the gap where it goes.
    known = not instance._state.adding
    # Added to what a failed or nested save has left there: a name too many costs a miss, a missing one a stale value.
    plan.add_functions_in_database(_before(instance), [instance.pk], lock=known)


def after_save(
    sender: type[Model], instance: Model | None = None, using: str | None = None, raw: bool = False, **_: object
) -> None:
    """Invalidate the row, its table, the columns that were written, and what the functions name before and after."""
    if not is_model(sender):
        return
    using = using or _database_of(sender, instance)
    plan = plan_of(sender, using)
    if not plan.is_watched:
        return
    if instance is None:
        collect(_names_of_table(plan), using)
        return
    names = take_written(instance)
    if not names:  # the signal is sent by code that wrote the row in another way
        with fence(names, plan):
            names.update(_names_of_table(plan) if instance.pk is None else _names_of_row(plan, instance))
    try:
        if plan.has_functions:
            names.update(instance._state.__dict__.pop(_BEFORE, Names()))
            _add_functions_after(plan, names, instance, raw=raw)
    except Exception:
        names.everything = True
        raise
    finally:
        collect(names, using)


def _database_of(sender: type[Model], instance: Model | None) -> str:
    return (instance is not None and instance._state.db) or router.db_for_write(sender)


def _names_of_table(plan: WritePlan) -> Names:
    names = Names()
    with fence(names, plan):
        plan.add_coarsely(names)
    return names


def _names_of_row(plan: WritePlan, row: Model) -> Names:
    names = Names()
    plan.add_named_row(names, row)
    return names


def note_written(instance: Model) -> Names:
    """Return the names of *instance* as it was written, not yet collected, for the caller to add to."""
    names: Names = instance._state.__dict__.setdefault(_WRITTEN, Names())
    return names


def take_written(instance: Model) -> Names:
    """Take the names of *instance* as it was written, not yet collected; the caller collects them."""
    names: Names = instance._state.__dict__.pop(_WRITTEN, None) or Names()
    return names


def links_changed(
    sender: type[Model],
    instance: Model,
    action: M2MAction,
    model: type[Model],
    pk_set: Collection[object] | None = None,
    using: str | None = None,
    **_: object,
) -> None:
    """
    Invalidate what the functions name for the rows on both sides of a many-to-many relation.

    Called before and after the change, both times in its transaction. The tags come from the statements.
    """
    if pk_set is not None and not pk_set:
        return  # add() of rows that are linked already
    using = using or _database_of(sender, instance)
    if not plan_of(sender, using).is_watched:
        return
    names = Names()
    try:
        here, there = plan_of(type(instance), using), plan_of(model, using)
        if here.has_functions or there.has_functions:
            _add_functions_of_linked(names, sender, instance, here, there, pk_set)
    except Exception:
        names.everything = True
        raise
    finally:
        collect(names, using)


def _before(instance: Model) -> Names:
    names: Names = instance._state.__dict__.setdefault(_BEFORE, Names())
    return names


def _add_functions_after(plan: WritePlan, names: Names, instance: Model, *, raw: bool) -> None:
    if raw or plan.is_historical:
        names.everything = True
    else:
        plan.add_functions_after(names, instance)
        plan.add_functions_in_database(names, [instance.pk], only_children=True)


def _are_pks(through: type[Model], model: type[Model]) -> bool:
    """Whether the links point at primary keys; a `to_field` may make them point elsewhere."""
    keys: list[Any] = [key for key in through._meta.concrete_fields if key.is_relation]
    return all(key.target_field.primary_key for key in keys if concrete_of(key.related_model) is concrete_of(model))


def _add_functions_of_linked(
    names: Names,
    through: type[Model],
    instance: Model,
    here: WritePlan,
    there: WritePlan,
    pk_set: Collection[object] | None,
) -> None:
    if here.is_historical:
        names.everything = True
        return
    here.add_functions(names, instance)
    if not there.has_functions:
        return
    with fence(names, there):
        if pk_set is None or not _are_pks(through, there.model):  # after clear(), which rows were linked is not known
            names.everything = True
    if not names.everything:
        there.add_functions_in_database(names, list(pk_set or ()))
