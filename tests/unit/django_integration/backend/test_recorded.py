"""`get_or_set` and `aget_or_set` of Django's cache API, with OPTIONS = {"DEPENDENCIES": True}."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from asgiref.sync import async_to_sync, sync_to_async
from django.core.cache import caches
from django.core.exceptions import ImproperlyConfigured
from django.db import transaction
from django.test import override_settings

from django_integration import bus, cached, invalidate
from django_integration.backend import NearCacheBackend
from django_integration.testing import verify_reads

from ..conftest import WAIT_S
from ..zoo.models import Animal, Cage
from .conftest import OURS

CACHES: dict[str, Any] = {
    "default": {"BACKEND": OURS, "OPTIONS": {"DEPENDENCIES": True}},
    "live": {"BACKEND": OURS, "LOCATION": "live", "OPTIONS": {"DEPENDENCIES": True, "COPY": "none"}},
    "same place": {"BACKEND": OURS},
    "tagged": {"BACKEND": OURS, "OPTIONS": {"TAGS": ["zoo.food", "prices"]}},
    "recorded and tagged": {"BACKEND": OURS, "OPTIONS": {"TAGS": ["zoo.food", "prices"], "DEPENDENCIES": True}},
}


@pytest.fixture(autouse=True)
def cache(db: None) -> Iterator[NearCacheBackend]:
    with override_settings(CACHES=CACHES):
        assert bus().wait_until_leased(WAIT_S)
        for alias in CACHES:
            caches[alias].clear()
        yield caches["default"]


@pytest.fixture
def cage() -> Cage:
    return Cage.objects.create(name="big")


Load = Callable[[NearCacheBackend, Callable[[], Any]], Any]


def sync(cache: NearCacheBackend, loader: Callable[[], Any]) -> Any:
    return cache.get_or_set("k", loader)


def of_coroutine(cache: NearCacheBackend, loader: Callable[[], Any]) -> Any:
    async def load() -> Any:
        return await sync_to_async(loader)()

    return async_to_sync(cache.aget_or_set)("k", load)


both = pytest.mark.parametrize("load", [sync, of_coroutine])


class Counting:
    """A loader that counts its calls."""

    def __init__(self, loader: Callable[[], Any]) -> None:
        self._loader = loader
        self.calls = 0

    def __call__(self) -> Any:
        self.calls += 1
        return self._loader()


def name() -> str:
    return Cage.objects.get(name__startswith="b").name


@both
@pytest.mark.parametrize("alias", ["default", "live"])
def test_a_change_of_what_was_read_voids_it(cage, load, alias) -> None:
    assert load(caches[alias], name) == "big"
    Cage.objects.update(name="bigger")
    assert load(caches[alias], name) == "bigger"


@both
def test_a_change_of_something_else_does_not(cache, cage, load) -> None:
    loader = Counting(name)
    load(cache, loader)
    Animal.objects.create(name="cat")
    load(cache, loader)
    assert loader.calls == 1


@both
@pytest.mark.parametrize("alias", ["default", "live"])
def test_a_query_set_that_is_returned_is_read_and_recorded(cage, load, alias) -> None:
    def names() -> list[str]:
        return [cage.name for cage in load(caches[alias], lambda: Cage.objects.order_by("pk"))]

    assert names() == ["big"]
    Cage.objects.create(name="small")
    assert names() == ["big", "small"]


@both
def test_a_cached_function_that_reads_it_falls_with_it(cache, cage, load) -> None:
    @cached()
    def page() -> str:
        return f"<p>{load(cache, name)}</p>"

    assert page() == "<p>big</p>"
    Cage.objects.update(name="bigger")
    assert page() == "<p>bigger</p>"


def test_what_was_set_depends_on_nothing(cache, cage) -> None:
    """With a miss or without: nobody saw it computed."""
    cache.set("k", name())
    Cage.objects.update(name="bigger")
    assert sync(cache, name) == "big"


def test_off_by_default(cage) -> None:
    """As in Django, the callable's value lives until its timeout."""
    assert sync(caches["same place"], name) == "big"
    Cage.objects.update(name="bigger")
    assert sync(caches["same place"], name) == "big"


@both
def test_a_clear_voids_it(cache, cage, load) -> None:
    loader = Counting(name)
    load(cache, loader)
    cache.clear()
    load(cache, loader)
    assert loader.calls == 2


@both
def test_a_name_of_a_key_voids_it(cache, cage, load) -> None:
    loader = Counting(name)
    load(cache, loader)
    invalidate(cache.key_name("k"))
    load(cache, loader)
    assert loader.calls == 2


class TestInATransactionThatHasWritten:
    """As with `cached`: the names of a value say whether it may be stored."""

    @both
    def test_what_the_transaction_has_not_changed_is_stored(self, cache, cage, load) -> None:
        loader = Counting(name)
        with transaction.atomic():
            Animal.objects.create(name="cat")
            load(cache, loader)
            load(cache, loader)
        load(cache, loader)
        assert loader.calls == 1

    @both
    def test_what_it_has_changed_is_not(self, cache, cage, load) -> None:
        with transaction.atomic():
            Cage.objects.update(name="bigger")
            assert load(cache, name) == "bigger"
            transaction.set_rollback(True)
        assert load(cache, name) == "big"

    @both
    @pytest.mark.parametrize("alias", ["default", "same place", "tagged", "recorded and tagged"])
    def test_nor_what_has_read_nothing(self, cage, load, alias) -> None:
        """It may have been computed from what the transaction has in memory."""
        with transaction.atomic():
            cage.name = "bigger"
            cage.save()
            assert load(caches[alias], lambda: cage.name) == "bigger"
            transaction.set_rollback(True)
        assert load(caches[alias], name) == "big"

    @both
    def test_nor_what_was_loaded_without_a_recorder(self, cage, load) -> None:
        with transaction.atomic():
            Cage.objects.update(name="bigger")
            assert load(caches["same place"], name) == "bigger"
            transaction.set_rollback(True)
        assert load(caches["same place"], name) == "big"


def test_the_verifier_finds_nothing(cache, cage) -> None:
    with verify_reads():
        assert [sync(cache, name), sync(cache, name)] == ["big", "big"]


def test_concurrent_tasks_load_once(cache, cage) -> None:
    loader = Counting(name)

    async def load() -> str:
        return await sync_to_async(loader)()

    async def main() -> list[str]:
        return await asyncio.gather(*[cache.aget_or_set("k", load) for _ in range(3)])

    assert asyncio.run(main()) == ["big"] * 3
    assert loader.calls == 1


@pytest.mark.parametrize(
    ("options", "what"), [({"DEPENDENCIES": True, "L2": "x"}, "L2"), ({"DEPENDENCIES": 1}, "True or False")]
)
def test_what_cannot_work(options: dict[str, Any], what: str) -> None:
    with pytest.raises(ImproperlyConfigured, match=f"DEPENDENCIES.*{what}"):
        NearCacheBackend("", {"OPTIONS": options})
