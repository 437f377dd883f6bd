"""
Coherent in-memory caches for applications on many servers.

    >>> from invalidator import Invalidator, NearCache
    >>> bus = Invalidator("memory://", namespace="shop")  # or "redis://localhost:6379/0"
    >>> cache = NearCache(bus, ttl=300)
    >>> cache.get_or_set("product:42", lambda: "a lamp")
    'a lamp'
    >>> bus.invalidate("product:42").accepted
    True

Everything that an application needs is imported from here; docs/api.md lists it. An integration with a framework finds
the rest in `invalidator.extending`. docs/guarantees.md says what is promised.
"""

from .any_key import AnyKeyCache
from .bus import Invalidator
from .config import Config, WhenUnleased
from .decorator import CachedFunction
from .entry import Entry
from .errors import (
    ClosedError,
    HoldEnded,
    InvalidatorError,
    InvalidName,
    InvalidSetting,
    JournalUnread,
    LedgerFileError,
    PublishError,
)
from .guard import Changed, Guard
from .loaded import Loaded
from .lru import CacheInfo, CoherentLRU, coherent_lru_cache
from .names import Tag, tag
from .near_cache import NearCache
from .publishing.hold import Hold
from .receipt import Receipt
from .status import Cause, Invalidation, Journaled, Past, Stats, Status

__all__ = [
    "AnyKeyCache",
    "CacheInfo",
    "CachedFunction",
    "Cause",
    "Changed",
    "ClosedError",
    "CoherentLRU",
    "Config",
    "Entry",
    "Guard",
    "Hold",
    "HoldEnded",
    "InvalidName",
    "InvalidSetting",
    "Invalidation",
    "Invalidator",
    "InvalidatorError",
    "JournalUnread",
    "Journaled",
    "LedgerFileError",
    "Loaded",
    "NearCache",
    "Past",
    "PublishError",
    "Receipt",
    "Stats",
    "Status",
    "Tag",
    "WhenUnleased",
    "coherent_lru_cache",
    "tag",
]
