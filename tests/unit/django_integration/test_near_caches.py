"""One list of the near caches that this process has opened."""

from collections.abc import Iterator

import pytest
from django.core.cache import caches
from django.test import override_settings

from django_integration import bus, cache, near_caches, runtime
from django_integration.near_caches import Opened
from django_integration.testing import isolated
from invalidator import NearCache

BACKEND = {"default": {"BACKEND": "django_integration.backend.NearCacheBackend", "LOCATION": "listed"}}


@pytest.fixture(autouse=True)
def own_bus() -> Iterator[None]:
    with isolated():
        yield


def test_it_has_what_was_used_and_nothing_else() -> None:
    assert near_caches.opened() == []
    cache.get("a")
    assert [each.name for each in near_caches.opened()] == ["cache, cached"]
    with override_settings(CACHES=BACKEND):
        caches["default"].get("a")
        assert [each.location for each in near_caches.opened()] == [None, "listed"]
        near = near_caches.at("listed")
        assert near is not None
        assert near_caches.name_of(near) == "CACHES, location listed"
    assert near_caches.at("elsewhere") is None


def test_a_reset_empties_it() -> None:
    cache.get("a")
    near = near_caches.at(None)
    assert near is not None
    runtime.reset()
    assert near_caches.opened() == []
    assert near_caches.name_of(near) == ""


def test_what_is_registered_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Opened] = []
    monkeypatch.setattr(near_caches, "_on_register", [])
    near_caches.on_register(seen.append)
    opened = Opened(NearCache(bus()), "another")
    near_caches.register(opened)
    assert seen == [opened]
    near_caches.forget(opened.near)
    near_caches.forget(opened.near)
    assert opened not in near_caches.opened()
