"""Which adapters are wanted, and putting them in place when Django starts."""

from __future__ import annotations

import functools
from collections.abc import Callable
from importlib import import_module

from django.apps import apps
from django.db.models import Model

from .. import conf as configuration
from ..names import is_watched, model_tag

ADAPTERS = {
    "sites": "django.contrib.sites",
    "contenttypes": "django.contrib.contenttypes",
    "waffle": "waffle",
    "constance": "constance",
}
"""By name, the application whose cache it is."""

unfit: dict[str, str] = {}
"""By name, why an adapter that was wanted was not put in place."""


class DoesNotFit(Exception):
    """A package does not have what we expect, or changes of its rows are not published."""


def wanted() -> tuple[str, ...]:
    """Return the adapters that the setting names; with "auto", those whose application is installed."""
    given = configuration.given().get("LOCAL_CACHES", ())
    if given == "auto":
        return tuple(name for name, app in ADAPTERS.items() if apps.is_installed(app))
    return tuple(name for name in given if name in ADAPTERS) if isinstance(given, tuple | list) else ()


def tag_of(model: type[Model]) -> str:
    """Return the tag of *model*. Raises DoesNotFit if its changes are not published: a cache would stay for ever."""
    if not is_watched(model):
        raise DoesNotFit(f"INVALIDATOR['MODELS'] leaves out {model._meta.label}, whose changes have to be published")
    return model_tag(model)


@functools.cache  # once, however often the app is set up
def install() -> None:
    """Put the adapters in place that are wanted and whose application is installed."""
    for name in wanted():
        if apps.is_installed(ADAPTERS[name]):
            try:
                # Not at the top of this module: an adapter imports its package, which may be missing.
                adapt: Callable[[], None] = import_module(f"{__package__}.{name}_adapter").install
                adapt()
            except (DoesNotFit, AttributeError, ImportError) as problem:
                unfit[name] = str(problem)
