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

from ..names import Names, concrete_of, ends_of, functions, is_watched
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
        if functions.has_functions(model):
            pre_delete.connect(_row_is_wanted, sender=model, dispatch_uid=_UID)
        if any(functions.has_functions(key.related_model) for key in ends_of(model)):
            m2m_changed.connect(links_changed, sender=model, dispatch_uid=_UID)


def _row_is_wanted(sender: type[Model], **_: object) -> None:
    """Does its work by being connected: it turns fast deletes off for its model, and for no other."""


def before_save(sender: type[Model], instance: Model, using: str, *, raw: bool, **_: object) -> None:
    """Keep what the functions name for the row as it is in the database; its own query, and only if there are any."""
    if (
        raw
        or instance.pk is None
        or not is_watched(sender)
        or not functions.has_functions(sender)
        or functions.is_historical(sender)
    ):
        return
    # A new row is not locked: MySQL would lock the gap where it goes.
    known = not instance._state.adding
    names = functions.names_in_database(sender, [instance.pk], using, lock=known)
    # Added to what a failed or a nested save left there: a name too many is a miss, a name too few is stale.
    _before(instance).update(names)


def after_save(sender: type[Model], instance: Model, using: str, *, raw: bool, **_: object) -> None:
    """Invalidate the row, its table, the columns that were written, and what the functions name before and after."""
    if not is_watched(sender):
        return
    names = take_written(instance)
    names.row_changed(instance)
    try:
        if functions.has_functions(sender):
            names.update(instance._state.__dict__.pop(_BEFORE, Names()))
            names.update(_names_after(sender, instance, using, raw=raw))
    except Exception:
        names.everything = True
        raise
    finally:
        collect(names, using)


def note_written(instance: Model) -> Names:
    """Return the names of what was written of *instance* and not told yet, to add to."""
    names: Names = instance._state.__dict__.setdefault(_WRITTEN, Names())
    return names


def take_written(instance: Model) -> Names:
    """Return the names of what was written of *instance* and not told yet: they will be."""
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
    if not is_watched(sender):
        return
    names = Names()
    try:
        if functions.has_functions(type(instance)) or functions.has_functions(model):
            names.update(_names_of_linked(sender, instance, model, pk_set, using))
    except Exception:
        names.everything = True
        raise
    finally:
        collect(names, using)


def _before(instance: Model) -> Names:
    names: Names = instance._state.__dict__.setdefault(_BEFORE, Names())
    return names


def _names_after(sender: type[Model], instance: Model, using: str, *, raw: bool) -> Names:
    if raw or functions.is_historical(sender):
        return Names(everything=True)
    if functions.has_expressions(instance):
        return functions.names_in_database(sender, [instance.pk], using)
    names = functions.names_of(instance)
    names.update(functions.names_in_database(sender, [instance.pk], using, only_children=True))
    return names


def _are_pks(through: type[Model], model: type[Model]) -> bool:
    """Whether the links point at primary keys; a `to_field` may make them point elsewhere."""
    keys: list[Any] = [key for key in through._meta.concrete_fields if key.is_relation]
    return all(key.target_field.primary_key for key in keys if concrete_of(key.related_model) is concrete_of(model))


def _names_of_linked(
    through: type[Model], instance: Model, model: type[Model], pk_set: Collection[object] | None, using: str
) -> Names:
    if functions.is_historical(type(instance)):
        return Names(everything=True)
    names = functions.names_of(instance)
    if functions.has_functions(model):
        if pk_set is None or not _are_pks(through, model):  # clear(): nobody has read which rows were linked
            return Names(everything=True)
        names.update(functions.names_in_database(model, list(pk_set), using))
    return names
