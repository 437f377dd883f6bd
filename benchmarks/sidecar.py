"""
The sidecar itself: how soon it voids, how much it applies, and what it spares Redis.

`storm.py` has what it spares the workers.
"""

from __future__ import annotations

import contextlib
import os
import queue
import random
import signal
import statistics
import tempfile
import time
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import redis

from invalidator import Invalidator, NearCache
from invalidator.config import Config
from invalidator.entry import Entry, ValidityRule
from invalidator.ledger import LedgerView, now_ns
from invalidator.ledger.file import LedgerFile
from invalidator.link import Post
from invalidator.link.redis import RedisLink
from invalidator.message import Body, bodies, decode
from invalidator.names import key_slot, redis_names
from invalidator.sidecar.daemon import DEFAULT_SLOTS, ServedNamespace

from .cores import move
from .figures import Figure, Target
from .peers import bare_subscriber
from .processes import PATIENCE_S, Child, questions
from .propagation import KEY, take_turns, time_of_arrival
from .run import Run
from .timing import no_garbage, percentile

JOURNAL_LENGTH = 100_000
NAMES_PER_MESSAGE = (1, 10, 100, 500)
NAMES = 20_000
"""What a sidecar is given to apply. In the messages of one name each they make 2 MB: no subscriber's buffer is full."""
AT_ONCE = 50
"""Messages that are published in one piece."""
WORKERS = 16
CALLS = 100
NOISE = 0.1
"""Two medians of one server's processor time differ by so much on a machine that does other work."""
POLL_S = 0.01


def memory() -> str | None:
    """A directory in memory, if there is one."""
    return "/dev/shm" if Path("/dev/shm").is_dir() else None


@contextlib.contextmanager
def _sidecar(run: Run, main: Any) -> Iterator[tuple[str, Path, Child]]:
    """A sidecar process: its namespace, the path of its ledger, and itself."""
    with tempfile.TemporaryDirectory(dir=memory()) as directory:
        namespace, path = run.namespace(), Path(directory, "ledger")
        with Child(main, run.url, namespace, str(path)) as child:
            yield namespace, path, child


def sidecar_process(pipe: Connection, url: str, namespace: str, path: str, cores: frozenset[int] = frozenset()) -> None:
    """A sidecar of one namespace. Reports its process id when asked."""
    move(cores)
    served = _started(ServedNamespace(url, Config(namespace=namespace, slots=DEFAULT_SLOTS), Path(path)))
    pipe.send("ready")
    for _ in questions(pipe):
        pipe.send(os.getpid())
    served.close()


def _started(served: ServedNamespace) -> ServedNamespace:
    served.start()
    if not served.wait_until_leased(10):
        raise RuntimeError(f"there is no lease: {served.health()}")
    return served


# How soon it voids.


class SendingNamespace(ServedNamespace):
    """Remembers when a message was in force: stored, and counted."""

    def __init__(self, url: str, config: Config, path: Path) -> None:
        super().__init__(url, config, path)
        self.applied: queue.SimpleQueue[int] = queue.SimpleQueue()

    def invalidated(self, body: Body, id: str, now: int) -> None:
        """Called by the listener, after everything was stored."""
        self.applied.put(now_ns())
        super().invalidated(body, id, now)


def telling_sidecar_process(pipe: Connection, url: str, namespace: str, path: str) -> None:
    """A sidecar that is asked before each message, and reports when that was in force."""
    served = SendingNamespace(url, Config(namespace=namespace, slots=DEFAULT_SLOTS), Path(path))
    _started(served)
    pipe.send("ready")
    with no_garbage():
        for _ in questions(pipe):
            pipe.send("listening")
            pipe.send(served.applied.get())
    served.close()


def measure_void(run: Run) -> list[Figure]:
    """From `invalidate()` to what every worker of the host sees, against a bare PUBLISH."""
    channel = "bench:bare"
    payload = b"1700000000000-0 1700000000000-0 " + b'{"v":1,"node":"0123456789ab","keys":["product:42"]}'
    with (
        _sidecar(run, telling_sidecar_process) as (namespace, path, sidecar),
        Invalidator(run.url, namespace=namespace) as bus,
        redis.Redis.from_url(run.url) as client,
        Child(bare_subscriber, run.url, [channel], True) as subscriber,
    ):
        view = LedgerFile(path, namespace=namespace).view
        rule = ValidityRule(view, now_ns, max_staleness_ns=bus.config.max_staleness_ns)
        slot = key_slot(KEY, view.slots)

        def ours() -> float:
            entry = Entry(None, loaded_at=now_ns(), slots=(slot,))
            if rule.check(entry) != "valid":
                raise RuntimeError("the value was void before")
            took_us = time_of_arrival(sidecar, lambda: bus.invalidate(KEY))
            if rule.check(entry) != "invalidated":
                raise RuntimeError("the value is not void")
            return took_us

        us = take_turns(
            run,
            {"ours": ours, "bare": lambda: time_of_arrival(subscriber, lambda: client.publish(channel, payload))},
            run.rounds(2000, 150),
        )
    bare = statistics.median(us["bare"])

    def figure(what: str, name: str, percent: int) -> Figure:
        value = percentile(us[name], percent)
        return Figure(f"{what}: p{percent}", value, "µs", times=value / bare)

    return [
        Figure(
            "void on the host ÷ bare message, p50",
            statistics.median(us["ours"]) / bare,
            "×",
            target=Target(5, "≤", 1.5),
        ),
        *(figure("bare PUBLISH to redis-py subscriber", "bare", percent) for percent in (50, 90, 99)),
        *(figure("invalidate() to void for all workers", "ours", percent) for percent in (50, 90, 99)),
    ]


# How much it applies.


def measure_rate(run: Run) -> list[Figure]:
    """Names per second, by how many are in a message."""
    link = RedisLink(run.url, timeout_s=PATIENCE_S)
    with _sidecar(run, sidecar_process) as (namespace, path, sidecar):
        view = LedgerFile(path, namespace=namespace).view
        pid: int = sidecar.ask()
        rates: dict[int, list[float]] = {names: [] for names in NAMES_PER_MESSAGE}
        rounds = run.rounds(10, 2)
        for done in range(rounds):
            for names, measured in rates.items():
                posts = _posts(names, f"{done}:{names}")
                with _paused(pid):
                    accepted = [link.publish(redis_names(namespace), JOURNAL_LENGTH, post) for post in posts]
                    begun = now_ns()
                _wait_for(view, accepted[-1].id)
                # Every stamp is the time at which its message was applied.
                stamps = [view.newest_stamp([slot]) for post in posts for slot in _slots(post, view.slots)]
                if min(stamps) <= begun:
                    raise RuntimeError("something was applied before it began")
                measured.append(len(stamps) / (max(stamps) - begun) * 1e9)
            run.progress(done, rounds)
    link.close()
    best = {names: max(measured) for names, measured in rates.items()}
    targets = {100: Target(5, "≥", 200_000)}
    return [
        Figure(f"names/s from messages of {names:,}", round(best[names]), "", best[names] / best[1], targets.get(names))
        for names in NAMES_PER_MESSAGE
    ]


def _posts(names: int, mark: str) -> list[Post]:
    """`NAMES` different names, so many in a message."""
    messages = [
        bodies("0123456789ab", [f"product:{mark}:{number}" for number in range(start, start + names)], [])
        for start in range(0, NAMES, names)
    ]
    flat = [body for message in messages for body in message]
    return [Post(flat[start : start + AT_ONCE]) for start in range(0, len(flat), AT_ONCE)]


def _slots(post: Post, slots: int) -> list[int]:
    return [key_slot(key, slots) for body in post.bodies for key in decode(body).keys]


@contextlib.contextmanager
def _paused(pid: int) -> Iterator[None]:
    """Meanwhile process *pid* does nothing, and what it is sent waits for it."""
    os.kill(pid, signal.SIGSTOP)
    os.waitpid(pid, os.WUNTRACED)  # it is our child; until it has stopped, it goes on
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def _wait_for(view: LedgerView, id: str) -> None:
    ms, _, seq = id.partition("-")
    deadline = time.monotonic() + PATIENCE_S
    while view.read_position() < (int(ms), int(seq)):
        if time.monotonic() > deadline:
            raise TimeoutError("the sidecar does not get on")
        time.sleep(POLL_S)


# What it spares Redis.


def measure_host(run: Run) -> list[Figure]:
    """Subscriptions, and the server's processor time for an invalidation, with 16 workers on a host."""
    link = RedisLink(run.url, timeout_s=PATIENCE_S)
    post = Post(bodies("0123456789ab", [KEY], []))
    with (
        _sidecar(run, sidecar_process) as (shared, path, _),
        _workers(run.url, run.namespace(), None, 1) as alone,
        _workers(run.url, shared, path, WORKERS) as with_sidecar,
        _workers(run.url, run.namespace(), None, WORKERS) as without,
    ):
        hosts = {"one": alone, "sidecar": with_sidecar, "own": without}
        subscriptions: dict[str, int] = {}
        cpu_us: dict[str, list[float]] = {name: [] for name in hosts}
        rounds = run.rounds(40, 3)
        order = list(hosts.items())
        for done in range(rounds):
            random.shuffle(order)
            for name, namespace in order:
                before = _server_cpu_us(run)
                for _ in range(CALLS):
                    subscriptions[name] = link.publish(redis_names(namespace), JOURNAL_LENGTH, post).listeners
                cpu_us[name].append((_server_cpu_us(run) - before) / CALLS)
            run.progress(done, rounds)
    link.close()
    us = {name: statistics.median(measured) for name, measured in cpu_us.items()}
    one = us["one"]
    return [
        Figure(f"{WORKERS} workers, a sidecar: subscriptions", subscriptions["sidecar"], "", None, Target(5, "≤", 1)),
        Figure(f"{WORKERS} workers, own listeners: subscriptions", subscriptions["own"], ""),
        Figure("Redis' CPU: sidecar ÷ one subscriber", us["sidecar"] / one, "×", None, Target(5, "≤", 1 + NOISE)),
        Figure("Redis' CPU per invalidation, one subscriber", one, "µs", 1),
        Figure(f"… {WORKERS} workers, a sidecar", us["sidecar"], "µs", us["sidecar"] / one),
        Figure(f"… {WORKERS} workers, own listeners", us["own"], "µs", us["own"] / one),
    ]


@contextlib.contextmanager
def _workers(url: str, namespace: str, path: Path | None, count: int) -> Iterator[str]:
    """So many worker processes under *namespace*, which is also what this returns. It is checked that each receives."""
    with Child(workers_process, url, namespace, path and str(path), count) as workers:
        yield namespace
        deaf: int = workers.ask()
    if deaf:
        raise RuntimeError(f"{deaf} of {count} workers did not notice that the value became stale")


def workers_process(pipe: Connection, url: str, namespace: str, path: str | None, count: int) -> None:
    """Forks *count* workers, each with a value in its cache; asked, reports how many still have it."""
    ready, life = os.pipe(), os.pipe()
    workers = []
    for _ in range(count):
        worker = os.fork()
        if not worker:
            os.close(life[1])
            os._exit(_work(url, namespace, path, ready[1], life[0]))
        workers.append(worker)
    for _ in workers:
        os.read(ready[0], 1)
    pipe.send("ready")
    next(questions(pipe))
    os.close(life[1])
    pipe.send(sum(os.waitpid(worker, 0)[1] != 0 for worker in workers))


def _work(url: str, namespace: str, path: str | None, ready: int, life: int) -> int:
    """A worker, in a process of its own until *life* ends. Returns its exit code."""
    with Invalidator(url, namespace=namespace, sidecar=path) as bus:
        cache = NearCache(bus, ttl=300)
        is_leased = bus.wait_until_leased(10)
        cache.set(KEY, object())
        is_filled = KEY in cache
        os.write(ready, b".")
        os.read(life, 1)
        return 0 if is_leased and is_filled and KEY not in cache else 1


def _server_cpu_us(run: Run) -> float:
    """What the server's process has used of processors so far."""
    lines = str(run.server.command("INFO", "cpu")).splitlines()
    used = dict(line.split(":", 1) for line in lines if ":" in line)
    return (float(used["used_cpu_user"]) + float(used["used_cpu_sys"])) * 1e6
