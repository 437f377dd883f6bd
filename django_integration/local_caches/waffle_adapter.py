"""
django-waffle keeps flags, switches and samples in one of Django's caches, which may be each process' own (and is, with
Django's default), and drops them in `save()` of the row: not in `QuerySet.update()`, nor in `flag.users.clear()`.

Here they are in the memory of each process, and fall with the rows, and with those that link a flag to users and
groups.
"""

from __future__ import annotations

import functools
from typing import Any

import waffle

from ..patching import Patches
from . import tag_of
from .rows_cache import RowsCache

patches = Patches("Local cache of django-waffle")


def install() -> None:
    """Let waffle use a cache of rows. WAFFLE_CACHE_NAME says nothing any more."""
    _cache()
    patches.install()


@functools.cache
def _cache() -> RowsCache:
    """What waffle uses from now on. Raises DoesNotFit."""
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
