"""`SITE_CACHE` of django.contrib.sites: by id and by host, void when a site changes."""

from __future__ import annotations

import functools
from typing import Any

from django.apps import apps

from ..patching import Patches
from .adapters import DoesNotFit, tag_of
from .mapping import CoherentDict, Reading

_MODELS = "django.contrib.sites.models"
_MANAGER = f"{_MODELS}.SiteManager"

_reading = Reading()
patches = Patches("Local cache of django.contrib.sites")
patches.value(_MODELS, "SITE_CACHE", why="a dictionary that every server empties when a site changes")


def install() -> None:
    """Replace the dictionary, and the methods that would make another one or use it."""
    models = _models()
    if type(models.SITE_CACHE) is not dict:
        raise DoesNotFit(f"SITE_CACHE is a {type(models.SITE_CACHE).__qualname__} of another package")
    cache = _cache()
    patches.install()
    models.SITE_CACHE = cache


def _models() -> Any:
    """The module django.contrib.sites.models, which cannot be imported unless the app is installed."""
    return apps.get_app_config("sites").models_module


@functools.cache
def _cache() -> CoherentDict:
    """What `SITE_CACHE` is from now on. Raises DoesNotFit."""
    return CoherentDict(_reading, tag_of(_models().Site))


@patches.around(_MANAGER, "get_current", "self, request=None", why="it uses `SITE_CACHE`, which tests replace")
def _get_current(original: Any) -> Any:
    models = _models()
    get_current = _reading.around(original)

    def get_current_site(self: Any, request: Any = None) -> Any:
        found = models.SITE_CACHE
        if type(found) is dict:  # tests and older code assign a new one
            cache = _cache()
            cache.clear()
            cache.update(found)
            models.SITE_CACHE = cache
        return get_current(self, request)

    return get_current_site


@patches.around(_MANAGER, "clear_cache", "self", why="Django's own makes another `SITE_CACHE`")
def _clear_cache(original: Any) -> Any:
    models = _models()

    def clear_cache(self: Any) -> None:
        _cache().clear()
        models.SITE_CACHE = _cache()

    return clear_cache


for _name, _parameters in {"_get_site_by_id": "self, site_id", "_get_site_by_request": "self, request"}.items():
    patches.around(_MANAGER, _name, _parameters, why="it uses `SITE_CACHE`")(_reading.around)
