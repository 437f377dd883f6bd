"""
Flags, switches and samples of django-waffle.

The package keeps them in one of Django's caches, which may be each process' own (as Django's default is), and deletes
them from it in `save()` of the row, but not in `QuerySet.update()` or `flag.users.clear()`. Here they are in the memory
of each process, and are invalidated by changes of the rows, and of the links from a flag to its users and groups.
"""

from __future__ import annotations

import functools
from typing import Any

import waffle

from ..patching import Patches
from .adapters import tag_of
from .rows_cache import RowsCache

patches = Patches("Local cache of django-waffle")


def install() -> None:
    """Give waffle a cache of rows. WAFFLE_CACHE_NAME has no effect any more."""
    _cache()
    patches.install()


@functools.cache
def _cache() -> RowsCache:
    """The cache that waffle gets. Raises DoesNotFit."""
    watched: list[Any] = [
        waffle.get_waffle_flag_model(),
        waffle.get_waffle_switch_model(),
        waffle.get_waffle_sample_model(),
    ]
    links = [relation.remote_field.through for model in watched for relation in model._meta.many_to_many]
    return RowsCache("waffle", dict.fromkeys(map(tag_of, (*watched, *links))))


@patches.around("waffle.managers", "get_cache", "", why="as in `waffle.utils`")
@patches.around("waffle.models", "get_cache", "", why="as in `waffle.utils`")
@patches.around("waffle.utils", "get_cache", "", why="a cache that every server empties when a row changes")
def _get_cache(original: Any) -> Any:
    def get_cache() -> RowsCache:
        return _cache()

    return get_cache
