"""Values in a second level, and near copies of them here."""

import asyncio

import pytest

from django_integration import bus
from django_integration.backend import second_level, settling
from tests.support import wait_until

from ..conftest import WAIT_S, Message, Wire
from ..faulty import FaultyCache
from .conftest import GONE, KEY, NEW_VALUE


@pytest.fixture(autouse=True)
def cache(two_levels):
    return two_levels


def received(cache, key: str, since: int) -> None:
    """Wait until another server's invalidation of *key* has arrived."""
    wait_until(lambda: bus().was_invalidated([cache.key_name(key)], since=since))


def test_a_value_is_read_once_from_the_second_level(cache, second) -> None:
    second.set(KEY, {"a": 1})
    FaultyCache.calls.clear()
    assert [cache.get("k"), cache.get("k"), cache.get_many(["k"])["k"]] == [{"a": 1}] * 3
    assert FaultyCache.calls == ["get"]


def test_a_near_copy_is_treated_as_loaded_before_the_second_level_was_read(cache, second, other) -> None:
    """What was read, and changed before it could be kept, is not kept."""
    second.set(KEY, "old")
    since = bus().clock()

    def change() -> None:
        other.invalidate(KEY)
        received(cache, "k", since)

    FaultyCache.after["get"] = change
    assert cache.get("k") == "old"
    second.set(KEY, "new")
    assert cache.get("k") == "new"


def test_what_was_found_in_the_second_level_was_no_miss(cache, second, wire: Wire) -> None:
    """A `set` after it is a change."""
    second.set(KEY, "old")
    assert cache.get("k") == "old"
    cache.set("k", "new")
    assert wire.messages() == [NEW_VALUE]


def test_a_fill_publishes_nothing_and_lies_in_both_levels(cache, second, wire: Wire) -> None:
    assert cache.get("k") is None
    cache.set("k", "computed")
    assert cache.add("k", "again") is False
    assert second.get(KEY) == "computed"
    FaultyCache.calls.clear()
    assert cache.get("k") == "computed"
    assert FaultyCache.calls == []
    assert settling.settle(WAIT_S)
    assert wire.messages() == []


def test_a_fill_does_not_overwrite_what_was_written_meanwhile(cache, second) -> None:
    assert cache.get("k") is None
    second.set(KEY, "written")
    cache.set("k", "computed from before")
    assert second.get(KEY) == "written"
    assert cache.get("k") == "written"


def test_loading_takes_what_was_quicker(cache, second) -> None:
    assert cache.get_or_set("k", lambda: second.set(KEY, "quicker") or "computed") == "quicker"
    assert cache.get("k") == "quicker"


def test_a_fill_of_what_is_known_to_be_old_is_not_made(cache, second, other) -> None:
    since = bus().clock()
    assert cache.get("k") is None
    other.invalidate(KEY)
    received(cache, "k", since)
    cache.set("k", "old")
    assert second.get(KEY) is None
    assert cache.get("k") is None


@pytest.mark.parametrize(
    ("write", "published"),
    [
        (lambda cache: cache.set("k", 5), NEW_VALUE),
        (lambda cache: cache.set_many({"k": 5}), NEW_VALUE),
        (lambda cache: cache.incr("k"), NEW_VALUE),
        (lambda cache: cache.decr("k"), NEW_VALUE),
        (lambda cache: cache.touch("k", 5), NEW_VALUE),
        (lambda cache: cache.delete("k"), GONE),
        (lambda cache: cache.delete_many(["k"]), GONE),
        (lambda cache: cache.clear(), Message(tags=frozenset({"django.cache:over"}))),
    ],
)
def test_every_write_goes_to_the_second_level_and_is_published(cache, second, wire: Wire, write, published) -> None:
    cache.set("k", 1)
    cache.get("k")
    wire.messages()
    write(cache)
    assert wire.messages() == [published]
    assert cache.get("k") == second.get(KEY)


def test_coroutines_share_the_second_level(cache, second, wire: Wire) -> None:
    async def use() -> None:
        assert await cache.aget("k") is None
        await cache.aset("k", 1)
        assert await cache.aget("k") == 1
        assert await cache.aadd("k", 2) is False
        assert await cache.aget_or_set("l", lambda: 5) == 5
        assert await cache.aget_many(["k", "l"]) == {"k": 1, "l": 5}
        assert wire.messages() == []
        assert await cache.aincr("k") == 2
        assert await cache.atouch("k", 50) is True
        await cache.aset_many({"m": 1})
        assert await cache.adelete("k") is True
        await cache.adelete_many(["l"])
        assert second.get(":1:m") == 1
        await cache.aclear()

    asyncio.run(use())
    assert second.get(":1:m") is None
    assert len(wire.messages()) == 6


class TestExpiry:
    def test_a_copy_of_what_another_server_stored_lives_for_a_short_time(self, cache, second) -> None:
        """Only the second level knows when it expires."""
        second.set(KEY, 1, None)
        cache.get("k")
        entry = cache._place.near.peek(KEY)
        assert entry.expires_at - bus().clock() <= second_level.NEAR_TIMEOUT_S * 1e9

    def test_a_copy_of_what_this_process_stored_does_not_outlive_it(self, cache) -> None:
        cache.set("k", 1, timeout=3)
        cache.get("k")
        entry = cache._place.near.peek(KEY)
        assert entry.expires_at - bus().clock() <= 3e9
        cache.touch("k", 2)
        cache.get("k")
        assert cache._place.near.peek(KEY).expires_at - bus().clock() <= 2e9
