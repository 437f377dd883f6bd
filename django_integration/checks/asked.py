"""
What a check is asked about: `manage.py check shop` asks about the app `shop`, and gets what is wrong with that one.

Rule 1: a problem of models is reported if one of the apps asked for has such a model.
Rule 2: a problem of the project, its settings or its servers is this app's: it is reported if all apps are asked for,
or this one.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from typing import Any, TypeAlias

from django.apps import apps
from django.apps.config import AppConfig
from django.core.checks import CheckMessage
from django.db.models import Model

from ..names import is_watched

Apps: TypeAlias = "Iterable[AppConfig] | None"
"""The apps asked for; None stands for all."""

Check: TypeAlias = "Callable[..., list[CheckMessage]]"

_OURS = __name__.partition(".")[0]


def of_project(check: Check) -> Check:
    """Decorate a check of rule 2."""

    @functools.wraps(check)
    def asked(app_configs: Apps, **kwargs: Any) -> list[CheckMessage]:
        if app_configs is not None and all(config.name != _OURS for config in app_configs):
            return []
        return check(app_configs, **kwargs)

    return asked


def watched_models(app_configs: Apps) -> list[type[Model]]:
    """Return the models of the apps asked for that have a table of their own and are watched."""
    registries: Iterable[Any] = (apps,) if app_configs is None else app_configs
    return [
        model
        for registry in registries
        for model in registry.get_models(include_auto_created=True)
        if not model._meta.proxy and not model._meta.swapped and is_watched(model)
    ]
