"""Django's cache API over a near cache: options, room, coroutines, and what Django's own tests do not ask."""

import asyncio
import threading
import warnings
from typing import Any

import pytest
from django.conf import settings
from django.core.cache import CacheKeyWarning
from django.core.exceptions import ImproperlyConfigured
from django.test import override_settings

from django_integration import bus, invalidate, tag
from django_integration.backend import NearCacheBackend

from ..conftest import WAIT_S


@pytest.fixture(autouse=True)
def cache(one_level):
    return one_level


@pytest.mark.parametrize("options", [{"COPY": "shallow"}, {"MAXSIZE": 5}])
def test_unknown_options_are_refused(options) -> None:
    with pytest.raises(ImproperlyConfigured, match=next(iter(options))):
        NearCacheBackend("", {"OPTIONS": options})


class TestRoom:
    def test_it_is_bounded_by_default_as_the_setting_says(self) -> None:
        assert NearCacheBackend("", {})._max_entries == 50_000
        with override_settings(INVALIDATOR={**settings.INVALIDATOR, "MAXSIZE": 7}):
            assert NearCacheBackend("", {})._max_entries == 7

    def test_what_is_used_stays(self) -> None:
        small = NearCacheBackend("small", {"OPTIONS": {"MAX_ENTRIES": 9}})
        for number in range(9):
            small.get_or_set(number, number)
        for number in range(6):
            assert small.get(number) == number
        small.set("another", 1)
        assert [number for number in range(9) if number in small] == list(range(6))

    def test_at_most_so_many_leave_at_once(self, monkeypatch) -> None:
        monkeypatch.setattr("django_integration.backend.backend.MOST_CULLED", 2)
        small = NearCacheBackend("bounded", {"OPTIONS": {"MAX_ENTRIES": 30}})
        for number in range(31):
            small.set(number, number)
        assert len(small._place.near) == 29


class TestAsync:
    def test_what_is_in_memory_needs_no_thread(self, cache, monkeypatch) -> None:
        def refuse(*_: object, **__: object) -> None:
            raise AssertionError("a thread was used")

        cache.set_many({"a": [1], "b": 2})

        async def main() -> None:
            monkeypatch.setattr(asyncio.get_running_loop(), "run_in_executor", refuse)
            assert await cache.aget("a") == [1]
            assert await cache.aget_many(["a", "b"]) == {"a": [1], "b": 2}
            assert await cache.ahas_key("a")
            assert await cache.aget_or_set("a", 5) == [1]
            assert await cache.aget("absent", 7) == 7
            await cache.aset("absent", 8)  # a fill
            assert await cache.aget_or_set("loaded", lambda: 9) == 9
            monkeypatch.undo()

        asyncio.run(main())

    def test_publishing_does_not_hold_the_loop_up(self, cache, monkeypatch) -> None:
        """Redis may take its time."""
        begun, may_go_on = threading.Event(), threading.Event()
        publish = bus()._link.publish

        def slow(*arguments: Any) -> Any:
            begun.set()
            may_go_on.wait(WAIT_S)
            return publish(*arguments)

        monkeypatch.setattr(bus()._link, "publish", slow)

        async def main() -> None:
            writing = asyncio.create_task(cache.aset("a", 1))
            while not begun.is_set():  # noqa: ASYNC110 - a thread sets it
                await asyncio.sleep(0)
            assert not writing.done()
            assert await cache.aget("a") == 1, "it is in force here"
            may_go_on.set()
            await writing

        asyncio.run(main())

    def test_a_coroutine_function_may_load(self, cache) -> None:
        async def load() -> int:
            await asyncio.sleep(0)
            return 5

        async def main() -> list[int]:
            return await asyncio.gather(*(cache.aget_or_set("a", load) for _ in range(3)))

        assert asyncio.run(main()) == [5, 5, 5]


@pytest.mark.parametrize("how", ["get", "get_many", "get_or_set", "aget", "aget_many"])
def test_what_a_reader_changes_does_not_change_the_cache(cache, how) -> None:
    cache.set("a", {"list": [1]})
    read = {
        "get": lambda: cache.get("a"),
        "get_many": lambda: cache.get_many(["a"])["a"],
        "get_or_set": lambda: cache.get_or_set("a", 5),
        "aget": lambda: asyncio.run(cache.aget("a")),
        "aget_many": lambda: asyncio.run(cache.aget_many(["a"]))["a"],
    }[how]
    read()["list"].append(2)
    assert read() == {"list": [1]}


def test_timeouts(cache) -> None:
    for key, timeout in (("zero", 0), ("negative", -5), ("zero float", 0.0)):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", CacheKeyWarning)
            cache.set(key, 1, timeout)
            assert cache.get(key) is None
            assert cache.get_or_set(key, 2, timeout) == 2
            assert cache.get(key) is None
    cache.set("a", 1, float("inf"))
    assert cache._place.near.peek(":1:a").expires_at == 2**63 - 1
    forever = NearCacheBackend("forever", {"TIMEOUT": None})
    forever.set("a", 1)
    assert forever._place.near.peek(":1:a").expires_at == 2**63 - 1


class TestTags:
    def test_every_entry_carries_them(self) -> None:
        cache = NearCacheBackend("tagged", {"OPTIONS": {"TAGS": ["prices"]}})
        ways = {"a": lambda: cache.set("a", 1), "b": lambda: cache.add("b", 1), "c": lambda: cache.get_or_set("c", 1)}
        for key, fill in ways.items():
            for missed in (True, False):
                cache.get(key) if missed else None
                fill()
                assert cache.get(key) == 1
                invalidate(tag("prices"))
                assert cache.get(key) is None
        cache.get("d")
        cache.set("d", 1)
        cache.clear()
        assert cache.get("d") is None

    def test_a_clear_publishes_its_own_tag_alone(self) -> None:
        cache = NearCacheBackend("tagged", {"OPTIONS": {"TAGS": ["prices"]}})
        since = bus().clock()
        cache.clear()
        assert not bus().was_invalidated((), ["prices"], since=since)

    @pytest.mark.parametrize(
        ("options", "what"),
        [({"TAGS": "prices"}, "prices"), ({"TAGS": [""]}, "empty"), ({"TAGS": ["a"], "L2": "x"}, "knows no tags")],
    )
    def test_what_cannot_work(self, options: dict[str, object], what: str) -> None:
        with pytest.raises(ImproperlyConfigured, match=what):
            NearCacheBackend("", {"OPTIONS": options})
