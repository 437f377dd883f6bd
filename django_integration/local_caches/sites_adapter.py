"""`SITE_CACHE` of django.contrib.sites: by id and by host, void when a site changes."""

from __future__ import annotations

from typing import Any

from . import DoesNotFit, tag_of
from .mapping import CoherentDict, Reading


def install() -> None:
    """Replace the dictionary, and see to it that it stays replaced: `clear_cache` makes a new one."""
    from django.contrib.sites import models

    if type(models.SITE_CACHE) is not dict:
        raise DoesNotFit(f"SITE_CACHE is a {type(models.SITE_CACHE).__qualname__} of another package")
    manager: Any = models.SiteManager
    reading = Reading()
    cache = CoherentDict(reading, tag_of(models.Site))
    reading.around_each(manager, "get_current", "_get_site_by_id", "_get_site_by_request")
    get_current = manager.get_current

    def get_current_site(self: Any, request: Any = None) -> Any:
        found = models.SITE_CACHE
        if type(found) is dict:  # tests, and older code of others, assign a new one
            cache.clear()
            cache.update(found)
            models.SITE_CACHE = cache
        return get_current(self, request)

    def clear_cache(self: Any) -> None:
        """Clear the ``Site`` object cache of this process."""
        cache.clear()
        models.SITE_CACHE = cache

    models.SITE_CACHE = cache
    get_current_site.__doc__ = get_current.__doc__
    manager.get_current = get_current_site
    manager.clear_cache = clear_cache
