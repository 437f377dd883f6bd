"""A bus for one test, and what is left of it: nothing."""

import threading

import pytest
from django.conf import settings
from django.core.cache import caches
from django.test import override_settings

from django_integration import bus, cache, invalidate
from django_integration.testing import isolated
from invalidator.link import memory as link
from tests.support import PATIENCE_S, wait_until

BACKEND = {"default": {"BACKEND": "django_integration.backend.NearCacheBackend"}}


@pytest.mark.usefixtures("databases")
class TestIsolated:
    def test_caches_are_empty_before_and_after(self) -> None:
        """The default cache and the caches of the backend alike."""
        with override_settings(CACHES=BACKEND):
            cache.set("a", "outside")
            caches["default"].set("a", "outside")
            with isolated():
                assert cache.get("a") is None
                assert caches["default"].get("a") is None
                cache.set("a", "inside")
                caches["default"].set("a", "inside")
                assert (cache.get("a"), caches["default"].get("a")) == ("inside", "inside")
            assert cache.get("a") is None
            assert caches["default"].get("a") is None

    def test_nothing_is_left_behind(self) -> None:
        bus().close()
        threads, servers = set(threading.enumerate()), set(link._meetings)
        with isolated() as memory:
            invalidate("a")
            cache.set("a", 1)
            memory.other_server().set("a", 1)
            assert set(threading.enumerate()) > threads
        assert set(threading.enumerate()) <= threads
        assert set(link._meetings) == servers

    def test_what_is_stored_first_stays(self) -> None:
        """The flush of the first subscription comes before it: a test that counts queries must not see two."""
        for _ in range(20):
            with isolated():
                loads: list[int] = []
                for _ in range(2):
                    cache.get_or_set("a", lambda loads=loads: loads.append(1))
                assert bus().wait_until_leased(PATIENCE_S)
                cache.get_or_set("a", lambda loads=loads: loads.append(1))
                assert len(loads) == 1

    def test_another_server_receives_it_as_the_bus_permits(self) -> None:
        with isolated() as memory:
            other = memory.other_server()
            other.set("a", 1)
            with memory.delayed():
                invalidate("a")
                assert other.get("a") == 1
            wait_until(lambda: "a" not in other)

    def test_settings_differ_as_asked(self) -> None:
        before = settings.INVALIDATOR
        with isolated(WRITES="strict", NAMESPACE="apart"):
            assert bus().namespace == "apart"
            assert settings.INVALIDATOR["WRITES"] == "strict"
            with isolated():
                assert settings.INVALIDATOR["WRITES"] == "strict"
        assert before == settings.INVALIDATOR
