"""
Targets as a person writes them on a command line.

    shop.Product:42   a row
    shop.Product      all of a model
    product:42        anything else is a key

Rule 1: what looks like a model and is none is an error, not a key: a typing mistake must not pass for an invalidation.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from django.apps import apps
from django.core.exceptions import ValidationError
from django.db import router
from django.db.models import Model

from invalidator import InvalidName
from invalidator.extending import check_key

from ...names import Names, closest_label, concrete_of, model_tag, plan_of, row_tags
from ...names.functions import ROWS_PER_QUERY
from ...transactions.outgoing import add_stale, alias_of

_MODEL = re.compile(r"([^\W\d]\w*)\.([^\W\d]\w*)(?::(.*))?", re.DOTALL)


class ModelTarget(NamedTuple):
    """A model, or with *pk* a row of it."""

    text: str
    model: type[Model]
    pk: Any = None


def read(text: str) -> str | ModelTarget:
    """Return what *text* means. Raises InvalidName if it can mean nothing."""
    if not (match := _MODEL.fullmatch(text)):
        return check_key(text)
    label, name, pk = match.groups()
    model = _model(text, label, name)
    return ModelTarget(text, model) if pk is None else ModelTarget(text, model, _pk(text, model, pk))


def entry_names(texts: Iterable[str]) -> tuple[list[str], list[str]]:
    """Return the keys and tags that entries about *texts* have. Raises InvalidName."""
    keys: list[str] = []
    tags: list[str] = []
    for target in map(read, texts):
        if isinstance(target, str):
            keys.append(target)
        else:
            tags += [model_tag(target.model)] if target.pk is None else row_tags(target.model, target.pk)
    return keys, tags


def stale_names(texts: Iterable[str], note: Callable[[str], object]) -> dict[str, Names]:
    """
    Return all that is stale if *texts* are, by the database whose transaction counts, as `invalidate` does.

    Rows are read from the database, for what `@invalidates` functions name for them.

    Args:
        note: called with a sentence for each thing that the caller should know.

    Raises:
        InvalidName: a text can mean nothing.
    """
    by_alias: dict[str, Names] = {}
    rows: dict[type[Model], dict[Any, ModelTarget]] = {}
    for target in list(map(read, texts)):
        if isinstance(target, ModelTarget) and target.pk is not None:
            rows.setdefault(target.model, {})[target.pk] = target
            continue
        meant = target if isinstance(target, str) else target.model
        add_stale(by_alias.setdefault(alias_of(meant), Names()), meant)
    for model, wanted in rows.items():
        by_alias.setdefault(alias_of(model), Names()).update(_names_of_rows(model, wanted, note))
    return by_alias


def _names_of_rows(model: type[Model], wanted: dict[Any, ModelTarget], note: Callable[[str], object]) -> Names:
    names = Names()
    found = model._base_manager.using(router.db_for_write(model))
    pks = list(wanted)
    for start in range(0, len(pks), ROWS_PER_QUERY):
        if start:
            note(f"{start} of {len(pks)} rows of {model._meta.label} read")
        for row in found.filter(pk__in=pks[start : start + ROWS_PER_QUERY]):
            add_stale(names, row)
            wanted.pop(row.pk, None)
    plan = plan_of(model, None)
    for pk, target in wanted.items():
        plan.add_rows(names, [pk])
        asked = ", and not what @invalidates functions named for it" if plan.has_functions else ""
        note(f"{target.text} is not in the database: its own tags are invalidated{asked}")
    return names


def _model(text: str, label: str, name: str) -> type[Model]:
    try:
        model = apps.get_model(label, name)
        concrete_of(model)
    except LookupError:
        close = closest_label(f"{label}.{name}", [model._meta.label for model in apps.get_models()])
        meant = "." if close is None else f"; did you mean {close}?"
        raise InvalidName(f"there is no model {label}.{name}{meant} If it is a key, say --key {text}") from None
    return model


def _pk(text: str, model: type[Model], pk: str) -> Any:
    fields = model._meta.pk_fields
    values = pk.split(",", len(fields) - 1)
    if not pk or len(values) != len(fields):
        raise InvalidName(
            f"{text} names no row: write {model._meta.label}:{','.join(field.name.upper() for field in fields)}, "
            f"{model._meta.label} for all rows, or --key {text} for a key"
        )
    try:
        read = tuple(field.to_python(value) for field, value in zip(fields, values, strict=True))
    except ValidationError as error:
        raise InvalidName(
            f"{text} names no row: {' '.join(error.messages)} For all rows write {model._meta.label}"
        ) from None
    return read if len(fields) > 1 else read[0]
