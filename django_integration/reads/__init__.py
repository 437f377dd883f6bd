"""Reading through near caches: the default one (`cache`, `cached`), and functions with a cache of their own."""

from .cached_functions import cache, cached
from .lru import coherent_lru_cache

__all__ = ["cache", "cached", "coherent_lru_cache"]
