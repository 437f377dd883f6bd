"""`cache` and `cached`: the default near cache, before there is one and after the settings changed."""

import asyncio
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.db import transaction
from django.test import override_settings

from django_integration import cache, cached, row_tags
from django_integration.reads.default_cache import default_cache
from invalidator import InvalidSetting, Loaded

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


class TestWhatAHitHandsOut:
    """`copies/` has the tests of each kind of value."""

    @pytest.fixture
    def load(self) -> Any:
        Cage.objects.create(name="a")
        return lambda: [Cage.objects.get()]

    def test_a_clone_by_default_through_every_door(self, load) -> None:
        async def aload() -> Any:
            return await sync_to_async(load)()

        doors = {
            "cached": cached(key="reads:cached")(load),
            "async cached": lambda: asyncio.run(cached(key="reads:async")(aload)()),
            "get_or_set": lambda: cache.get_or_set("reads:set", load),
            "aget_or_set": lambda: asyncio.run(cache.aget_or_set("reads:aset", aload)),
            "get": lambda: cache.get("reads:set"),
            "get_many": lambda: cache.get_many(["reads:set"])["reads:set"],
        }
        for door in doors.values():
            for _ in range(2):
                door()[0].name = "changed"
                assert [cage.name for cage in door()] == ["a"]

    def test_a_function_or_a_call_may_share_the_live_object(self, load) -> None:
        async def aload() -> Any:
            return await sync_to_async(load)()

        shared = cached(key="reads:shared", copy="none")(load)
        assert shared() is shared()
        assert cache.get_or_set("reads:live", load, copy="none") is cache.get("reads:live")
        value = asyncio.run(cache.aget_or_set("reads:alive", aload, copy="none"))
        assert cache.get("reads:alive") is value

    def test_without_recording_too(self, load) -> None:
        shared = cached(key="reads:untracked", copy="none", track=False)(load)
        assert shared() is shared()
        own = cached(key="reads:untracked-too", track=False)(load)
        assert own() is not own()

    def test_the_loader_has_the_last_word(self, load) -> None:
        function = cached(key="reads:loader", copy="clone")(lambda: Loaded(load(), copy="none"))
        assert function() is function()

    def test_the_setting_is_for_all(self, load) -> None:
        with override_settings(INVALIDATOR={"URL": "memory://", "NAMESPACE": "live", "COPY": "none"}):
            assert default_cache().bus.wait_until_leased(20)
            assert cache.get_or_set("reads:setting", load) is cache.get("reads:setting")
            own = cached(key="reads:own", copy="clone")(load)
            assert own() is not own()

    def test_another_word_is_refused_when_a_function_is_decorated(self) -> None:
        with pytest.raises(InvalidSetting, match="copy must be one of"):
            cached(copy="copy")

    def test_a_part_made_of_a_clone_falls_with_it(self, load) -> None:
        inner = cached(key="reads:inner")(load)
        outer = cached(key="reads:outer")(lambda: inner()[0].name)
        inner()
        assert outer() == "a"
        cage = Cage.objects.get()
        cage.name = "b"
        cage.save()
        assert outer() == "b"
