"""
django-constance: the database backend asks the database for each setting, or one of Django's caches;
`CachingRedisBackend` remembers for a minute what it read from Redis, in each process.

With the database backend settings are now in the memory of each process, and fall with the rows. What the Redis backend
remembers falls on every server when a setting is changed through constance.
"""

from __future__ import annotations

import functools
from typing import Any

from ..runtime import bus
from . import tag_of
from .mapping import CoherentDict, Reading
from .rows_cache import RowsCache

CONFIG_TAG = "constance.config"
"""What is invalidated when a setting in Redis is changed."""


def install() -> None:
    """Give both backends another cache when they are made. CONSTANCE_DATABASE_CACHE_BACKEND says nothing any more."""
    from constance.backends.database import DatabaseBackend
    from constance.backends.redisd import CachingRedisBackend
    from constance.models import Constance
    from constance.signals import config_updated

    rows = RowsCache("constance", [tag_of(Constance)])
    reading = Reading()
    remembered = CoherentDict(reading, CONFIG_TAG)
    reading.around_each(CachingRedisBackend, "get", "aget", "mget", "amget", "set", "aset")
    _give(DatabaseBackend, rows)
    _give(CachingRedisBackend, remembered)

    def tell(**_: Any) -> None:
        from constance import config

        # At once: Redis knows no transaction, and what is rolled back in the database is not in Redis.
        if isinstance(config._backend, CachingRedisBackend):  # noqa: SLF001
            bus().invalidate(tags=[CONFIG_TAG])

    config_updated.connect(tell, dispatch_uid="invalidator", weak=False)


def _give(backend: Any, cache: object) -> None:
    original = backend.__init__

    @functools.wraps(original)
    def init(self: Any, *args: Any, **kwargs: Any) -> None:
        original(self, *args, **kwargs)
        self._cache = cache

    backend.__init__ = init
