"""
The Django app: every model change invalidates, and every process has one near cache.

    INSTALLED_APPS = [..., "django_integration"]
    INVALIDATOR = {"URL": "redis://localhost:6379/0", "NAMESPACE": "shop"}

Everything an application needs is imported from here, also before Django's apps are ready: importing reads
no setting, opens no connection and starts no thread. All of that happens on first use.
"""

from __future__ import annotations

from invalidator import Loaded, Receipt, Tag, tag

from .events import flushed, invalidated
from .lru import coherent_lru_cache
from .names import model_tag, row_tag, row_tags
from .reads import cache, cached
from .decorator import invalidates
from .runtime import bus
from .sql import writes_to
from .tracking import UnknownReads, depends_on
from .transactions import invalidate

__all__ = [
    "Loaded",
    "Receipt",
    "Tag",
    "UnknownReads",
    "bus",
    "cache",
    "cached",
    "coherent_lru_cache",
    "depends_on",
    "flushed",
    "invalidate",
    "invalidated",
    "invalidates",
    "model_tag",
    "row_tag",
    "row_tags",
    "tag",
    "writes_to",
]
