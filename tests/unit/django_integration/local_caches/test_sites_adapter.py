"""`SITE_CACHE` of django.contrib.sites, with a stand-in for its models; the real ones are in tests/integration."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from django_integration import bus, invalidate
from django_integration.local_caches import sites_adapter
from django_integration.local_caches.adapters import DoesNotFit

from ..conftest import WAIT_S
from ..zoo.models import Cage

pytestmark = pytest.mark.usefixtures("db")


class Manager:
    """What `SiteManager` is."""


@pytest.fixture
def models(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """What the module of the models has, with cages for sites."""
    assert bus().wait_until_leased(WAIT_S)
    models = SimpleNamespace(SITE_CACHE={}, Site=Cage, SiteManager=Manager)
    monkeypatch.setattr(sites_adapter, "_models", lambda: models)
    sites_adapter._cache.cache_clear()
    yield models
    sites_adapter._cache.cache_clear()


def test_a_cache_of_another_package_is_left_alone(models: Any) -> None:
    models.SITE_CACHE = type("LruCache", (dict,), {})()
    with pytest.raises(DoesNotFit, match="LruCache of another package"):
        sites_adapter.install()


def test_what_a_test_assigns_is_taken_over(models: Any) -> None:
    def get_current(self: Manager, request: object) -> str:
        return str(models.SITE_CACHE[1])

    get = sites_adapter._get_current(get_current)
    models.SITE_CACHE = {1: "a site"}
    assert get(Manager(), None) == "a site"
    assert models.SITE_CACHE is sites_adapter._cache()
    assert get(Manager(), None) == "a site"
    invalidate(Cage)
    with pytest.raises(KeyError):
        get(Manager(), None)


def test_a_cleared_cache_is_still_ours(models: Any) -> None:
    sites_adapter._cache()[1] = "a site"
    sites_adapter._clear_cache(None)(Manager())
    assert models.SITE_CACHE is sites_adapter._cache()
    assert not models.SITE_CACHE
