"""Django's cache API over near caches: every server holds the values in memory, and a write reaches all of them."""

from .backend import NearCacheBackend

__all__ = ["NearCacheBackend"]
