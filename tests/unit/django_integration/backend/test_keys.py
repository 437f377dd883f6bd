"""The names of keys: what is published for a key, and what is remembered."""

import warnings

import pytest
from django.core.cache import CacheKeyWarning

from django_integration import invalidate
from django_integration.backend import NearCacheBackend
from django_integration.backend.keys import name_of
from invalidator.extending import check_key

from ..conftest import Wire


@pytest.fixture(autouse=True)
def cache(one_level):
    return one_level


@pytest.mark.parametrize("key", ["k" * 600, "é" * 300, "\ud800", "k" * 495])
def test_every_key_has_a_name(cache, key, wire: Wire) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CacheKeyWarning)
        cache.set(key, 1)
        assert cache.get(key) == 1
        assert check_key(cache.key_name(key))
        assert wire.message().keys == {cache.key_name(key)}
        invalidate(cache.key_name(key))
        assert cache.get(key) is None


def test_names_of_hashed_keys_differ() -> None:
    assert len({name_of("k" * length) for length in range(490, 600)}) == 110
    assert name_of("") != name_of("~")
    assert name_of(":1:é") == ":1:é"


def test_numbers_that_are_equal_are_different_keys(cache) -> None:
    """As they are in Django: the key is their text."""
    for value, key in enumerate((1, 1.0, True, "1")):
        cache.set(key, value)
    assert [cache.get(key) for key in (1, 1.0, True, "1")] == [3, 1, 2, 3]
    assert cache.get_many([1, 1.0]) == {1: 1}  # one key of a dict


def test_a_bad_key_is_warned_of_each_time(cache) -> None:
    for _ in range(2):
        with pytest.warns(CacheKeyWarning):
            cache.get("a b")


def test_prefix_version_and_function_may_change(cache) -> None:
    """Remembered names are those of the moment."""
    backend = NearCacheBackend("", {})
    backend.set("a", 1)
    assert backend.get("a") == 1
    backend.version = 2
    assert backend.get("a") is None
    backend.version, backend.key_prefix = 1, "p"
    assert backend.get("a") is None
    backend.key_prefix, backend.key_func = "", lambda key, prefix, version: f"tenant {tenant}"
    tenant = 1
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CacheKeyWarning)
        backend.set("a", 2)
        assert backend.get("a") == 2
        tenant = 2
        assert backend.get("a") is None, "a function of the project's is asked each time"


def test_remembered_names_are_bounded(cache, monkeypatch) -> None:
    monkeypatch.setattr("django_integration.backend.keys.MOST_REMEMBERED", 5)
    for number in range(20):
        cache.get(f"k{number}")
    assert len(cache._names_by_key) <= 5
