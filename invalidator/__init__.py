"""
Coherent in-memory caches for applications on many servers.

    >>> from invalidator import Invalidator, NearCache
    >>> bus = Invalidator("memory://", namespace="shop")  # or "redis://localhost:6379/0"
    >>> cache = NearCache(bus, ttl=300)
    >>> cache.get_or_set("product:42", lambda: "a lamp")
    'a lamp'
    >>> bus.invalidate("product:42").accepted
    True

This is the front door: everything an application needs is imported from here. docs/guarantees.md says what is promised.
"""

from .any_key import AnyKeyCache
from .bus import Invalidator
from .config import Config, WhenUnleased
from .decorator import (
    ABOUT_TO_LOAD,
    CachedFunction,
    Front,
    KeySpec,
    TagsSpec,
    cached_function,
    check_tags_spec,
    plain_key,
)
from .entry import Entry
from .errors import (
    ClosedError,
    HoldEnded,
    InvalidatorError,
    InvalidMessage,
    InvalidName,
    InvalidSetting,
    JournalUnread,
    LedgerFileError,
    PublishError,
)
from .ledger import now_ns
from .lru import CacheInfo, CoherentLRU, coherent_lru_cache
from .names import Tag, check_key, check_tag, check_tags, name_slots, tag
from .near_cache import DEFAULT, Change, Loaded, NearCache, Ttl
from .publishing.hold import Hold
from .receipt import Receipt
from .source import SourceView
from .status import Cause, Invalidation, Journaled, Past, Stats, Status

__all__ = [
    "ABOUT_TO_LOAD",
    "DEFAULT",
    "AnyKeyCache",
    "CacheInfo",
    "CachedFunction",
    "Cause",
    "Change",
    "ClosedError",
    "CoherentLRU",
    "Config",
    "Entry",
    "Front",
    "Hold",
    "HoldEnded",
    "InvalidMessage",
    "InvalidName",
    "InvalidSetting",
    "Invalidation",
    "Invalidator",
    "InvalidatorError",
    "JournalUnread",
    "Journaled",
    "KeySpec",
    "LedgerFileError",
    "Loaded",
    "NearCache",
    "Past",
    "PublishError",
    "Receipt",
    "SourceView",
    "Stats",
    "Status",
    "Tag",
    "TagsSpec",
    "Ttl",
    "WhenUnleased",
    "cached_function",
    "check_key",
    "check_tag",
    "check_tags",
    "check_tags_spec",
    "coherent_lru_cache",
    "name_slots",
    "now_ns",
    "plain_key",
    "tag",
]
