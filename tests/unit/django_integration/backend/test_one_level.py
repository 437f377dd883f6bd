"""Values in the memory of each process, and nowhere else."""

import asyncio
import threading

import pytest
from django.core.cache import caches

from tests.support import Thread, wait_until

from ..conftest import WAIT_S, Message, Wire


@pytest.fixture(autouse=True)
def cache(one_level):
    return one_level


def keys(*names: str) -> Message:
    return Message(keys=frozenset(f":1:{name}" for name in names))


class TestAWriteIsPublished:
    def test_a_set_without_a_miss_survives_here_and_is_published(self, cache, wire: Wire) -> None:
        cache.set("a", 1)
        assert wire.message() == keys("a")
        assert cache.get("a") == 1

    def test_many_leave_as_one_message(self, cache, wire: Wire) -> None:
        cache.set_many({"a": 1, "b": 2})
        assert wire.message() == keys("a", "b")
        cache.delete_many(["a", "b"])
        assert wire.message() == keys("a", "b")

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

    def test_what_did_nothing_publishes_nothing(self, cache, wire: Wire) -> None:
        cache.set("a", 1)
        wire.messages()
        assert cache.touch("absent") is False
        assert cache.add("a", 2) is False
        with pytest.raises(ValueError, match="absent"):
            cache.incr("absent")
        assert cache.set_many({}) == []
        cache.delete_many([])
        assert wire.messages() == []


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
