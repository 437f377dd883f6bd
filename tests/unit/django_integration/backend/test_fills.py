"""Whether a `set` is a fill, and when its value was loaded; and Django's own users of a cache, which fill."""

import asyncio

import pytest
from django.core.cache import caches
from django.core.signals import request_finished
from django.http import HttpRequest, HttpResponse
from django.template import Context, Engine
from django.test import RequestFactory, override_settings
from django.views.decorators.cache import cache_page

from django_integration import bus
from django_integration.backend import fills
from django_integration.backend.places import place_tag
from invalidator import Invalidator
from tests.support import Thread, wait_until

from ..conftest import Message, Wire


@pytest.fixture(autouse=True)
def cache(one_level):
    return one_level


def invalidated_by(other: Invalidator, key: str) -> None:
    """*other* invalidates *key*, and this process has received it."""
    since = bus().clock()
    other.invalidate(key)
    wait_until(lambda: bus().was_invalidated([key], since=since))


def keys(*names: str) -> Message:
    return Message(keys=frozenset(f":1:{name}" for name in names))


class TestAFillPublishesNothing:
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

    def test_it_is_treated_as_loaded_at_the_miss(self, cache, other) -> None:
        """What was computed from the old source is not stored."""
        for store in (
            lambda: cache.set("a", "old"),
            lambda: cache.add("a", "old"),
            lambda: cache.set_many({"a": "old"}),
        ):
            assert cache.get("a") is None
            invalidated_by(other, ":1:a")
            store()
            assert cache.get("a") is None

    def test_a_load_is_treated_as_loaded_at_its_beginning(self, cache, other) -> None:
        assert cache.get_or_set("a", lambda: invalidated_by(other, ":1:a") or "old") == "old"
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


class TestAChange:
    def test_of_many_only_those_are_published_that_were_not_missed(self, cache, wire: Wire) -> None:
        cache.get("a")
        cache.set_many({"a": 1, "b": 2})
        assert wire.message() == keys("b")

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

    def test_a_page_is_treated_as_loaded_at_the_miss_of_its_headers(self, other) -> None:
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

    def test_a_changed_list_of_headers_is_published(self, wire: Wire) -> None:
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
