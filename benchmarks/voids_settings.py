"""Settings of `voids_load.py`: the example shop on SQLite in memory, with the cache that `VOIDS_CACHE` names."""

import os

from example_project.settings import *  # noqa: F403 - what the example has, but for what follows
from example_project.settings import INSTALLED_APPS as SHOP_APPS

IS_CACHALOT = os.environ["VOIDS_CACHE"] == "cachalot"

DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}}
INVALIDATOR = {"URL": "memory://", "NAMESPACE": "voids", "TTL": None, "MAX_STALENESS": 600}
if IS_CACHALOT:
    INSTALLED_APPS = [*SHOP_APPS, "cachalot"]
    CACHES = {
        "default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache", "OPTIONS": {"MAX_ENTRIES": 100_000}}
    }
