"""
What django-cacheops' tests import, with our cache behind it.

Storing, recording and invalidating is ours. Hashing of arguments, wrapping of views and parsing of template tags is
cacheops' own, unmodified, as are the tests.
"""

from .invalidation import invalidate_all, invalidate_model, invalidate_obj, no_invalidation
from .query import cached_as, cached_view_as
from .simple import CacheMiss, cache, cached, cached_view
from .templatetags.cacheops import invalidate_fragment  # type: ignore[import-not-found]

__all__ = (
    "CacheMiss",
    "cache",
    "cached",
    "cached_as",
    "cached_view",
    "cached_view_as",
    "invalidate_all",
    "invalidate_fragment",
    "invalidate_model",
    "invalidate_obj",
    "no_invalidation",
)
