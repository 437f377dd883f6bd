"""The panel in the real django-debug-toolbar, asked as a browser asks."""

import asyncio
import contextlib
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.test import AsyncClient, Client, override_settings
from django.urls import include, path
from django.utils.module_loading import import_string

from django_integration import cache, invalidate, observing, runtime, tag
from django_integration.copies import followed
from django_integration.reads.default_cache import default_cache
from django_integration.testing import isolated
from invalidator import Loaded

from .zoo.models import Animal, Cage

HERE = Path(__file__)
PANEL = "django_integration.panels.InvalidatorPanel"
TOOLBAR = "debug_toolbar.toolbar.DebugToolbar"
SETTINGS: dict[str, Any] = {
    "INSTALLED_APPS": [*settings.INSTALLED_APPS, "debug_toolbar"],
    "MIDDLEWARE": ["debug_toolbar.middleware.DebugToolbarMiddleware", *settings.MIDDLEWARE],
    "DEBUG": True,
    "INTERNAL_IPS": ["127.0.0.1"],
    "DEBUG_TOOLBAR_PANELS": [PANEL],
    "DEBUG_TOOLBAR_CONFIG": {"IS_RUNNING_TESTS": False, "RENDER_PANELS": True, "SHOW_TOOLBAR_CALLBACK": lambda _: True},
}


def fails() -> int:
    raise LookupError


def page(request: HttpRequest) -> HttpResponse:
    cache.get_or_set("lamp", lambda: Loaded(1, tags=["of-the-loader"]), tags=["prices"])
    cache.get_or_set("lamp", lambda: 1)
    with contextlib.suppress(LookupError):
        cache.get_or_set("broken", fails)
    invalidate(tag("told-here"), "key-told-here")
    return HttpResponse("<html><body>the page</body></html>")


async def async_page(request: HttpRequest) -> HttpResponse:
    async def load() -> int:
        return 1

    await cache.aget_or_set("async-lamp", load, tags=["async-tag"])
    await sync_to_async(cache.get)("async-lamp")
    return HttpResponse("<html><body>the page</body></html>")


def quiet(request: HttpRequest) -> HttpResponse:
    return HttpResponse("<html><body>the page</body></html>")


def follows(request: HttpRequest) -> HttpResponse:
    for _ in range(2):
        rows = cache.get_or_set("animals", lambda: list(Animal.objects.all()))
    for row in rows:
        row.cage  # noqa: B018
    return quiet(request)


seen: list[bool] = []


def look(request: HttpRequest) -> HttpResponse:
    cache.get("a")
    seen.append(default_cache().observer is not None)
    return quiet(request)


def many(request: HttpRequest) -> HttpResponse:
    for number in range(300):
        cache.get(f"key-{number}")
        invalidate(*[f"told-{number}-{each}" for each in range(25)])
    return HttpResponse("<html><body>the page</body></html>")


@pytest.fixture(autouse=True)
def toolbar(db: None) -> Iterator[None]:
    with override_settings(**SETTINGS), isolated():
        toolbar: Any = import_string(TOOLBAR)  # not before: it has a model, whose app must be installed
        urls = (
            *(path("page/", page), path("async/", async_page), path("quiet/", quiet), path("many/", many)),
            *(path("look/", look), path("follows/", follows), path("__debug__/", include("debug_toolbar.urls"))),
        )
        with override_settings(ROOT_URLCONF=urls):
            toolbar._panel_classes = None
            yield
    toolbar._panel_classes = None


def shown(address: str) -> str:
    answer = Client().get(address)
    assert answer.status_code == 200
    return answer.content.decode()


def test_it_shows_reads_and_what_they_depend_on() -> None:
    text = shown("/page/")
    assert "1 hits, 2 misses, 1 invalidations" in text
    assert "1 loads failed" in text
    for name in ("lamp", "prices", "of-the-loader", "cache, cached"):
        assert f"{name}" in text
    assert "told-here" in text
    assert "key-told-here" in text


def test_a_request_without_reads_has_none() -> None:
    assert "0 hits, 0 misses, 0 invalidations" in shown("/quiet/")


def test_only_so_much_is_kept() -> None:
    text = shown("/many/")
    assert "300 misses, 300 invalidations" in text
    assert text.count("key-") == 200
    assert "The first 200." in text
    assert "and 5 more" in text


def test_relations_that_are_followed_on_cached_rows_are_shown_once_for_each_place() -> None:
    """Each of them is a query at every hit."""
    cage = Cage.objects.create(name="cage")
    for name in "ab":
        Animal.objects.create(name=name, cage=cage)
    text = shown("/follows/")
    assert text.count("zoo.Animal.cage") == 1
    assert "<td>2</td>" in text
    assert f"{__file__}:" in text
    assert "select_related" in text
    assert "Relations followed" not in shown("/page/")


def test_coroutines_and_their_threads_are_seen() -> None:
    answer = asyncio.run(AsyncClient().get("/async/"))  # type: ignore[arg-type]
    text = answer.content.decode()
    assert "1 hits, 1 misses" in text
    assert "async-tag" in text


def test_after_the_request_nothing_watches() -> None:
    shown("/page/")
    assert default_cache().observer is None
    assert not runtime.publish_observers
    assert not observing._watchers
    assert followed._listeners == [followed._log], "the one of DEBUG"


def test_a_panel_that_is_off_costs_nothing() -> None:
    seen.clear()
    client = Client()
    client.cookies["djdtInvalidatorPanel"] = "off"
    client.get("/look/")
    client.cookies["djdtInvalidatorPanel"] = "on"
    client.get("/look/")
    assert seen == [False, True], "whether the near cache has an observer"


def test_other_requests_are_not_seen() -> None:
    panel = import_string(PANEL)(SimpleNamespace(request=None), quiet)
    panel.enable_instrumentation()
    other = threading.Thread(target=lambda: cache.get("elsewhere"))
    other.start()
    other.join()
    cache.get("here")
    panel.disable_instrumentation()
    panel.disable_instrumentation()
    assert [event["key"] for event in panel._recorded.events] == ["here"]  # type: ignore[union-attr]


def test_the_app_does_not_need_the_toolbar() -> None:
    imported = {name for name in sys.modules if name.startswith("django_integration.")}
    assert imported
    sources = (HERE.parents[3] / "django_integration").rglob("*.py")
    assert [source.name for source in sources if "debug_toolbar" in source.read_text()] == ["panels.py"]
