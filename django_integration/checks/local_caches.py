"""
System checks of INVALIDATOR["LOCAL_CACHES"].

    invalidator.W050  an adapter is named whose application is not installed
    invalidator.W051  constance keeps its settings in the memory of each process, and nowhere else
    invalidator.W052  an application does not have what we expect, or MODELS leaves it out: it is left as it is
"""

from __future__ import annotations

from typing import Any

from django.apps import apps
from django.conf import settings
from django.core.checks import CheckMessage, Warning  # noqa: A004 - as Django calls it

from .. import conf
from ..local_caches import adapters
from .asked import Apps, of_project


@of_project
def check_installed(app_configs: Apps, **_: Any) -> list[CheckMessage]:
    """W050: what is named is installed."""
    return [
        Warning(
            f"{conf.SETTING}['LOCAL_CACHES'] names {name!r}, but {adapters.ADAPTERS[name]!r} is not in INSTALLED_APPS.",
            hint='Take it out, or install the application; "auto" means those that are installed.',
            id="invalidator.W050",
        )
        for name in adapters.wanted()
        if not apps.is_installed(adapters.ADAPTERS[name])
    ]


@of_project
def check_memory_backend(app_configs: Apps, **_: Any) -> list[CheckMessage]:
    """W051: there is one place where constance's settings are."""
    backend = getattr(settings, "CONSTANCE_BACKEND", "")
    if "constance" not in adapters.wanted() or backend != "constance.backends.memory.MemoryBackend":
        return []
    return [
        Warning(
            "CONSTANCE_BACKEND keeps settings in the memory of the process that changed them: no other process has "
            "them, and an invalidation carries no values.",
            hint='Use "constance.backends.database.DatabaseBackend".',
            id="invalidator.W051",
        )
    ]


@of_project
def check_fit(app_configs: Apps, **_: Any) -> list[CheckMessage]:
    """W052: every adapter is in place."""
    return [
        Warning(
            f"The local cache of {name!r} was not made coherent: {why}.",
            hint=f"Take {name!r} out of {conf.SETTING}['LOCAL_CACHES'], or use a version of docs/local-caches.md.",
            id="invalidator.W052",
        )
        for name, why in adapters.unfit.items()
        if name in adapters.wanted()
    ]


ALL = (check_installed, check_memory_backend, check_fit)
