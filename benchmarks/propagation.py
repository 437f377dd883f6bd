"""
From `invalidate()` called in one process to the old value no longer served in another, against a bare PUBLISH.

How the other process tells: its `on_invalidate` callback, which runs after the ledger was stamped and the entry has
left, reads the clock first thing and then makes sure that the key is gone. So the figure is an upper bound, by
the few microseconds between stamp and callback. Looking at `cache.get` in a tight loop instead would measure the
interpreter's 5 ms switch interval: the loop holds the GIL that the listener's thread waits for.

Both processes read one clock (`now_ns`, which all processes of a host share). Ours and the bare one take turns, in an
order drawn anew each round, after the same pause, during which everybody is asleep in a system call.
"""

from __future__ import annotations

import queue
import random
import statistics
import threading
import time
from collections.abc import Callable
from multiprocessing.connection import Connection

import redis

from invalidator import Invalidation, Invalidator, NearCache
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
            return _time(reader, lambda: bus.invalidate(KEY))

        with Child(reader_process, run.url, namespace, False) as reader:
            us = _take_turns(
                run,
                {
                    "ours": lambda: ours(reader),
                    "bare": lambda: _time(subscriber, lambda: client.publish(channel, payload)),
                },
                run.rounds(2000, 150),
            )
        with Child(reader_process, run.url, namespace, True) as busy_reader:
            us |= _take_turns(run, {"busy": lambda: ours(busy_reader)}, run.rounds(200, 20))
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


def reader_process(pipe: Connection, url: str, namespace: str, is_busy: bool) -> None:
    """
    Caches a value when asked to, and tells when it became void.

    Args:
        is_busy: whether another thread keeps the interpreter busy all the time.
    """
    voided: queue.SimpleQueue[tuple[int, Invalidation, bool]] = queue.SimpleQueue()
    with Invalidator(url, namespace=namespace) as bus:
        cache = NearCache(bus, ttl=300)
        if not bus.wait_until_leased(10):
            raise RuntimeError(f"there is no lease: {bus.status()}")
        # Not earlier: the flush of the first subscription is told as well.
        bus.on_invalidate(lambda what: voided.put((now_ns(), what, KEY in cache)), keys=[KEY])
        if is_busy:
            threading.Thread(target=_compute, daemon=True).start()
        pipe.send("ready")
        with no_garbage():
            for _ in questions(pipe):
                if not cache.set(KEY, object()):
                    raise RuntimeError("the value was not stored")
                pipe.send("filled")
                at, what, still_there = voided.get()
                if still_there or what.reason != "invalidate":
                    raise RuntimeError(f"the value did not fall by its own invalidation: {what}, {still_there=}")
                pipe.send(at)


def _compute() -> None:
    while True:
        sum(number * number for number in range(1000))


def _take_turns(run: Run, measures: dict[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
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


def _time(other: Child, say: Callable[[], object]) -> float:
    """Microseconds from before *say* to the time that *other* reports."""
    other.ask()
    time.sleep(PAUSE_S)
    begun = now_ns()
    say()
    arrived: int = other.answer()
    if arrived <= begun:
        raise RuntimeError(f"it arrived {begun - arrived} ns before it was said")
    return (arrived - begun) / 1000
