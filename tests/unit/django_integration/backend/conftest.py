"""Near caches with one level and with two, empty and with a lease."""

from collections.abc import Iterator
from typing import Any

import pytest
from django.core.cache import caches
from django.core.cache.backends.base import BaseCache
from django.test import override_settings

from django_integration import bus
from django_integration.backend import NearCacheBackend, settling
from invalidator import Invalidator

from ..conftest import WAIT_S, Message
from ..faulty import FaultyCache

OURS = "django_integration.backend.NearCacheBackend"
ONE_LEVEL: dict[str, Any] = {
    "default": {"BACKEND": OURS},
    "same": {"BACKEND": OURS},
    "elsewhere": {"BACKEND": OURS, "LOCATION": "elsewhere", "KEY_PREFIX": "other"},
}
TWO_LEVELS: dict[str, Any] = {
    "default": {"BACKEND": OURS, "LOCATION": "over", "OPTIONS": {"L2": "l2"}},
    "l2": {"BACKEND": "tests.unit.django_integration.faulty.FaultyCache", "LOCATION": "l2"},
}
KEY = ":1:k"
"""The name of the key "k"."""
GONE = Message(keys=frozenset({KEY}))
"""What is published when the source of "k" has changed."""
NEW_VALUE = Message(tags=frozenset({f"copy:{KEY}"}))
"""What is published when the second level has a new value of "k"."""


@pytest.fixture
def one_level() -> Iterator[NearCacheBackend]:
    """The default cache, which has no second level."""
    with override_settings(CACHES=ONE_LEVEL):
        assert bus().wait_until_leased(WAIT_S)
        for alias in ONE_LEVEL:
            caches[alias].clear()
        yield caches["default"]


@pytest.fixture
def two_levels() -> Iterator[NearCacheBackend]:
    """The default cache, over an empty second level that works."""
    # A fill is settled with the next proof: four come in one bound.
    with override_settings(CACHES=TWO_LEVELS, INVALIDATOR={"URL": "memory://", "NAMESPACE": "l2", "MAX_STALENESS": 3}):
        assert bus().wait_until_leased(WAIT_S)
        FaultyCache.down = False
        FaultyCache.after.clear()
        caches["default"].clear()
        FaultyCache.calls.clear()
        yield caches["default"]
        FaultyCache.down = False
        assert settling.settle(WAIT_S)


@pytest.fixture
def second(two_levels: NearCacheBackend) -> BaseCache:
    """The second level itself."""
    return caches["l2"]


@pytest.fixture
def other(cache: NearCacheBackend) -> Iterator[Invalidator]:
    """Another server, on the bus of the module's `cache`."""
    with Invalidator("memory://", namespace=bus().namespace) as other:
        assert other.wait_until_leased(WAIT_S)
        yield other
