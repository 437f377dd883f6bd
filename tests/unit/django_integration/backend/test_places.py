"""What aliases of one LOCATION, threads and tasks share."""

import asyncio
from typing import Any

import pytest
from django.core.cache import caches
from django.test import override_settings

from django_integration import bus, near_caches, runtime
from django_integration.backend import NearCacheBackend
from django_integration.backend.places import place_of, place_tag
from tests.support import Thread

from ..conftest import WAIT_S


@pytest.fixture(autouse=True)
def cache(one_level):
    return one_level


def test_aliases_of_one_location_share_one_store(cache) -> None:
    cache.set("a", 1)
    assert caches["same"].get("a") == 1
    assert caches["elsewhere"].get("a") is None


def test_threads_and_tasks_share_it(cache) -> None:
    """Django makes a backend object for each."""
    cache.set("a", 1)
    assert Thread(lambda: caches["default"].get("a")).outcome() == 1

    async def task() -> Any:
        return caches["default"].get("a")

    assert asyncio.run(task()) == 1


def test_new_settings_make_a_new_store(cache) -> None:
    cache.set("a", 1)
    with override_settings(INVALIDATOR={"URL": "memory://", "NAMESPACE": "new", "MAX_STALENESS": 60}):
        assert bus().wait_until_leased(WAIT_S)
        assert cache.get("a") is None
        assert cache._place.near.bus is bus()
        cache.set("a", 2)
        assert cache.get("a") == 2
    assert cache.get("a") is None


def test_making_backends_starts_nothing() -> None:
    runtime.reset()
    NearCacheBackend("", {})
    assert runtime._runtime.bus is None


def test_near_caches_are_those_that_were_opened(cache) -> None:
    cache.get("a")
    unused = place_of("nobody asked for it")
    assert near_caches.at("") is cache._place.near
    assert unused.tag.endswith("nobody asked for it")
    assert near_caches.at("nobody asked for it") is None
    assert not unused.is_open


def test_a_location_that_no_tag_can_hold_has_the_tag_of_its_hash() -> None:
    assert place_tag("a") == "django.cache:a"
    assert place_tag("k" * 600).startswith("django.cache:~")
    assert place_tag("k" * 600) != place_tag("k" * 601)
