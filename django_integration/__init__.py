"""
The Django app: every model change invalidates, and every process has one near cache.

    INSTALLED_APPS = [..., "django_integration"]
    INVALIDATOR = {"URL": "redis://localhost:6379/0", "NAMESPACE": "shop"}

Everything an application needs is imported from here, also before Django's apps are ready: importing reads
no setting, opens no connection and starts no thread. All of that happens on first use.
"""

from __future__ import annotations

from invalidator import Loaded, Receipt, Tag, tag

from .copies.guards import value_changed
from .dependencies import UnknownReads, depends_on
from .names import model_tag, row_tag, row_tags
from .reads.cached_functions import cache, cached
from .reads.lru import coherent_lru_cache
from .runtime import bus
from .signals import flushed, invalidated
from .transactions.outgoing import invalidate
from .writes.decorator import invalidates
from .writes.raw_sql import writes_to

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
    "value_changed",
    "writes_to",
]
