"""A Django cache of what packages read from rows."""

import asyncio
from collections.abc import Iterator

import pytest

from django_integration import bus, invalidate, model_tag
from django_integration.local_caches.rows_cache import RowsCache

from ..conftest import WAIT_S
from ..zoo.models import Cage

pytestmark = pytest.mark.usefixtures("db")

TAG = model_tag(Cage)


@pytest.fixture
def rows() -> Iterator[RowsCache]:
    assert bus().wait_until_leased(WAIT_S)
    rows = RowsCache("cages", [TAG])
    yield rows
    rows.clear()


def test_what_was_read_after_a_miss_is_kept_until_the_rows_change(rows: RowsCache) -> None:
    assert rows.get("a") is None
    assert rows.add("a", 1)
    assert not rows.add("a", 2)
    assert rows.get("a") == 1
    invalidate(Cage)
    assert rows.get("a") is None
    rows.set("a", 2)
    assert rows.get("a") == 2


def test_a_change_between_miss_and_set_is_not_lost(rows: RowsCache) -> None:
    assert rows.get("a") is None
    invalidate(Cage)
    rows.add("a", "old")
    assert rows.get("a") is None


def test_a_set_without_a_miss_only_drops(rows: RowsCache) -> None:
    """constance does that before the commit, and waffle with a row that it may have read some time ago."""
    rows.get("a")
    rows.set("a", 1)
    rows.set("a", 2)
    assert rows.get("a") is None
    rows.add("b", 1)
    assert rows.get("b") is None


def test_one_miss_is_enough_for_all_of_a_set_many(rows: RowsCache) -> None:
    """constance looks for one mark, and fills all settings."""
    rows.get("filled")
    rows.set_many({"filled": 1, "a": 1, "b": 2})
    assert rows.get_many(["a", "b"]) == {"a": 1, "b": 2}
    invalidate(Cage)
    rows.get("filled")
    invalidate(Cage)
    rows.set_many({"filled": 1, "a": "old"})
    assert rows.get_many(["filled", "a"]) == {}


def test_a_delete_is_published(rows: RowsCache) -> None:
    """An application that writes behind Django's back calls `flag.flush()`."""
    before = bus().status().published
    rows.delete_many(["a", "b"])
    assert bus().status().published == before + 1


def test_coroutines_too(rows: RowsCache) -> None:
    async def read_and_fill() -> None:
        assert await rows.aget("a") is None
        assert await rows.aadd("a", 1)
        assert await rows.aget_many(["b", "c"]) == {}
        await rows.aset_many({"b": 2, "c": 3})
        await rows.aset("b", "not missed")

    asyncio.run(read_and_fill())
    assert rows.get_many(["a", "b", "c"]) == {"a": 1, "c": 3}
