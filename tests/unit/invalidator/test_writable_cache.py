"""Fills and changes distinguished: a new value here, and every other process drops the old one."""

import asyncio
import contextlib
import threading
from typing import Any

import pytest

from invalidator.errors import PublishError
from invalidator.loaded import DEFAULT
from invalidator.writable_cache import WritableCache
from tests.support import Thread


def never() -> None:
    raise AssertionError("this must not be loaded")


@pytest.fixture
def kind() -> type[WritableCache]:
    return WritableCache


class TestChanges:
    def test_a_replaced_value_survives_here_and_is_published_for_the_others(self, it) -> None:
        it.cache.set("a", "old")
        change = it.cache.replace({"a": "new", "b": "new"})
        assert it.cache.get_many(["a", "b"]) == {"a": "new", "b": "new"}
        assert it.link.published == []
        change.publish()
        assert it.link.names_published == ["a", "b"]
        assert len(it.link.published) == 1
        assert it.cache.get_many(["a", "b"]) == {"a": "new", "b": "new"}

    def test_what_another_server_publishes_later_voids_it(self, it) -> None:
        it.cache.replace({"a": "new"}).publish()
        it.receive("a")
        assert it.cache.get("a") is None

    def test_what_was_being_loaded_meanwhile_is_not_stored_over_it(self, it) -> None:
        def load() -> str:
            it.clock.advance(0.001)
            it.cache.replace({"a": "new"}).publish()
            return "old"

        assert it.cache.get_or_set("a", load) == "old"
        assert it.cache.get("a") == "new"

    def test_a_lagging_replica_has_nothing_to_do_with_it(self, make) -> None:
        """It was not read from there: it need not wait until the replica has caught up."""
        it = make(bus={"replica_lag": 1.0})
        it.cache.replace({"a": "new"}).publish()
        assert it.cache.get("a") == "new"
        it.receive("a")
        assert it.cache.get("a") is None

    def test_a_change_that_cannot_be_published_keeps_nothing(self, make) -> None:
        it = make(bus={"publish": "raise"})
        it.link.down = True
        with pytest.raises(PublishError):
            it.cache.replace({"a": "new"}).publish()
        assert it.cache.get("a") is None

    def test_coroutines_publish_too(self, it) -> None:
        async def main() -> None:
            await it.cache.replace({"a": "new"}).apublish()

        asyncio.run(main())
        assert it.link.names_published == ["a"]
        assert it.cache.get("a") == "new"

    def test_a_value_in_doubt_is_published_and_kept_if_nothing_happened(self, it) -> None:
        since = it.clock()
        it.clock.advance(1)
        it.prove()
        it.cache.replace({"a": "kept"}, since={"a": since}).publish()
        assert it.cache.get("a") == "kept"
        it.receive("a")
        it.cache.replace({"a": "old"}, since={"a": since}).publish()
        assert it.cache.get("a") is None
        assert it.link.names_published == ["a", "a"]

    def test_a_ttl_of_zero_is_published_and_not_kept(self, it) -> None:
        it.cache.set("a", "old")
        it.cache.replace({"a": "new"}, ttl=0).publish()
        assert it.cache.get("a") is None
        assert it.link.names_published == ["a"]

    def test_claiming_a_miss(self, it) -> None:
        missed_at = it.clock()
        it.cache.get("a")
        it.clock.advance(5)
        assert it.cache.claim_miss("a", within=5) == (True, missed_at)
        it.cache.get("a")
        it.cache.forget_misses()
        assert it.cache.claim_miss("a", within=5) == (False, it.clock())


class TestAdding:
    def test_only_what_is_absent_is_added(self, it) -> None:
        now = it.clock()
        assert it.cache.fill_if_absent("a", 1, loaded_at=now) is True
        assert it.cache.fill_if_absent("a", 2, loaded_at=now) is False
        assert it.cache.replace_if_absent("a", 2) is None
        assert it.cache.get("a") == 1
        assert it.link.published == []

    def test_what_may_not_be_served_is_absent(self, it) -> None:
        it.cache.set("a", 1)
        it.receive("a")
        it.cache.replace_if_absent("a", 2).publish()
        assert it.cache.get("a") == 2
        assert it.link.names_published == ["a"]

    def test_a_fill_that_was_invalidated_meanwhile_is_not_added(self, it) -> None:
        now = it.clock()
        it.receive("a")
        assert it.cache.fill_if_absent("a", 1, loaded_at=now) is False
        assert it.cache.get("a") is None

    def test_of_many_threads_one_adds(self, it) -> None:
        """Whoever looks and then stores lets two in."""
        by_key, together = it.cache._by_key, threading.Barrier(4)

        class Slow(dict[str, Any]):
            def __missing__(self, key: str) -> Any:
                if key not in by_key:
                    with contextlib.suppress(threading.BrokenBarrierError):
                        together.wait(5)
                return by_key[key]

        it.cache._by_key = Slow()
        threads = [Thread(lambda: it.cache.fill_if_absent("a", 1, loaded_at=it.clock())) for _ in range(4)]
        assert sorted(thread.outcome() for thread in threads) == [False, False, False, True]


class TestAnUpdateWhileSomebodyLooks:
    """Seen: a counter that was "not found", because another thread had just counted."""

    @pytest.fixture
    def overtaken(self, it, monkeypatch) -> None:
        """A reader of the entry "a" is overtaken by another thread's update."""
        it.cache.set("a", 1)
        check = it.cache._rule.check

        def slow(entry: Any) -> Any:
            monkeypatch.setattr(it.cache._rule, "check", check)
            it.clock.advance(0.001)
            it.cache.replace({"a": 2}).publish()
            return check(entry)

        monkeypatch.setattr(it.cache._rule, "check", slow)

    @pytest.mark.usefixtures("overtaken")
    @pytest.mark.parametrize(
        "look",
        [
            lambda cache: cache.get("a"),
            lambda cache: cache.get_many(["a"])["a"],
            lambda cache: cache.peek("a").value,
            lambda cache: cache.get_entry("a").value,
            lambda cache: cache.get_or_set("a", never),
            lambda cache: cache.update("a", lambda value: value)[0],
        ],
        ids=["get", "get_many", "peek", "get_entry", "get_or_set", "update"],
    )
    def test_the_new_value_is_found(self, it, look) -> None:
        assert look(it.cache) == 2
        assert it.cache.stats().misses == 0

    @pytest.mark.usefixtures("overtaken")
    def test_a_value_is_not_added_beside_it(self, it) -> None:
        assert it.cache.fill_if_absent("a", 3, loaded_at=it.clock()) is False
        assert it.cache.get("a") == 2


class TestUpdating:
    def test_a_value_is_replaced_by_what_is_made_of_it(self, it) -> None:
        it.cache.set("a", 1, tags=["t"], ttl=10)
        value, change = it.cache.update("a", lambda value: value + 1)
        change.publish()
        assert (value, it.cache.get("a")) == (2, 2)
        assert it.link.names_published == ["a"]
        entry = it.cache.peek("a")
        assert entry.tags == ("t",)
        it.clock.advance(10)
        it.prove()
        assert it.cache.get("a") is None, "its time had not begun anew"

    @pytest.mark.parametrize(("ttl", "there"), [(DEFAULT, False), (20, True), (None, True)])
    def test_an_update_may_set_the_ttl(self, it, ttl, there) -> None:
        it.cache.set("a", 1, ttl=10)
        it.cache.update("a", lambda value: value, ttl=ttl)[1].publish()
        it.clock.advance(15)
        it.prove()
        assert ("a" in it.cache) == there

    def test_a_change_says_what_it_has_made_and_of_what(self, it) -> None:
        it.cache.set("a", 1)
        before = it.cache.peek("a")
        _, change = it.cache.update("a", lambda value: value + 1)
        assert change.updated is before
        assert change.entries == {"a": it.cache.peek("a")}
        assert it.cache.replace({"a": 3}).updated is None

    def test_nothing_cannot_be_updated(self, it) -> None:
        with pytest.raises(KeyError):
            it.cache.update("a", lambda value: value)
        assert it.link.published == []

    def test_no_update_is_lost(self, it) -> None:
        """Another thread came in between: what it stored is what is updated."""
        it.cache.set("a", 1)
        seen: list[int] = []

        def change(value: int) -> int:
            seen.append(value)
            if len(seen) == 1:
                it.cache.update("a", lambda value: value + 10)[1].publish()
            return value + 1

        it.clock.advance(0.001)
        value, _ = it.cache.update("a", change)
        assert (value, seen) == (12, [1, 11])


def test_an_entry_is_known_to_be_invalidated_whether_or_not_it_has_left(it) -> None:
    it.cache.set("a", 1)
    entry = it.cache.peek("a")
    it.cache.evict("a")
    assert not it.cache.is_invalidated(entry)
    it.receive("a")
    assert it.cache.is_invalidated(entry)


def test_an_entry_is_not_renewed_over_another(it) -> None:
    """Its echo has voided it, and somebody has loaded it anew since."""
    change = it.cache.replace({"a": "new"})
    it.clock.advance(0.001)
    it.cache.set("a", "loaded since")
    it.cache.renew(change.entries, it.clock())
    assert it.cache.get("a") == "loaded since"


def test_making_room_lets_leave_what_was_not_used(it) -> None:
    it.cache.set_many({str(number): number for number in range(6)})
    it.cache.get_many(["0", "2"])
    assert it.cache.make_room(2) == 2
    assert [key for key, _, cause in it.evicted if cause == "room"] == ["1", "3"]
    assert it.cache.make_room(99) == 4
    assert len(it.cache) == 0
