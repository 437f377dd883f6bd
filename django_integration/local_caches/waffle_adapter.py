"""
django-waffle keeps flags, switches and samples in one of Django's caches, which may be each process' own (and is, with
Django's default), and drops them in `save()` of the row: not in `QuerySet.update()`, nor in `flag.users.clear()`.

Here they are in the memory of each process, and fall with the rows, and with those that link a flag to users and
groups.
"""

from __future__ import annotations

from typing import Any

from . import DoesNotFit, tag_of
from .rows_cache import RowsCache


def install() -> None:
    """Let waffle use a cache of rows. WAFFLE_CACHE_NAME says nothing any more."""
    import waffle
    from waffle import managers, models, utils

    watched: list[Any] = [
        waffle.get_waffle_flag_model(),
        waffle.get_waffle_switch_model(),
        waffle.get_waffle_sample_model(),
    ]
    links = [relation.remote_field.through for model in watched for relation in model._meta.many_to_many]
    cache = RowsCache("waffle", dict.fromkeys(map(tag_of, (*watched, *links))))

    def get_cache() -> RowsCache:
        return cache

    users: tuple[Any, ...] = (utils, models, managers)
    if not all(hasattr(module, "get_cache") for module in users):
        raise DoesNotFit("waffle has no function get_cache")
    for module in users:
        module.get_cache = get_cache
