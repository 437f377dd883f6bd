"""
Reads of a worker while 20,000 invalidations a second arrive: with a sidecar, and with a listener of its own.

The worker has a core to itself; the server, the storm's publisher and the sidecar share the others. (Its own listener
is a thread of the worker, and stays with it.)
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Sequence
from itertools import cycle
from multiprocessing.connection import Connection
from typing import NamedTuple

from invalidator import Invalidator, NearCache
from invalidator.ledger import CHANGES, now_ns
from invalidator.link import Post
from invalidator.link.redis import RedisLink
from invalidator.message import bodies
from invalidator.names import redis_names
from invalidator.sidecar.daemon import DEFAULT_SLOTS

from .cores import Cores, move
from .figures import Figure, Target
from .processes import PATIENCE_S, Child, questions
from .run import Run
from .sidecar import memory, sidecar_process
from .timing import no_garbage

MESSAGES_PER_S = 20_000
AT_ONCE = 20
"""Messages in one piece: a thousand pieces a second, one each millisecond."""
STORM_NAMES = 100_000
"""Different names in the storm, none of which is read."""
JOURNAL_LENGTH = 100_000
BATCH = 100
"""Reads that are timed together."""
MANY_KEYS, FEW_KEYS = 1000, 100
TAGS = ("shop.product",)
WINDOW_S = 0.1
RISING_S = 0.02
"""Of a storm before a window: its first messages are a burst, and counted one by one."""
CALM_S = 0.05
"""After a storm: what is left of it arrives."""
STORM_HELD = 0.95
"""A window counts if the storm had so much of its rate…"""
STORM_HEARD = 0.8
"""… and the ledger's count moved so often, compared with other windows: no receiver was kept from it."""


class Window(NamedTuple):
    """
    What a worker saw for a while.

    Args:
        reads_s: reads per second of processor time that the worker used, all its threads together.
        p999_us: of the time that a batch of reads took.
        counts_s: how often per second the ledger's count of changes moved.
        storm_s: messages per second that were published meanwhile.
    """

    reads_s: float
    p999_us: float
    counts_s: float
    storm_s: float = 0.0


def measure(run: Run) -> list[Figure]:
    """Reads per second, and the tail of a batch of reads, quiet and in the storm."""
    with Cores(run.server) as cores:
        with tempfile.TemporaryDirectory(dir=memory()) as directory:
            namespace, path = run.namespace(), f"{directory}/ledger"
            with Child(sidecar_process, run.url, namespace, path, cores.others):
                many = _quiet_and_storm(run, cores, namespace, path, MANY_KEYS)
                few = _quiet_and_storm(run, cores, namespace, path, FEW_KEYS)
        own = _quiet_and_storm(run, cores, run.namespace(), None, MANY_KEYS)
    # Quiet reads are the same code everywhere. A base that something else lengthened would flatter every ratio to it.
    quiet_us = min(quiet.p999_us for quiet, _ in (many, few, own))
    many, few, own = ((quiet._replace(p999_us=quiet_us), storm) for quiet, storm in (many, few, own))
    return [
        *_figures(f"sidecar, {MANY_KEYS:,} keys", *many, Target(5, "≥", 0.95), Target(5, "≤", 2)),
        *_figures(f"sidecar, {FEW_KEYS:,} keys", *few),
        *_figures(f"own listener, {MANY_KEYS:,} keys", *own),
    ]


def _figures(
    who: str, quiet: Window, storm: Window, reads: Target | None = None, tail: Target | None = None
) -> list[Figure]:
    return [
        Figure(f"{who}: reads/s, storm ÷ quiet", storm.reads_s / quiet.reads_s, "×", target=reads),
        Figure("… p99.9 of 100 reads, storm ÷ quiet", storm.p999_us / quiet.p999_us, "×", target=tail),
        Figure("… reads/s, quiet", round(quiet.reads_s), ""),
        Figure("… reads/s, in the storm", round(storm.reads_s), "", times=storm.reads_s / quiet.reads_s),
        Figure("… p99.9 of 100 reads, quiet", quiet.p999_us, "µs"),
        Figure("… p99.9 of 100 reads, in the storm", storm.p999_us, "µs", times=storm.p999_us / quiet.p999_us),
        Figure("… messages/s in the storm, measured", round(storm.storm_s), ""),
        Figure("… times/s that the ledger's count moved", round(storm.counts_s), ""),
    ]


def _quiet_and_storm(run: Run, cores: Cores, namespace: str, ledger: str | None, keys: int) -> tuple[Window, Window]:
    """Many windows of each, which take turns."""
    rounds = run.rounds(80, 5)
    quiet: list[Window] = []
    storms: list[Window] = []
    with (
        Child(storm_process, run.url, namespace, cores.others) as storm,
        Child(worker_process, run.url, namespace, ledger, keys, cores.kept) as worker,
    ):
        for done in range(rounds):
            quiet.append(Window(*worker.ask(WINDOW_S)))
            storm.ask("begin")
            time.sleep(RISING_S)
            seen = Window(*worker.ask(WINDOW_S))
            storms.append(seen._replace(storm_s=storm.ask("end")))
            time.sleep(CALM_S)
            run.progress(done, rounds)
    return _typical(quiet), _typical(_those_that_count(storms))


def _those_that_count(storms: Sequence[Window]) -> list[Window]:
    """Those in which the storm was published, and received."""
    usual = statistics.median(window.counts_s for window in storms)
    held = [
        window
        for window in storms
        if window.storm_s >= STORM_HELD * MESSAGES_PER_S and window.counts_s >= STORM_HEARD * usual
    ]
    if not held:
        most = max(window.storm_s for window in storms)
        raise RuntimeError(f"the storm had {most:,.0f} messages/s at best, instead of {MESSAGES_PER_S:,}")
    return held


def _typical(windows: Sequence[Window]) -> Window:
    """Medians; of the tail the shortest, because what else the machine does can only make it longer."""
    return Window(
        statistics.median(window.reads_s for window in windows),
        min(window.p999_us for window in windows),
        statistics.median(window.counts_s for window in windows),
        statistics.median(window.storm_s for window in windows),
    )


def worker_process(
    pipe: Connection, url: str, namespace: str, ledger: str | None, keys: int, cores: frozenset[int]
) -> None:
    """Reads as fast as it can, for as many seconds as it is asked for."""
    move(cores)
    names = [f"product:{number}" for number in range(keys)]
    batches = [names[start : start + BATCH] for start in range(0, keys, BATCH)]
    with Invalidator(url, namespace=namespace, sidecar=ledger, slots=DEFAULT_SLOTS) as bus:
        cache = NearCache(bus, ttl=300)
        if not bus.wait_until_leased(10):
            raise RuntimeError(f"there is no lease: {bus.status()}")
        for name in names:
            cache.set(name, object(), tags=TAGS)
        pipe.send("ready")
        with no_garbage():
            for window_s in questions(pipe):
                counted, used_ns, begun = bus.hit_words[CHANGES], time.process_time_ns(), now_ns()
                took = sorted(_read(cache, batches, begun + int(window_s * 1e9)))
                elapsed_s, used_s = sum(took) / 1e9, (time.process_time_ns() - used_ns) / 1e9
                counted = bus.hit_words[CHANGES] - counted
                p999_us = took[int(len(took) * 0.999)] / 1000
                pipe.send((len(took) * BATCH / used_s, p999_us, counted / elapsed_s))


def _read(cache: NearCache, batches: Sequence[Sequence[str]], until: int) -> list[int]:
    """
    Nanoseconds that each batch took, one after the other. What was voided (its slot is that of a name of the storm) is
    filled again.
    """
    get, clock = cache.get, now_ns
    times = []
    begun = clock()
    for batch in cycle(batches):
        for key in batch:
            if get(key) is None:
                cache.set(key, object(), tags=TAGS)
        ended = clock()
        times.append(ended - begun)
        begun = ended
        if ended >= until:
            break
    return times


def storm_process(pipe: Connection, url: str, namespace: str, cores: frozenset[int]) -> None:
    """From "begin" to "end" publishes `AT_ONCE` messages of one name in one piece, at even times."""
    move(cores)
    link, names = RedisLink(url, timeout_s=PATIENCE_S), redis_names(namespace)
    messages = [bodies("0123456789ab", [f"storm:{number}"], [])[0] for number in range(STORM_NAMES)]
    posts = cycle([Post(messages[start : start + AT_ONCE]) for start in range(0, STORM_NAMES, AT_ONCE)])
    step_ns = AT_ONCE * 1_000_000_000 // MESSAGES_PER_S
    pipe.send("ready")
    with no_garbage():
        for _ in questions(pipe):
            pipe.send("begun")
            begun, pieces = now_ns(), 0
            while not pipe.poll(0):
                link.publish(names, JOURNAL_LENGTH, next(posts))
                pieces += 1
                early_ns = begun + pieces * step_ns - now_ns()
                if early_ns > 0:
                    time.sleep(early_ns / 1e9)
            elapsed_s = (now_ns() - begun) / 1e9
            pipe.recv()
            pipe.send(pieces * AT_ONCE / elapsed_s)
    link.close()
