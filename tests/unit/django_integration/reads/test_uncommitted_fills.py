"""What `cache.set` stores in a transaction that has written."""

from __future__ import annotations

import pytest
from django.db import transaction

from django_integration import bus, cache, cached
from django_integration.reads import uncommitted_fills
from invalidator import tag
from tests.support import Thread

from ..conftest import WAIT_S, Wire
from ..zoo.models import Cage

pytestmark = pytest.mark.usefixtures("db")

FOOD = "zoo.food:1"
"""A row that the transaction does not change: what says that it is made of nothing else is stored."""


@pytest.fixture(autouse=True)
def leased() -> None:
    """What is stored before the first proof is void."""
    assert bus().wait_until_leased(WAIT_S)
    cache.evict(*[f"fills:{key}" for key in ("k", "l", "a", "b", "page", "inside", "outside")])


def test_what_is_set_in_the_cache_falls_too() -> None:
    """The application says of which rows it is made, and nobody has seen that."""
    with transaction.atomic():
        Cage.objects.create()
        assert cache.set("fills:k", "uncommitted", tags=[FOOD])
        assert cache.set_many({"fills:l": "uncommitted"}, tags=[tag(FOOD)]) == []
        transaction.set_rollback(True)
    assert cache.get_many(["fills:k", "fills:l"]) == {}


def test_what_was_set_there_before_the_first_write_stands() -> None:
    with transaction.atomic():
        assert cache.set("fills:k", "committed")
        Cage.objects.create()
        transaction.set_rollback(True)
    assert cache.get("fills:k") == "committed"


def test_what_is_set_there_is_published_by_nobody(wire: Wire) -> None:
    """`cache.set` is a fill."""
    with transaction.atomic():
        Cage.objects.create()
        cache.set("fills:k", "value", tags=[FOOD])
    (message,) = wire.messages()
    assert message.keys == set()
    assert cache.get("fills:k") == "value"


def test_in_a_savepoint_that_is_rolled_back() -> None:
    with transaction.atomic():
        Cage.objects.create()
        cache.set("fills:outside", "committed", tags=[FOOD])
        with transaction.atomic():
            cache.set("fills:inside", "uncommitted", tags=[FOOD])
            transaction.set_rollback(True)
    assert cache.get_many(["fills:outside", "fills:inside"]) == {"fills:outside": "committed"}


def test_what_was_made_from_it_falls_with_it() -> None:
    @cached(key="fills:page")
    def page() -> str:
        return f"<p>{cache.get('fills:k')}</p>"

    with transaction.atomic():
        Cage.objects.create()
        cache.set("fills:k", "uncommitted", tags=[FOOD])
        assert Thread(page).outcome() == "<p>uncommitted</p>"
        transaction.set_rollback(True)
    assert page() == "<p>None</p>"


def test_what_another_thread_has_set_meanwhile_stands() -> None:
    def set_another() -> None:
        cache.invalidate("fills:k")
        cache.set("fills:k", "another")

    with transaction.atomic():
        Cage.objects.create()
        cache.set("fills:k", "uncommitted", tags=[FOOD])
        Thread(set_another).outcome()
        transaction.set_rollback(True)
    assert cache.get("fills:k") == "another"


def test_beyond_so_many_nothing_is_stored(monkeypatch: pytest.MonkeyPatch) -> None:
    """A transaction that sets a million values keeps them all in memory otherwise."""
    monkeypatch.setattr(uncommitted_fills, "MOST_FILLS", 1)
    with transaction.atomic():
        Cage.objects.create()
        assert cache.set("fills:a", 1, tags=[FOOD])
        assert not cache.set("fills:b", 1, tags=[FOOD])
        assert cache.set("fills:a", 2, tags=[FOOD])
    assert cache.get_many(["fills:a", "fills:b"]) == {"fills:a": 2}
