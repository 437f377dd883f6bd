"""Which models' changes are published: the setting `MODELS`."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from fnmatch import fnmatchcase
from typing import Any, cast

from django.apps import apps
from django.core.signals import setting_changed
from django.db.models import Model

from ..conf import SETTING, conf
from .relations import by_model, concrete_of
from .tags import label_in

UNWATCHED = frozenset({"admin.logentry", "migrations.migration", "sessions.session"})
"""Tables written on nearly every request, or by `migrate` alone, of which no cache holds rows under a model's tag."""


@by_model
def is_watched(model: type[Model]) -> bool:
    """
    Whether changes of *model* are published, by the setting `MODELS`.

    An excluded model is not watched. An included one is; one of `UNWATCHED` only by a pattern other than "*". A child
    of a watched model by multi-table inheritance is always watched, since its rows are rows of its parent. The table
    that Django makes for a many-to-many relation is watched with the model that has the relation, unless it is named
    itself.
    """
    model = concrete_of(model)
    label = model._meta.label_lower
    if any(map(is_watched, model._meta.get_parent_list())):
        return True
    included = conf.models.get("include", ("*",))
    if _matches(label, conf.models.get("exclude", ())):
        return False
    if label in UNWATCHED:
        return _matches(label, [pattern for pattern in included if pattern.strip("*.")])
    if _matches(label, included):
        return True
    maker: Any = model._meta.auto_created  # the stubs say bool; it is the model with the relation
    return bool(maker) and is_watched(maker)


def matches(pattern: str, labels: Iterable[str]) -> bool:
    """Whether *pattern*, of the setting `MODELS`, matches one of *labels*."""
    return any(fnmatchcase(label.lower(), pattern.lower()) for label in labels)


def is_of_watched(tag: str) -> bool:
    """Whether *tag* is that of a table, of a row, or of a column's value of a watched model."""
    try:
        return is_watched(apps.get_model(label_in(tag)))
    except (LookupError, ValueError):
        return False


def closest_label(text: str, labels: Iterable[str]) -> str | None:
    """Return the one of *labels* that is most like *text*, which has a typing error; None if none is like it."""
    known = {label.lower(): label for label in labels}
    close = difflib.get_close_matches(text.lower(), known, n=1)
    return known[close[0]] if close else None


def _matches(label: str, patterns: Iterable[str]) -> bool:
    return any(matches(pattern, [label]) for pattern in patterns)


def _on_setting_changed(*, setting: str, **_: object) -> None:
    if setting in (SETTING, "INSTALLED_APPS"):
        cast(Any, is_watched).cache_clear()


setting_changed.connect(_on_setting_changed, dispatch_uid="invalidator.watched")
