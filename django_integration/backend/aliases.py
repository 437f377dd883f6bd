"""Which aliases in CACHES are near caches, and over which second level."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.utils.module_loading import import_string

from .backend import NearCacheBackend

_Caches = Mapping[str, Mapping[str, Any]]


def near_cache_aliases() -> _Caches:
    """Return the parameters of every alias in CACHES that is a near cache."""
    return {alias: params for alias, params in settings.CACHES.items() if is_backend(params, NearCacheBackend)}


def is_backend(params: Mapping[str, Any], kind: type) -> bool:
    """Whether an alias with these parameters is a cache of that class."""
    try:
        backend = import_string(params.get("BACKEND", ""))
    except (ImportError, ImproperlyConfigured):
        return False
    return isinstance(backend, type) and issubclass(backend, kind)


def l2_alias(params: Mapping[str, Any]) -> str | None:
    """Return the alias of the second level, if there is one."""
    alias: str | None = params.get("OPTIONS", {}).get("L2")
    return alias
