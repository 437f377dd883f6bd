"""
The process-local caches of other packages, made coherent: INVALIDATOR["LOCAL_CACHES"].

    sites          `SITE_CACHE` of django.contrib.sites
    contenttypes   what `ContentType.objects` remembers
    waffle         flags, switches and samples of django-waffle
    constance      settings of django-constance, from its database or from Redis

Rule 1: nothing waits for a message. Each of these caches is read through a near cache, which looks at the lease and the
ledger with every read. So it works in a sidecar's worker, which gets no messages, and in an outage.
Rule 2: what a package offers goes on working: its methods, its `clear_cache`, assignments by tests.
Rule 3: a package of another shape than we know is left as it is, and a system check says so.
"""

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
"""By name, why an adapter that was wanted could not be put in place."""


class DoesNotFit(Exception):
    """A package has another shape than we know, or changes of its rows are not published."""


def wanted() -> tuple[str, ...]:
    """The adapters that the setting names; with "auto", those whose application is installed."""
    given = configuration.given().get("LOCAL_CACHES", ())
    if given == "auto":
        return tuple(name for name, app in ADAPTERS.items() if apps.is_installed(app))
    return tuple(name for name in given if name in ADAPTERS) if isinstance(given, tuple | list) else ()


def tag_of(model: type[Model]) -> str:
    """Return the tag of *model*'s changes. Raises DoesNotFit if nobody is told of them: a cache would never fall."""
    if not is_watched(model):
        raise DoesNotFit(f"INVALIDATOR['MODELS'] leaves out {model._meta.label}, of whose changes it must hear")
    return model_tag(model)


@functools.cache  # once, however often the app is set up
def install() -> None:
    """Put the adapters in place that are wanted and whose application is installed. Once, when Django starts."""
    for name in wanted():
        if apps.is_installed(ADAPTERS[name]):
            try:
                # Not at the top of this module: an adapter imports its package, which may be missing.
                adapt: Callable[[], None] = import_module(f"{__name__}.{name}_adapter").install
                adapt()
            except (DoesNotFit, AttributeError, ImportError) as problem:
                unfit[name] = str(problem)
