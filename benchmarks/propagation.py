"""
From `invalidate()` called in one process to the old value no longer served in another, against a bare PUBLISH.

How the other process reports: its cache's `drop`, which the listener calls right after it has stamped the ledger, reads
the clock first thing and then makes sure that a read would refuse the value. So the figure is an upper bound, by about
a microsecond. (`on_evict` and `on_invalidate` come a little later, when the entry has left.) Looking at `cache.get` in
a tight loop instead would measure the interpreter's 5 ms switch interval: the loop holds the GIL that the listener's
thread waits for.

Both processes read one clock (`now_ns`, which all processes of a host share). Ours and the bare one take turns, in an
order drawn for each round, after the same pause, during which everybody is asleep in a system call.
"""

from __future__ import annotations

import queue
import random
import statistics
import threading
import time
from collections.abc import Callable, Iterable
from multiprocessing.connection import Connection
from typing import Any

import redis

from invalidator import Invalidator, NearCache
from invalidator.ledger import now_ns

from .figures import Figure, Target
from .peers import bare_subscriber
from .processes import Child, questions
from .run import Run
from .timing import no_garbage, percentile

KEY = "product:42"
PAUSE_S = 0.002
WARM_UP = 20


def measure(run: Run) -> list[Figure]:
    """Median and tail of both, their ratio, and the same in a process whose interpreter is busy."""
    namespace, channel = run.namespace(), "bench:bare"
    with (
        Invalidator(run.url, namespace=namespace) as bus,
        redis.Redis.from_url(run.url) as client,
        Child(bare_subscriber, run.url, [channel], True) as subscriber,
    ):
        payload = b"1700000000000-0 1700000000000-0 " + b'{"v":1,"node":"0123456789ab","keys":["product:42"]}'

        def ours(reader: Child) -> float:
            return time_of_arrival(reader, lambda: bus.invalidate(KEY))

        with Child(reader_process, run.url, namespace, False) as reader:
            us = take_turns(
                run,
                {
                    "ours": lambda: ours(reader),
                    "bare": lambda: time_of_arrival(subscriber, lambda: client.publish(channel, payload)),
                },
                run.rounds(2000, 150),
            )
        with Child(reader_process, run.url, namespace, True) as busy_reader:
            us |= take_turns(run, {"busy": lambda: ours(busy_reader)}, run.rounds(200, 20))
    bare = statistics.median(us["bare"])

    def figure(what: str, name: str, percent: int) -> Figure:
        value = percentile(us[name], percent)
        return Figure(f"{what}: p{percent}", value, "µs", times=value / bare)

    return [
        Figure(
            "void elsewhere ÷ bare message, p50", statistics.median(us["ours"]) / bare, "×", None, Target(3, "≤", 1.5)
        ),
        *(figure("bare PUBLISH to redis-py subscriber", "bare", percent) for percent in (50, 90, 99)),
        *(figure("invalidate() to old value void", "ours", percent) for percent in (50, 90, 99)),
        figure("… while a thread there computes (GIL)", "busy", 50),
        figure("… while a thread there computes (GIL)", "busy", 99),
    ]


class TellingCache(NearCache):
    """Remembers when KEY was void, and whether it was still served then."""

    def __init__(self, bus: Invalidator, **options: Any) -> None:
        super().__init__(bus, **options)
        self.voided: queue.SimpleQueue[tuple[int, bool]] = queue.SimpleQueue()

    def evict_invalidated(self, keys: Iterable[str], loaded_before: int) -> None:
        """Called by the bus, after the ledger was stamped."""
        at = now_ns()
        self.voided.put((at, KEY in self))
        super().evict_invalidated(keys, loaded_before)


def reader_process(pipe: Connection, url: str, namespace: str, is_busy: bool) -> None:
    """
    Caches a value when asked to, and reports when it became void.

    Args:
        is_busy: whether another thread keeps the interpreter busy all the time.
    """
    with Invalidator(url, namespace=namespace) as bus:
        cache = TellingCache(bus, ttl=300)
        if not bus.wait_until_leased(10):
            raise RuntimeError(f"there is no lease: {bus.status()}")
        if is_busy:
            threading.Thread(target=_compute, daemon=True).start()
        pipe.send("ready")
        with no_garbage():
            for _ in questions(pipe):
                if not cache.set(KEY, object()):
                    raise RuntimeError("the value was not stored")
                pipe.send("filled")
                at, is_served = cache.voided.get()
                if is_served:
                    raise RuntimeError("the time was taken before the value was void")
                pipe.send(at)


def _compute() -> None:
    while True:
        sum(number * number for number in range(1000))


def take_turns(run: Run, measures: dict[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    """What each of *measures* returned, in *rounds* rounds, each in an order drawn for each round."""
    times: dict[str, list[float]] = {name: [] for name in measures}
    order = list(measures.items())
    with no_garbage():
        for done in range(-WARM_UP, rounds):
            random.shuffle(order)
            for name, take in order:
                took = take()
                if done >= 0:
                    times[name].append(took)
            run.progress(max(done, 0), rounds)
    return times


def time_of_arrival(other: Child, publish: Callable[[], object]) -> float:
    """Microseconds from before *publish* to the time that *other* reports."""
    other.ask()
    time.sleep(PAUSE_S)
    begun = now_ns()
    publish()
    arrived: int = other.answer()
    if arrived <= begun:
        raise RuntimeError(f"it arrived {begun - arrived} ns before it was published")
    return (arrived - begun) / 1000
