"""Which aliases in CACHES are near caches."""

from collections.abc import Iterator

import pytest
from django.core.cache.backends.locmem import LocMemCache
from django.test import override_settings

from django_integration.backend import NearCacheBackend
from django_integration.backend.aliases import is_backend, l2_alias, near_cache_aliases
from django_integration.local_caches.rows_cache import RowsCache

from .conftest import OURS

LOCMEM = "django.core.cache.backends.locmem.LocMemCache"
ALIASES = {
    "default": {"BACKEND": OURS, "OPTIONS": {"L2": "shared"}},
    "alone": {"BACKEND": OURS},
    "rows": {"BACKEND": f"{RowsCache.__module__}.{RowsCache.__qualname__}"},
    "shared": {"BACKEND": LOCMEM},
}


@pytest.fixture(autouse=True)
def aliases() -> Iterator[None]:
    with override_settings(CACHES=ALIASES):
        yield


def test_subclasses_are_near_caches_too() -> None:
    assert near_cache_aliases() == {alias: ALIASES[alias] for alias in ("default", "alone", "rows")}


def test_the_alias_of_the_second_level() -> None:
    assert [l2_alias(params) for params in ALIASES.values()] == ["shared", None, None, None]


@pytest.mark.parametrize("backend", ["nowhere.Cache", "django.core.cache.caches", "", "no dots"])
def test_a_backend_that_cannot_be_imported_is_left_to_django_to_report(backend: str) -> None:
    assert not is_backend({"BACKEND": backend}, NearCacheBackend)


def test_a_backend_of_another_kind() -> None:
    assert is_backend({"BACKEND": LOCMEM}, LocMemCache)
    assert not is_backend({"BACKEND": LOCMEM}, NearCacheBackend)
    assert not is_backend({}, NearCacheBackend)
