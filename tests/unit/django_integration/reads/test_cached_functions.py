"""`cache` and `cached`: the default near cache, before there is one and after the settings changed."""

import asyncio

import pytest
from django.db import transaction
from django.test import override_settings

from django_integration import cache, cached, row_tags
from django_integration.reads.default_cache import default_cache

from ..conftest import Wire
from ..zoo.models import Cage

pytestmark = pytest.mark.usefixtures("db", "leased")


@pytest.fixture
def leased() -> None:
    """What a test loads is leased from the beginning."""
    assert default_cache().bus.wait_until_leased(20)


def test_cache_is_the_default_near_cache() -> None:
    assert cache.get_or_set("reads:a", lambda: 1) == 1
    assert default_cache().get("reads:a") == 1
    assert "reads:a" in cache
    assert len(cache) == len(default_cache())
    assert cache


def test_a_saved_row_leaves_the_cache() -> None:
    cage = Cage.objects.create(name="old")

    def load() -> str:
        return Cage.objects.get(pk=cage.pk).name

    for _ in range(2):
        assert cache.get_or_set("reads:cage", load, tags=row_tags(cage)) == "old"
    cage.name = "new"
    cage.save()
    assert cache.get_or_set("reads:cage", load, tags=row_tags(cage)) == "new"


def test_rows_that_nobody_knows_leave_the_cache_too() -> None:
    cage = Cage.objects.create(name="old")
    cache.get_or_set("reads:unknown", lambda: "copy", tags=row_tags(cage))
    Cage.objects.create(name="new")
    Cage.objects.filter(name="new").delete()
    cache.get_or_set("reads:unknown", lambda: "copy", tags=row_tags(cage))
    Cage.objects.create()
    assert cache.get("reads:unknown") == "copy", "another row"
    Cage.objects.filter(name="old").update(name="new")
    assert cache.get("reads:unknown") is None


def test_invalidating_through_the_cache_waits_for_the_commit(wire: Wire) -> None:
    with transaction.atomic():
        assert cache.invalidate("reads:a", tags=["prices"]) is None
        assert wire.messages() == []
    message = wire.message()
    assert (message.keys, message.tags) == ({"reads:a"}, {"prices"})


def test_a_cached_function_loads_once_and_again_when_invalidated(wire: Wire) -> None:
    calls: list[int] = []

    @cached(key="reads:double:{x}", tags=["doubles"])
    def double(x: int) -> int:
        """Twice."""
        calls.append(x)
        return 2 * x

    assert [double(2), double(2)] == [4, 4]
    assert calls == [2]
    assert double.__doc__ == "Twice."
    with transaction.atomic():
        double.invalidate(2)
        assert wire.messages() == []
    assert wire.message().keys == {"reads:double:2"}
    double(2)
    assert calls == [2, 2]


def test_an_async_function_is_cached_too() -> None:
    calls: list[int] = []

    @cached(key="reads:adouble:{x}")
    async def double(x: int) -> int:
        calls.append(x)
        return 2 * x

    async def twice() -> list[int]:
        return [await double(2), await double(2)]

    assert asyncio.run(twice()) == [4, 4]
    assert calls == [2]


def test_a_cached_function_follows_the_settings() -> None:
    calls: list[int] = []

    @cached(key="reads:follow")
    def value() -> int:
        calls.append(1)
        return len(calls)

    assert value() == 1
    with override_settings(INVALIDATOR={"URL": "memory://", "NAMESPACE": "elsewhere"}):
        assert value() == 2
