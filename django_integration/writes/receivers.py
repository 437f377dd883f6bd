"""
What signals tell: that a row is about to be saved, and has been; and, to `@invalidates` functions, what was linked.

All other writes are taken where Django sends them (`compilers.py`, `writes.py`). A receiver of `post_delete` would make
Django fetch every row before it deletes it, and one of `m2m_changed` look which links are there before it adds some;
so they are connected for the models alone whose rows a function wants to see.

Rule 1: the tags of a row need no query. Only `@invalidates` functions may, see `registry.py`.
Rule 2: what was seen is collected even when a function fails after it.
Rule 3: ours is the first receiver of `post_save`: what another one reads, of a row that was just saved, must not come
from a cache that has not heard of it. (Models connect theirs while they are imported, before any app is ready.)
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Literal

from django.apps import apps
from django.db.models import Model
from django.db.models.signals import m2m_changed, post_save, pre_delete, pre_save

from ..names import Names, WritePlan, concrete_of, has_expressions, plan_of
from ..transactions.outgoing import collect

_UID = "invalidator"
_BEFORE = "_invalidator_before"
"""Where a row's state keeps, between `pre_save` and `post_save`, what the functions named for the row as it was."""

_WRITTEN = "_invalidator_written"
"""Where it keeps, between the SQL of a save and its `post_save`, the names of what was written."""

M2MAction = Literal["pre_add", "post_add", "pre_remove", "post_remove", "pre_clear", "post_clear"]


def connect() -> None:
    """Connect the receivers; a second time changes nothing."""
    pre_save.connect(before_save, dispatch_uid=_UID)
    post_save.connect(after_save, dispatch_uid=_UID)
    _put_first(post_save)


def _put_first(signal: Any) -> None:
    """Let our receiver be the first of *signal*'s. Django calls them in the order of this list."""
    with signal.lock:
        signal.receivers.sort(key=lambda receiver: receiver[0][0] != _UID)
        signal.sender_receivers_cache.clear()


def keep_rows() -> None:
    """Make Django fetch what it deletes and links of models whose rows an `@invalidates` function wants to see."""
    for model in apps.get_models(include_auto_created=True):
        plan = plan_of(model, None)
        if plan.has_functions:
            pre_delete.connect(_row_is_wanted, sender=model, dispatch_uid=_UID)
        if plan.links_wanted():
            m2m_changed.connect(links_changed, sender=model, dispatch_uid=_UID)


def _row_is_wanted(sender: type[Model], **_: object) -> None:
    """Does its work by being connected: it turns fast deletes off for its model, and for no other."""


def before_save(sender: type[Model], instance: Model, using: str, *, raw: bool, **_: object) -> None:
    """Keep what the functions name for the row as it is in the database; its own query, and only if there are any."""
    plan = plan_of(sender, using)
    if raw or instance.pk is None or not plan.is_watched or not plan.has_functions or plan.is_historical:
        return
    # A new row is not locked: MySQL would lock the gap where it goes.
    known = not instance._state.adding
    # Added to what a failed or a nested save left there: a name too many is a miss, a name too few is stale.
    plan.add_functions_in_database(_before(instance), [instance.pk], lock=known)


def after_save(sender: type[Model], instance: Model, using: str, *, raw: bool, **_: object) -> None:
    """Invalidate the row, its table, the columns that were written, and what the functions name before and after."""
    plan = plan_of(sender, using)
    if not plan.is_watched:
        return
    names = take_written(instance)
    if not names:  # somebody else has written the row, and sends the signal
        plan.add_row(names, instance)
    try:
        if plan.has_functions:
            names.update(instance._state.__dict__.pop(_BEFORE, Names()))
            _add_functions_after(plan, names, instance, raw=raw)
    except Exception:
        names.everything = True
        raise
    finally:
        collect(names, using)


def note_written(instance: Model) -> Names:
    """Return the names of what was written of *instance* and is not published yet, to add to."""
    names: Names = instance._state.__dict__.setdefault(_WRITTEN, Names())
    return names


def take_written(instance: Model) -> Names:
    """Return the names of what was written of *instance* and is not published yet: the caller publishes them."""
    names: Names = instance._state.__dict__.pop(_WRITTEN, None) or Names()
    return names


def links_changed(
    sender: type[Model],
    instance: Model,
    action: M2MAction,
    model: type[Model],
    pk_set: Collection[object] | None,
    using: str,
    **_: object,
) -> None:
    """
    Invalidate what the functions name for the rows on both sides of a many-to-many relation.

    Called before and after the change, both times in its transaction; the tags are told by the statements.
    """
    if pk_set is not None and not pk_set:
        return  # add() of what is there already
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
    elif has_expressions(instance):
        plan.add_functions_in_database(names, [instance.pk])
    else:
        plan.add_functions(names, instance)
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
    if there.has_functions:
        if pk_set is None or not _are_pks(through, there.model):  # clear(): which rows were linked is not known
            names.everything = True
        else:
            there.add_functions_in_database(names, list(pk_set))
