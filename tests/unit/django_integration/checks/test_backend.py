"""The checks of the cache backend: each says what is wrong, and nothing else does."""

from typing import Any

import pytest
from django.test import override_settings

from django_integration.checks.backend import ALL

OURS = "django_integration.backend.NearCacheBackend"
REDIS = "django.core.cache.backends.redis.RedisCache"
BUS = {"URL": "redis://localhost:6379/0", "NAMESPACE": "tests"}


def found(caches: dict[str, Any], **others: Any) -> list[str | None]:
    """The ids of what the checks say."""
    with override_settings(CACHES=caches, INVALIDATOR=BUS, **others):
        messages = [message for check in ALL for message in check(None)]
    assert all(message.hint for message in messages)
    return [message.id for message in messages]


def over(location: Any) -> dict[str, Any]:
    return {
        "default": {"BACKEND": OURS, "OPTIONS": {"L2": "redis"}},
        "redis": {"BACKEND": REDIS, "LOCATION": location},
    }


def test_nothing_is_wrong_with_what_the_documentation_shows() -> None:
    assert found({"default": {"BACKEND": OURS}}) == []
    assert found(over("redis://localhost:6379/1")) == []
    assert found({"default": {"BACKEND": REDIS, "LOCATION": BUS["URL"]}}) == []
    assert found({"default": {"BACKEND": "no.such.Cache"}}) == []


@pytest.mark.parametrize(
    "location",
    ["redis://localhost:6379/0", "redis://localhost", "redis://:secret@localhost:6379?db=0", ["redis://a", BUS["URL"]]],
)
def test_a_second_level_in_the_database_of_the_bus(location) -> None:
    assert found(over(location)) == ["invalidator.W020"]


@pytest.mark.parametrize(
    ("engine", "l2", "ids"),
    [("cache", False, ["invalidator.W021"]), ("cache", True, []), ("cached_db", False, []), ("db", False, [])],
)
def test_sessions_in_one_process(engine, l2, ids) -> None:
    caches = over("redis://localhost:6379/1") if l2 else {"default": {"BACKEND": OURS}}
    assert found(caches, SESSION_ENGINE=f"django.contrib.sessions.backends.{engine}") == ids


@pytest.mark.parametrize(
    ("other", "ids"),
    [
        ({"LOCATION": "b"}, ["invalidator.W022"]),
        ({"LOCATION": ""}, []),
        ({"LOCATION": "b", "KEY_PREFIX": "b"}, []),
        ({"LOCATION": "b", "VERSION": 2}, []),
    ],
)
def test_two_locations_with_equal_keys(other, ids) -> None:
    assert found({"default": {"BACKEND": OURS}, "other": {"BACKEND": OURS, **other}}) == ids


def test_a_second_level_that_is_a_near_cache() -> None:
    caches = {
        "default": {"BACKEND": OURS, "KEY_PREFIX": "a", "OPTIONS": {"L2": "other"}},
        "other": {"BACKEND": OURS},
    }
    assert found(caches) == ["invalidator.E023"]


@pytest.mark.parametrize(
    "options",
    [{"MAXSIZE": 5}, {"COPY": "shallow"}, {"TAGS": [""]}, {"DEPENDENCIES": 1}, {"DEPENDENCIES": True, "L2": "redis"}],
)
def test_options_that_cannot_work(options) -> None:
    """The backend would refuse them in the first request."""
    caches = {**over("redis://localhost:6379/1"), "default": {"BACKEND": OURS, "OPTIONS": options}}
    assert found(caches) == ["invalidator.E024"]
