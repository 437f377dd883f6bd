"""Forks, threads and event loops on a real server."""

import asyncio
import json
import os
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from invalidator import Invalidator, NearCache
from tests.support import PATIENCE_S, Thread, wait_until


@pytest.fixture
def make(redis_url: str, namespace: str) -> Iterator[Callable[..., Invalidator]]:
    made: list[Invalidator] = []

    def make(**options: Any) -> Invalidator:
        options = {"close_timeout": 1, **options}
        made.append(Invalidator(redis_url, namespace=namespace, **options))
        return made[-1]

    yield make
    for bus in made:
        bus.close()


class Child:
    """A forked process that calls *action*; `outcome` returns the result."""

    def __init__(self, action: Callable[[], Any]) -> None:
        reading, writing = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            signal.alarm(60)  # one that hangs does not outlive its test
            try:
                answer = {"answer": action()}
            except BaseException as error:  # noqa: BLE001 - `outcome` reports it
                answer = {"error": repr(error)}
            os.write(writing, json.dumps(answer).encode())
            os._exit(0)
        os.close(writing)
        self._pipe = os.fdopen(reading)

    def outcome(self) -> Any:
        with self._pipe:
            answer = json.loads(self._pipe.read())
        os.waitpid(self.pid, 0)
        assert "error" not in answer, answer
        return answer["answer"]


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
class TestFork:
    def test_parent_and_child_both_go_on_receiving(self, make) -> None:
        """A child must neither read from the parent's socket, which takes messages away, nor shut the socket down."""
        writer, bus = make(), make()
        cache, received = NearCache(bus), threading.Event()
        bus.on_invalidate(lambda it: received.set() if it.keys else None, keys=["a"])
        bus.wait_until_leased(PATIENCE_S)
        cache.set("a", "old")
        reading, writing = os.pipe()

        def child() -> Any:
            before = (cache.get("a"), bus.status().flushes)
            mine = threading.Event()
            bus.on_invalidate(lambda it: mine.set() if it.keys else None, keys=["a"])
            assert bus.wait_until_leased(PATIENCE_S)
            wait_until(lambda: bus.status().state == "live")
            os.write(writing, b"!")
            assert mine.wait(PATIENCE_S)
            return [*before, cache.get("a"), bus.status().flushes]

        process = Child(child)
        os.read(reading, 1)
        reconnects = bus.status().reconnects
        writer.invalidate("a")
        assert received.wait(PATIENCE_S)
        assert process.outcome() == ["old", 0, None, 0]
        assert cache.get("a") is None
        assert bus.status().reconnects == reconnects == 0
        os.close(reading)
        os.close(writing)

    def test_each_receives_from_the_other(self, make) -> None:
        """The child is another node: neither takes a message of the other for its own echo."""
        bus = make()
        cache = NearCache(bus)
        bus.wait_until_leased(PATIENCE_S)
        cache.set("parents", "old")

        def child() -> str:
            receipt = bus.invalidate("parents")
            return receipt.id

        received = threading.Event()
        bus.on_invalidate(lambda it: received.set() if it.keys else None, keys=["parents"])
        assert Child(child).outcome()
        assert received.wait(PATIENCE_S)
        assert cache.get("parents") is None

    def test_what_was_published_between_fork_and_listening_is_replayed(self, make) -> None:
        """The child goes on from its parent's position in the journal."""
        writer, bus = make(), make()
        cache = NearCache(bus)
        bus.wait_until_leased(PATIENCE_S)
        cache.set("a", "old")
        cache.set("b", "kept")
        reading, writing = os.pipe()

        def child() -> Any:
            os.read(reading, 1)
            bus.start()
            wait_until(lambda: bus.status().state == "live")
            return [cache.get("a"), cache.get("b"), bus.status().flushes]

        process = Child(child)
        writer.invalidate("a")
        os.write(writing, b"!")
        assert process.outcome() == [None, "kept", 0]
        os.close(reading)
        os.close(writing)

    def test_a_preloading_server(self, make) -> None:
        """A bus made before the fork and used after it, by several workers at once."""
        bus = make()
        cache = NearCache(bus)

        def worker() -> Any:
            value = cache.get_or_set("a", os.getpid)
            leased = bus.wait_until_leased(PATIENCE_S)
            accepted = bus.invalidate("b").accepted
            bus.close()
            return [value == os.getpid(), leased, accepted, bus.node]

        workers = [Child(worker) for _ in range(4)]
        answers = [worker.outcome() for worker in workers]
        assert [answer[:3] for answer in answers] == [[True, True, True]] * 4
        assert len({answer[3] for answer in answers} | {bus.node}) == 5


class TestThreads:
    def test_readers_and_writers_never_meet_an_old_value(self, make) -> None:
        """
        Each writer changes the source, then invalidates. A reader that begins after that must not get an older value.
        """
        writer, reader = make(), make()
        caches = {writer: NearCache(writer), reader: NearCache(reader)}
        for bus in caches:
            assert bus.wait_until_leased(PATIENCE_S)
        source = {"a": 0}
        floor = [0]
        problems: list[str] = []
        stop = threading.Event()

        def read() -> None:
            while not stop.is_set():
                at_least = floor[0]
                value = caches[writer].get_or_set("a", lambda: source["a"])
                if value < at_least:
                    problems.append(f"{value} after {at_least}")

        readers = [Thread(read) for _ in range(2)]
        for _ in range(50):
            source["a"] += 1
            writer.invalidate("a")
            floor[0] = source["a"]
        stop.set()
        for thread in readers:
            thread.outcome()
        assert problems == []
        wait_until(lambda: caches[reader].get_or_set("a", lambda: source["a"]) == 50)

    def test_two_processes_parts_agree_in_the_end(self, make) -> None:
        """Idle keys, too, which are not read meanwhile."""
        writer, reader = make(), make()
        cache = NearCache(reader)
        reader.wait_until_leased(PATIENCE_S)
        source = {f"k{number}": 0 for number in range(50)}
        for key in source:
            cache.get_or_set(key, lambda: 0)
        source = dict.fromkeys(source, 1)
        for key in source:
            last = writer.invalidate(key)
        wait_until(lambda: reader.status().position == last.id)
        assert {cache.get_or_set(key, lambda: 1) for key in source} == {1}


class TestAsyncio:
    def test_a_loop_invalidates_and_reads(self, make) -> None:
        bus = make()
        cache = NearCache(bus)

        async def main() -> list[Any]:
            source = {"a": 1}

            async def load() -> int:
                await asyncio.sleep(0)
                return source["a"]

            first = await asyncio.gather(*[cache.aget_or_set("a", load) for _ in range(10)])
            source["a"] = 2
            receipt = await bus.ainvalidate("a")
            second = await cache.aget_or_set("a", load)
            return [set(first), receipt.accepted, second]

        assert asyncio.run(main()) == [{1}, True, 2]
        assert cache.stats().loads == 2

    def test_several_loops_in_several_threads(self, make) -> None:
        bus = make()
        cache = NearCache(bus)
        go_on = threading.Event()
        loads = []

        async def load() -> str:
            loads.append(1)
            await asyncio.to_thread(go_on.wait)
            return "value"

        loops = [Thread(lambda: asyncio.run(cache.aget_or_set("a", load))) for _ in range(4)]
        wait_until(lambda: cache.stats().joins == 3)
        go_on.set()
        assert [loop.outcome() for loop in loops] == ["value"] * 4
        assert len(loads) == 1
