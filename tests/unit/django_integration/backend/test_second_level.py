"""Values in a second level, near copies of them here: the rules of `l2.py`, one by one, in one process."""

import asyncio
import logging
import threading
from collections.abc import Iterator

import pytest
from django.core.cache import caches
from django.core.exceptions import ImproperlyConfigured
from django.test import override_settings

from django_integration import bus, invalidate
from django_integration.backend import second_level, settling
from invalidator import Invalidator
from tests.support import wait_until

from ..conftest import WAIT_S, Message, Wire
from ..faulty import FaultyCache

OURS = "django_integration.backend.NearCacheBackend"
CACHES = {
    "default": {"BACKEND": OURS, "LOCATION": "over", "OPTIONS": {"L2": "l2"}},
    "l2": {"BACKEND": "tests.unit.django_integration.faulty.FaultyCache", "LOCATION": "l2"},
}
KEY = ":1:k"
COPIES = Message(tags=frozenset({"copy::1:k"}))
GONE = Message(keys=frozenset({KEY}))


@pytest.fixture(autouse=True)
def over() -> Iterator[None]:
    """An empty second level that works, and a lease."""
    # A fill is settled with the next proof: four come in one bound.
    with override_settings(CACHES=CACHES, INVALIDATOR={"URL": "memory://", "NAMESPACE": "l2", "MAX_STALENESS": 3}):
        assert bus().wait_until_leased(WAIT_S)
        FaultyCache.down = False
        FaultyCache.after.clear()
        caches["default"].clear()
        FaultyCache.calls.clear()
        yield
        FaultyCache.down = False
        assert settling.settle(WAIT_S)


@pytest.fixture
def cache(over: None):
    return caches["default"]


@pytest.fixture
def second(over: None):
    """The second level itself."""
    return caches["l2"]


@pytest.fixture
def other(over: None) -> Iterator[Invalidator]:
    """Another server."""
    with Invalidator("memory://", namespace=bus().namespace) as other:
        assert other.wait_until_leased(WAIT_S)
        yield other


def heard(cache, key: str, since: int) -> None:
    """Wait until what another server said of *key* has arrived."""
    wait_until(lambda: bus().was_invalidated([cache.key_name(key)], since=since))


def status() -> second_level.L2Status:
    return next(status for status in second_level.statuses() if status.alias == "l2")


def test_a_value_is_read_once_from_the_second_level(cache, second) -> None:
    second.set(KEY, {"a": 1})
    FaultyCache.calls.clear()
    assert [cache.get("k"), cache.get("k"), cache.get_many(["k"])["k"]] == [{"a": 1}] * 3
    assert FaultyCache.calls == ["get"]


def test_a_near_copy_counts_from_before_the_second_level_was_read(cache, second, other) -> None:
    """What was read, and changed before it could be kept, is not kept."""
    second.set(KEY, "old")
    since = bus().clock()

    def change() -> None:
        other.invalidate(KEY)
        heard(cache, "k", since)

    FaultyCache.after["get"] = change
    assert cache.get("k") == "old"
    second.set(KEY, "new")
    assert cache.get("k") == "new"


def test_what_was_found_in_the_second_level_was_no_miss(cache, second, wire: Wire) -> None:
    """A `set` after it is a change."""
    second.set(KEY, "old")
    assert cache.get("k") == "old"
    cache.set("k", "new")
    assert wire.messages() == [COPIES]


def test_a_fill_is_quiet_and_lies_in_both_levels(cache, second, wire: Wire) -> None:
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
    heard(cache, "k", since)
    cache.set("k", "old")
    assert second.get(KEY) is None
    assert cache.get("k") is None


def test_a_fill_that_came_after_the_delete_is_taken_back(cache, second, other, wire: Wire) -> None:
    """The other server deletes and tells while ours is on its way; who read ours meanwhile, hears of it again."""
    taken_back = status().taken_back
    assert cache.get("k") is None
    FaultyCache.after["add"] = lambda: other.invalidate(KEY)
    cache.set("k", "old")
    assert settling.settle(WAIT_S)
    assert second.get(KEY) is None
    assert cache.get("k") is None
    assert status().taken_back == taken_back + 1
    assert wire.messages() == [GONE, GONE]


@pytest.mark.parametrize("how", ["delete", "delete_many", "invalidate"])
def test_what_came_between_delete_and_telling_is_found_by_looking_again(
    cache, second, wire: Wire, how, monkeypatch
) -> None:
    """The other server's fill had just read the source before our change; our telling comes too late for its proof."""
    monkeypatch.setattr(second_level, "GRACE_NS", 0)
    monkeypatch.setattr(settling, "GRACE_NS", 0)
    cache.set("k", "old")
    wire.messages()
    FaultyCache.after["delete"] = lambda: second.set(KEY, "old again")
    {
        "delete": lambda: cache.delete("k"),
        "delete_many": lambda: cache.delete_many(["k"]),
        "invalidate": lambda: invalidate(cache.key_name("k")),
    }[how]()
    assert settling.settle(WAIT_S)
    assert second.get(KEY) is None
    assert wire.messages() == [GONE, GONE]


@pytest.mark.parametrize(
    ("write", "said"),
    [
        (lambda cache: cache.set("k", 5), COPIES),
        (lambda cache: cache.set_many({"k": 5}), COPIES),
        (lambda cache: cache.incr("k"), COPIES),
        (lambda cache: cache.decr("k"), COPIES),
        (lambda cache: cache.touch("k", 5), COPIES),
        (lambda cache: cache.delete("k"), GONE),
        (lambda cache: cache.delete_many(["k"]), GONE),
        (lambda cache: cache.clear(), Message(tags=frozenset({"django.cache:over"}))),
    ],
)
def test_every_write_goes_to_the_second_level_and_is_told(cache, second, wire: Wire, write, said) -> None:
    cache.set("k", 1)
    cache.get("k")
    wire.messages()
    write(cache)
    assert wire.messages() == [said]
    assert cache.get("k") == second.get(KEY)


@pytest.mark.parametrize(
    ("old", "new"), [(4, 5), ("old", "new"), ({"a": 1}, {"a": 2}), ([1], [1, 2]), ({"a": 1}, {"a": [3]}), (None, 0)]
)
def test_what_is_written_after_a_delete_is_not_lost(cache, second, old, new) -> None:
    """A fill that was deleted is still being watched; what lies there now is not that fill."""
    for turn in range(2):
        assert cache.get_or_set("k", old) == old
        cache.delete("k")
        cache.set("k", new)
        if turn == 1:
            cache.delete("k")
            assert cache.add("k", new) is True
        assert settling.settle(WAIT_S)
        assert second.get(KEY) == new
        assert cache.get("k") == new
        cache.delete("k")


@pytest.mark.parametrize(
    ("one", "other", "differ"),
    [
        (1, 2, True),
        ("a", "b", True),
        ({"a": 1}, {"a": 2}, True),
        ({"a": 1}, {}, True),
        ([1], [1, 2], True),
        ([1, {"a": [2]}], [1, {"a": [3]}], True),
        (1, 1, False),
        ((1, 2), [1, 2], False),  # as JSON has it
        ({1: "a"}, {"1": "a"}, False),
        (1, "1", False),
        ({}, [], True),
        (None, 0, True),
        (float("nan"), float("nan"), False),
        (object(), object(), False),
    ],
)
def test_only_what_cannot_be_the_same_differs_surely(one, other, differ) -> None:
    """In doubt a fill is taken back: a cold cache is slow, a stale one is wrong."""
    assert settling.surely_differ(one, other) is differ


def test_a_new_value_does_not_take_fills_back(cache, second) -> None:
    """It is in the second level: only the copies of the old one are stale."""
    taken_back = status().taken_back
    assert cache.get_or_set("k", 0) == 0
    for _ in range(5):
        cache.incr("k")
    assert settling.settle(WAIT_S)
    assert second.get(KEY) == 5
    assert cache.get("k") == 5
    assert status().taken_back == taken_back


def test_what_is_invalidated_leaves_the_second_level_before_anybody_is_told(cache, second) -> None:
    second.set(KEY, "old")
    order: list[object] = []
    end = bus().on_invalidate(lambda said: order.append(second.get(KEY)), keys=[KEY])
    invalidate(cache.key_name("k"))
    wait_until(lambda: order)
    end()
    assert order == [None]


def test_a_hold_that_is_released_empties_the_second_level_first(cache, second) -> None:
    """The message of a strict write is that of its release."""
    hold = bus().hold(KEY)
    second.set(KEY, "old")
    hold.release()
    assert second.get(KEY) is None
    assert cache.get("k") is None


def test_what_coroutines_invalidate_leaves_the_second_level_too(cache, second) -> None:
    second.set(KEY, "old")
    assert cache.get("k") == "old"
    asyncio.run(bus().ainvalidate(KEY))
    assert second.get(KEY) is None
    assert cache.get("k") is None


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


def test_a_clear_of_everything_empties_the_second_level(cache, second) -> None:
    second.set(KEY, "old")
    bus().clear()
    assert second.get(KEY) is None


class TestAnOutage:
    def test_near_copies_are_served_and_misses_are_computed(self, cache, second, wire, caplog) -> None:
        cache.set("k", 1)
        cache.get("k")
        wire.messages()
        FaultyCache.down = True
        with caplog.at_level(logging.WARNING):
            assert cache.get("k") == 1
            assert cache.get("absent", 7) == 7
            assert cache.get_or_set("loaded", lambda: 2) == 2
            assert cache.get_or_set("loaded", lambda: 3) == 2
            assert cache.get_many(["k", "absent"]) == {"k": 1}
            cache.set("absent", 8)  # follows a miss
            assert cache.get("absent") == 8
            assert (status().reachable, status().errors > 0) == (False, True)
            FaultyCache.down = False
            assert cache.get("another") is None
        assert status().reachable
        events = [record.getMessage().split()[0] for record in caplog.records]
        assert events == ["second_level_down", "second_level_up"], "once, however many operations failed"
        assert wire.messages() == []

    @pytest.mark.parametrize(
        "write",
        [lambda cache: cache.set("k", 2), lambda cache: cache.delete("k"), lambda cache: cache.delete_many(["k"])],
    )
    def test_a_write_that_fails_is_told_and_its_delete_made_up_for(self, cache, second, wire, write) -> None:
        cache.set("k", "old")
        cache.get("k")
        wire.messages()
        FaultyCache.down = True
        with pytest.raises(ConnectionError):
            write(cache)
        assert GONE in wire.messages()
        assert cache.get("k") is None
        FaultyCache.down = False
        assert settling.settle(WAIT_S)
        assert second.get(KEY) is None
        assert GONE in wire.messages(), "somebody may have read the old value meanwhile"

    @pytest.mark.parametrize(
        "write",
        [lambda cache: cache.add("k", 2), lambda cache: cache.incr("k"), lambda cache: cache.touch("k", 2)],
    )
    def test_what_has_to_be_answered_by_it_fails(self, cache, second, write) -> None:
        second.set(KEY, 1)
        FaultyCache.down = True
        with pytest.raises(ConnectionError):
            write(cache)
        FaultyCache.down = False
        assert second.get(KEY) == 1

    def test_an_invalidation_never_fails_for_it(self, cache, second) -> None:
        """The data is committed."""
        second.set(KEY, "old")
        FaultyCache.down = True
        invalidate(cache.key_name("k"))
        FaultyCache.down = False
        assert settling.settle(WAIT_S)
        assert second.get(KEY) is None


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

    def test_the_memory_of_it_is_bounded(self, cache, monkeypatch) -> None:
        monkeypatch.setattr(second_level, "MOST_PENDING", 3)
        for number in range(9):
            cache.set(f"k{number}", 1)
        assert len(cache.second_level._expires_at) == 3


@pytest.mark.parametrize(
    "options", [{"L2": "nowhere"}, {"L2": "l2", "NEAR_TIMEOUT": 0}, {"L2": "l2", "NEAR_TIMEOUT": "5"}]
)
def test_options_that_cannot_work_are_refused(options) -> None:
    wrong = {**CACHES, "wrong": {"BACKEND": OURS, "OPTIONS": options}}
    with override_settings(CACHES=wrong), pytest.raises(ImproperlyConfigured, match="OPTIONS"):
        caches["wrong"]


def test_nothing_of_it_outlives_its_work(cache) -> None:
    """No thread waits for ever."""
    cache.get("k")
    cache.set("k", 1)
    assert settling.settle(WAIT_S)
    assert sum(thread.name == "invalidator-l2" for thread in threading.enumerate()) <= 1
