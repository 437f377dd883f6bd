"""
Reading through the default near cache: `cache` and `cached`, which can be imported before there is one.

Rule 1: what is invalidated through them leaves after the commit, like everything else in this app. Only `bus()`
is the bare library, which knows of no transaction.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from invalidator import (
    DEFAULT,
    CachedFunction,
    KeySpec,
    NearCache,
    Receipt,
    Tag,
    TagsSpec,
    Ttl,
    cached_function,
    tag,
)

from .runtime import default_cache
from .transactions import invalidate

if TYPE_CHECKING:
    _NearCache = NearCache
else:
    _NearCache = object

P = ParamSpec("P")
R = TypeVar("R")


class DefaultCache(_NearCache):
    """The default near cache of this moment: a `NearCache` in all but that it is looked up at each use."""

    def __init__(self) -> None:
        """Nothing is made here."""

    def __getattr__(self, name: str) -> Any:
        return getattr(default_cache(), name)

    def __contains__(self, key: str) -> bool:
        return key in default_cache()

    def __len__(self) -> int:
        return len(default_cache())

    def __bool__(self) -> bool:
        return True  # an empty cache is a cache, as is one that was not made yet

    def __repr__(self) -> str:
        return "<the default near cache>"

    def invalidate(self, *keys: str, tags: Iterable[str | Tag] = ()) -> Receipt | None:  # type: ignore[override]
        """Tell everybody that *keys* and *tags* became stale, after the commit: see `invalidate` of this app."""
        return invalidate(*keys, *(name if isinstance(name, Tag) else tag(name) for name in tags))

    def cached(
        self, *, ttl: Ttl = DEFAULT, tags: TagsSpec = (), key: KeySpec | None = None
    ) -> Callable[[Callable[P, R]], CachedFunction[P, R]]:
        """
        Decorate a function, sync or async, so that its results are cached; options as for `NearCache.cached`.

        Decorating starts nothing, so it is safe at import.
        """
        # Asked at each call for the cache, and that is us: what it invalidates waits for the commit, too.
        return cached_function(lambda: self, ttl=ttl, tags=tags, key=key)


cache = DefaultCache()
cached = cache.cached
