"""
Settings of django-constance.

The package's database backend reads each setting from the database, or from one of Django's caches; its
`CachingRedisBackend` keeps for a minute what it read from Redis, in each process. Here, the settings of the database
backend are in the memory of each process, and are invalidated by changes of the rows. What the Redis backend keeps is
invalidated on every server when a setting is changed through constance.
"""

from __future__ import annotations

import functools
from typing import Any

from constance import config
from constance.backends.redisd import CachingRedisBackend
from constance.signals import config_updated
from django.apps import apps

from ..patching import Patches
from ..runtime import bus
from .adapters import tag_of
from .mapping import CoherentDict, Reading
from .rows_cache import RowsCache

CONFIG_TAG = "constance.config"
"""What is invalidated when a setting in Redis is changed."""

_DATABASE = "constance.backends.database.DatabaseBackend"
_REDIS = "constance.backends.redisd.CachingRedisBackend"

_reading = Reading()
patches = Patches("Local cache of django-constance")


def install() -> None:
    """Give both backends another cache when they are made. CONSTANCE_DATABASE_CACHE_BACKEND has no effect any more."""
    _rows()
    patches.install()

    def publish(**_: Any) -> None:
        # At once: a transaction of the database, and its rollback, have no effect on Redis.
        if isinstance(config._backend, CachingRedisBackend):  # noqa: SLF001
            bus().invalidate(tags=[CONFIG_TAG])

    config_updated.connect(publish, dispatch_uid="invalidator", weak=False)


def _models() -> Any:
    """The module constance.models, which cannot be imported unless the app is installed."""
    return apps.get_app_config("constance").models_module


@functools.cache
def _rows() -> RowsCache:
    """The cache that the database backend gets. Raises DoesNotFit."""
    return RowsCache("constance", [tag_of(_models().Constance)])


@functools.cache
def _remembered() -> CoherentDict:
    """The dictionary that the Redis backend gets."""
    return CoherentDict(_reading, CONFIG_TAG)


@patches.around(_DATABASE, "__init__", "self", why="it gets a cache that every server empties when a setting changes")
def _database_init(original: Any) -> Any:
    def init(self: Any, *args: Any, **kwargs: Any) -> None:
        original(self, *args, **kwargs)
        self._cache = _rows()

    return init


@patches.around(_REDIS, "__init__", "self", why="it gets a dictionary that every server empties when a setting changes")
def _redis_init(original: Any) -> Any:
    def init(self: Any, *args: Any, **kwargs: Any) -> None:
        original(self, *args, **kwargs)
        self._cache = _remembered()

    return init


for _name in ("get", "aget", "mget", "amget", "set", "aset"):
    patches.around(_REDIS, _name, "self, ...", why="it uses the dictionary")(_reading.around)
