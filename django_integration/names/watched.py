"""Which models' changes are published, as the setting `MODELS` says."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from fnmatch import fnmatchcase
from typing import Any, cast

from django.core.signals import setting_changed
from django.db.models import Model

from ..conf import SETTING, conf
from .relations import by_model, concrete_of

UNWATCHED = frozenset({"admin.logentry", "migrations.migration", "sessions.session"})
"""Tables that are written on nearly every request, or by `migrate` alone, and cached by nobody under a model's tag."""


@by_model
def is_watched(model: type[Model]) -> bool:
    """
    Whether changes of *model* are published, as the setting `MODELS` says.

    What is excluded, is not. What is included, is; one of `UNWATCHED` by any pattern but "*". A child of a watched
    model by multi-table inheritance is watched in any case, since its rows are rows of its parent's. The table that
    Django makes for a many-to-many relation goes with the model that has the relation, unless it is named itself.
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
    """Whether *pattern* of the setting `MODELS` means one of these *labels*."""
    return any(fnmatchcase(label.lower(), pattern.lower()) for label in labels)


def closest_label(text: str, labels: Iterable[str]) -> str | None:
    """Return that of *labels* which somebody who wrote *text* most likely meant, None if there is none like it."""
    known = {label.lower(): label for label in labels}
    close = difflib.get_close_matches(text.lower(), known, n=1)
    return known[close[0]] if close else None


def _matches(label: str, patterns: Iterable[str]) -> bool:
    return any(matches(pattern, [label]) for pattern in patterns)


def _on_setting_changed(*, setting: str, **_: object) -> None:
    if setting in (SETTING, "INSTALLED_APPS"):
        cast(Any, is_watched).cache_clear()


setting_changed.connect(_on_setting_changed, dispatch_uid="invalidator.watched")
