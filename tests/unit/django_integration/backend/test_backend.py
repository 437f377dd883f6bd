"""Django's cache API over a near cache, without a second level: what Django's own tests do not ask."""

import asyncio
import threading
import warnings
from collections.abc import Iterator
from typing import Any

import pytest
from django.conf import settings
from django.core.cache import CacheKeyWarning, caches
from django.core.exceptions import ImproperlyConfigured
from django.core.signals import request_finished
from django.http import HttpRequest, HttpResponse
from django.template import Context, Engine
from django.test import RequestFactory, override_settings
from django.views.decorators.cache import cache_page

from django_integration import bus, invalidate, runtime
from django_integration.backend import NearCacheBackend, fills
from django_integration.backend.keys import name_of
from django_integration.backend.places import place_tag
from invalidator import Invalidator
from invalidator.extending import check_key
from tests.support import Thread, wait_until

from ..conftest import WAIT_S, Message, Wire

OURS = "django_integration.backend.NearCacheBackend"
CACHES: dict[str, Any] = {
    "default": {"BACKEND": OURS},
    "same": {"BACKEND": OURS},
    "elsewhere": {"BACKEND": OURS, "LOCATION": "elsewhere", "KEY_PREFIX": "other"},
}


@pytest.fixture(autouse=True)
def leased() -> Iterator[None]:
    """Empty caches, and a lease."""
    with override_settings(CACHES=CACHES):
        assert bus().wait_until_leased(WAIT_S)
        for alias in CACHES:
            caches[alias].clear()
        yield


@pytest.fixture
def cache(leased: None):
    return caches["default"]


@pytest.fixture
def other(leased: None) -> Iterator[Invalidator]:
    """Another server."""
    with Invalidator("memory://", namespace=bus().namespace) as other:
        assert other.wait_until_leased(WAIT_S)
        yield other


def says(other: Invalidator, key: str) -> None:
    """*other* invalidates *key* of the default cache, and it has arrived."""
    since = bus().clock()
    other.invalidate(key)
    wait_until(lambda: bus().was_invalidated([key], since=since))


def keys(*names: str) -> Message:
    return Message(keys=frozenset(f":1:{name}" for name in names))


class TestAFillIsQuiet:
    def test_a_set_after_a_miss_publishes_nothing(self, cache, wire: Wire) -> None:
        assert cache.get("a") is None
        cache.set("a", 1)
        assert cache.get_many(["b", "c"]) == {}
        cache.set_many({"b": 1, "c": 2})
        assert "d" not in cache
        cache.add("d", 1)
        cache.get_or_set("e", lambda: 1)
        assert cache.get_many("abcde") == {"a": 1, "b": 1, "c": 2, "d": 1, "e": 1}
        assert wire.messages() == []

    def test_it_counts_from_the_miss(self, cache, other) -> None:
        """What was computed from the old source is not stored."""
        for store in (
            lambda: cache.set("a", "old"),
            lambda: cache.add("a", "old"),
            lambda: cache.set_many({"a": "old"}),
        ):
            assert cache.get("a") is None
            says(other, ":1:a")
            store()
            assert cache.get("a") is None

    def test_loading_counts_from_its_beginning(self, cache, other) -> None:
        assert cache.get_or_set("a", lambda: says(other, ":1:a") or "old") == "old"
        assert cache.get("a") is None

    def test_async_too(self, cache, wire: Wire) -> None:
        async def fill() -> None:
            assert await cache.aget("a") is None
            await cache.aset("a", 1)
            await cache.aget_many(["b"])
            await cache.aset_many({"b": 1})
            assert not await cache.ahas_key("c")
            await cache.aadd("c", 1)
            await cache.aget_or_set("d", lambda: 1)

        asyncio.run(fill())
        assert cache.get_many("abcd") == dict.fromkeys("abcd", 1)
        assert wire.messages() == []


class TestAWriteIsTold:
    def test_a_set_without_a_miss_survives_here_and_is_told(self, cache, wire: Wire) -> None:
        cache.set("a", 1)
        assert wire.message() == keys("a")
        assert cache.get("a") == 1

    def test_many_leave_as_one_message(self, cache, wire: Wire) -> None:
        cache.set_many({"a": 1, "b": 2})
        assert wire.message() == keys("a", "b")
        cache.delete_many(["a", "b"])
        assert wire.message() == keys("a", "b")

    def test_of_many_only_those_are_told_that_were_not_missed(self, cache, wire: Wire) -> None:
        cache.get("a")
        cache.set_many({"a": 1, "b": 2})
        assert wire.message() == keys("b")

    @pytest.mark.parametrize(
        "write",
        [
            lambda cache: cache.incr("a"),
            lambda cache: cache.decr("a"),
            lambda cache: cache.touch("a"),
            lambda cache: cache.delete("a"),
            lambda cache: asyncio.run(cache.aset("a", 2)),
            lambda cache: asyncio.run(cache.aset_many({"a": 2})),
            lambda cache: asyncio.run(cache.aincr("a")),
            lambda cache: asyncio.run(cache.adecr("a")),
            lambda cache: asyncio.run(cache.atouch("a")),
            lambda cache: asyncio.run(cache.adelete("a")),
            lambda cache: asyncio.run(cache.adelete_many(["a"])),
        ],
    )
    def test_every_write(self, cache, wire: Wire, write) -> None:
        cache.set("a", 1)
        wire.messages()
        write(cache)
        assert wire.message() == keys("a")

    @pytest.mark.parametrize("how", ["clear", "aclear"])
    def test_clearing_names_the_location_and_spares_the_others(self, cache, wire: Wire, how) -> None:
        """One integer, however many entries; the near cache of the models is not concerned."""
        caches["elsewhere"].set("a", 1)
        cache.set("a", 1)
        wire.messages()
        asyncio.run(cache.aclear()) if how == "aclear" else cache.clear()
        assert wire.message() == Message(tags=frozenset({"django.cache:"}))
        assert cache.get("a") is None
        assert caches["elsewhere"].get("a") == 1
        assert len(cache._place.near) == 0

    def test_what_did_nothing_is_not_told(self, cache, wire: Wire) -> None:
        cache.set("a", 1)
        wire.messages()
        assert cache.touch("absent") is False
        assert cache.add("a", 2) is False
        with pytest.raises(ValueError, match="absent"):
            cache.incr("absent")
        assert cache.set_many({}) == []
        cache.delete_many([])
        assert wire.messages() == []

    def test_a_miss_long_past_makes_no_fill(self, cache, wire: Wire, monkeypatch) -> None:
        """A loop that gave up on a key, and much later sets it."""
        cache.get("a")
        monkeypatch.setattr(fills, "FILL_WITHIN_S", 0.0)
        cache.set("a", 1)
        assert wire.message() == keys("a")
        assert cache.get("a") == 1

    def test_a_miss_of_the_last_request_makes_no_fill(self, cache, wire: Wire) -> None:
        cache.get("a")
        request_finished.send(sender=None)
        cache.set("a", 1)
        assert wire.message() == keys("a")

    def test_a_miss_in_another_thread_makes_no_fill(self, cache, wire: Wire) -> None:
        Thread(lambda: caches["default"].get("a")).outcome()
        cache.set("a", 1)
        assert wire.message() == keys("a")

    def test_a_miss_in_another_task_makes_no_fill(self, cache, wire: Wire) -> None:
        async def main() -> None:
            await asyncio.create_task(cache.aget("a"))
            await asyncio.create_task(cache.aset("a", 1))

        asyncio.run(main())
        assert wire.message() == keys("a")

    @pytest.mark.parametrize(
        "change",
        [lambda cache: cache.delete("a"), lambda cache: cache.delete_many(["a"]), lambda cache: cache.clear()],
    )
    def test_a_miss_before_our_own_write_makes_no_fill(self, cache, wire: Wire, change) -> None:
        cache.get("a")
        change(cache)
        wire.messages()
        cache.set("a", 1)
        assert wire.message() == keys("a")
        assert cache.get("a") == 1


class TestDjangoOnTop:
    """Three processes do this in tests/integration/test_backend_processes.py."""

    def test_a_cached_page_is_rendered_once_and_publishes_nothing(self, wire: Wire) -> None:
        rendered: list[str] = []

        @cache_page(300)
        def page(request: HttpRequest) -> HttpResponse:
            rendered.append(request.META.get("HTTP_COOKIE", ""))
            return HttpResponse("page", headers={"Vary": "Cookie"})

        with override_settings(ALLOWED_HOSTS=["*"]):
            for cookie in ("a", "a", "b", "b", "a"):
                response = page(RequestFactory().get("/", HTTP_COOKIE=cookie))
                assert response.content == b"page"
        assert rendered == ["a", "b"]
        assert wire.messages() == [], "the list of headers is stored with each page, and does not change"

    def test_a_page_counts_from_the_miss_of_its_headers(self, other) -> None:
        """It was not asked for by its own key."""
        rendered: list[int] = []

        @cache_page(300)
        def page(request: HttpRequest) -> HttpResponse:
            rendered.append(1)
            if len(rendered) == 1:
                since = bus().clock()
                other.invalidate(tags=[place_tag("")])
                wait_until(lambda: bus().was_invalidated([], [place_tag("")], since=since))
            return HttpResponse("page")

        with override_settings(ALLOWED_HOSTS=["*"]):
            for turn in range(3):
                page(RequestFactory().get("/late"))
                kept = [key for key in caches["default"]._place.near._store._entries if "cache_page" in key]
                assert len(kept) == (turn > 0)
        assert len(rendered) == 2

    def test_a_changed_list_of_headers_is_told(self, wire: Wire) -> None:
        name = "views.decorators.cache.cache_header..d41d8cd98f00b204e9800998ecf8427e.en-us"
        caches["default"].get(name)
        caches["default"].set(name, ["HTTP_COOKIE"])
        caches["default"].set(name, ["HTTP_COOKIE"])
        assert wire.messages() == []
        caches["default"].set(name, ["HTTP_ACCEPT"])
        assert wire.message() == keys(name)

    def test_a_cached_fragment_is_rendered_once_and_is_not_copied(self, cache, wire: Wire) -> None:
        template = Engine(libraries={"cache": "django.templatetags.cache"}).from_string(
            "{% load cache %}{% cache 300 box who %}{{ render }}{% endcache %}"
        )
        rendered: list[int] = []
        for _ in range(3):
            assert template.render(Context({"who": 1, "render": lambda: rendered.append(1) or "box"})) == "box"
        assert rendered == [1]
        assert wire.messages() == []


class TestKeys:
    @pytest.mark.parametrize("key", ["k" * 600, "é" * 300, "\ud800", "k" * 495])
    def test_every_key_has_a_name(self, cache, key, wire: Wire) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", CacheKeyWarning)
            cache.set(key, 1)
            assert cache.get(key) == 1
            assert check_key(cache.key_name(key))
            assert wire.message().keys == {cache.key_name(key)}
            invalidate(cache.key_name(key))
            assert cache.get(key) is None

    def test_names_of_hashed_keys_differ(self) -> None:
        assert len({name_of("k" * length) for length in range(490, 600)}) == 110
        assert name_of("") != name_of("~")
        assert name_of(":1:é") == ":1:é"

    def test_numbers_that_are_equal_are_different_keys(self, cache) -> None:
        """As they are in Django: the key is their text."""
        for value, key in enumerate((1, 1.0, True, "1")):
            cache.set(key, value)
        assert [cache.get(key) for key in (1, 1.0, True, "1")] == [3, 1, 2, 3]
        assert cache.get_many([1, 1.0]) == {1: 1}  # one key of a dict

    def test_a_bad_key_is_warned_of_each_time(self, cache) -> None:
        for _ in range(2):
            with pytest.warns(CacheKeyWarning):
                cache.get("a b")

    def test_prefix_version_and_function_may_change(self, cache) -> None:
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

    def test_remembered_names_are_bounded(self, cache, monkeypatch) -> None:
        monkeypatch.setattr("django_integration.backend.keys.MOST_REMEMBERED", 5)
        for number in range(20):
            cache.get(f"k{number}")
        assert len(cache._names_by_key) <= 5


class TestPlaces:
    def test_aliases_of_one_location_share_one_store(self, cache) -> None:
        cache.set("a", 1)
        assert caches["same"].get("a") == 1
        assert caches["elsewhere"].get("a") is None

    def test_threads_and_tasks_share_it(self, cache) -> None:
        """Django makes a backend object for each."""
        cache.set("a", 1)
        assert Thread(lambda: caches["default"].get("a")).outcome() == 1

        async def task() -> Any:
            return caches["default"].get("a")

        assert asyncio.run(task()) == 1

    def test_new_settings_make_a_new_store(self, cache) -> None:
        cache.set("a", 1)
        with override_settings(INVALIDATOR={"URL": "memory://", "NAMESPACE": "new", "MAX_STALENESS": 60}):
            assert bus().wait_until_leased(WAIT_S)
            assert cache.get("a") is None
            assert cache._place.near.bus is bus()
            cache.set("a", 2)
            assert cache.get("a") == 2
        assert cache.get("a") is None

    def test_making_backends_starts_nothing(self) -> None:
        runtime.reset()
        NearCacheBackend("", {})
        assert runtime._runtime.bus is None

    @pytest.mark.parametrize("options", [{"COPY": "shallow"}, {"MAXSIZE": 5}])
    def test_unknown_options_are_refused(self, options) -> None:
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


class TestThreads:
    def test_one_loads_and_all_get_copies_of_their_own(self, cache) -> None:
        loads: list[int] = []
        inside, go_on = threading.Event(), threading.Event()

        def load() -> list[int]:
            loads.append(1)
            inside.set()
            go_on.wait(WAIT_S)
            return [1]

        def ask() -> list[int]:
            got: list[int] = caches["default"].get_or_set("a", load)
            got.append(2)
            return got

        first = Thread(ask)
        assert inside.wait(WAIT_S)
        others = [Thread(ask) for _ in range(4)]
        wait_until(lambda: cache._place.near.stats().joins >= 4)
        go_on.set()
        assert [thread.outcome() for thread in (first, *others)] == [[1, 2]] * 5
        assert (loads, cache.get("a")) == ([1], [1])

    def test_increments_are_not_lost(self, cache) -> None:
        cache.set("n", 0)
        threads = [Thread(lambda: [caches["default"].incr("n") for _ in range(200)]) for _ in range(4)]
        for thread in threads:
            thread.outcome()
        assert cache.get("n") == 800

    def test_one_of_many_adds(self, cache) -> None:
        for turn in range(20):
            together = threading.Barrier(4)
            threads = [
                Thread(lambda turn=turn, wait=together.wait: (wait() and 0) or caches["default"].add(f"lock{turn}", 1))
                for _ in range(4)
            ]
            assert sorted(thread.outcome() for thread in threads) == [False, False, False, True]

    def test_an_update_keeps_the_time_that_is_left(self, cache) -> None:
        cache.set("n", 1, timeout=1000)
        before = cache._place.near.peek(":1:n").expires_at
        cache.incr("n")
        assert cache._place.near.peek(":1:n").expires_at == before
        cache.touch("n", None)
        assert cache._place.near.peek(":1:n").expires_at > before


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

    def test_telling_does_not_hold_the_loop_up(self, cache, monkeypatch) -> None:
        """Redis may take its time."""
        told, may_tell = threading.Event(), threading.Event()
        publish = bus()._link.publish

        def slow(*arguments: Any) -> Any:
            told.set()
            may_tell.wait(WAIT_S)
            return publish(*arguments)

        monkeypatch.setattr(bus()._link, "publish", slow)

        async def main() -> None:
            writing = asyncio.create_task(cache.aset("a", 1))
            while not told.is_set():  # noqa: ASYNC110 - a thread sets it
                await asyncio.sleep(0)
            assert not writing.done()
            assert await cache.aget("a") == 1, "it is in force here"
            may_tell.set()
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
