"""One near cache for each process, made on first use."""

from django.test import override_settings

from django_integration import bus, near_caches, runtime
from django_integration.reads.default_cache import default_cache, front


def test_there_is_one() -> None:
    assert default_cache() is default_cache()
    assert default_cache().bus is bus()


def test_it_is_made_on_first_use() -> None:
    runtime.reset()
    assert near_caches.at(None) is None
    assert default_cache() is near_caches.at(None)


def test_new_settings_make_a_new_one() -> None:
    cache = default_cache()
    with override_settings(INVALIDATOR={"URL": "memory://", "NAMESPACE": "new", "MAXSIZE": 7, "TTL": 9}):
        assert default_cache() is not cache
        assert default_cache().bus is bus()
        assert default_cache().maxsize == 7
        assert default_cache().ttl == 9


def test_hits_find_the_cache_in_force() -> None:
    cache = default_cache()
    assert front.cache is cache
    runtime.reset()
    assert front.cache is not cache
    assert front.cache.get("nothing", 7) == 7  # and makes one
    assert front.cache is default_cache()
