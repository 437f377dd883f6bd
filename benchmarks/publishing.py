"""
What the journal costs a publisher: the publish script against a bare PUBLISH of the same body.

Both go through redis-py with hiredis, over connections of our link's pool, to one subscriber in another process that
reads both channels.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from typing import Any

import redis

from invalidator import Invalidator
from invalidator.link import Post
from invalidator.link.redis import RedisLink
from invalidator.message import bodies
from invalidator.names import redis_names

from .figures import Figure, Target
from .peers import bare_subscriber
from .processes import Child
from .run import Run
from .timing import interleaved_ns, percentile

KEY = "product:42"
CHANNEL = "bench:bare"
JOURNAL_LENGTH = 100_000


def measure(run: Run) -> list[Figure]:
    """Medians of round trips, and the server's own count of its share."""
    namespace = run.namespace()
    names = redis_names(namespace)
    link = RedisLink(run.url, timeout_s=1.0)
    post = Post(bodies("0123456789ab", [KEY], []))
    payload = b"1700000000000-0 1700000000000-0 " + post.bodies[0]
    with (
        Invalidator(run.url, namespace=namespace) as bus,
        Child(bare_subscriber, run.url, [CHANNEL, names.channel], False),
    ):
        client: Any = redis.Redis(connection_pool=link._pool)  # redis-py types its calls only in part
        calls: dict[str, Callable[[], Any]] = {
            "bare": lambda: client.publish(CHANNEL, payload),
            "script": lambda: link.publish(names, JOURNAL_LENGTH, post),
            "invalidate": lambda: bus.invalidate(KEY),
        }
        run.server.command("CONFIG", "RESETSTAT")
        times = interleaved_ns(run, calls, rounds=run.rounds(5000, 300))
        server_us = _server_us(run)
        reached = (calls["bare"](), link.publish(names, JOURNAL_LENGTH, post).listeners, bus.invalidate(KEY).listeners)
        if reached != (1, 1, 1):
            raise RuntimeError(f"each should reach the one subscriber, not {reached}")
    link.close()
    us = {name: [took / 1000 for took in all_of_it] for name, all_of_it in times.items()}
    bare = statistics.median(us["bare"])

    def figure(what: str, name: str, percent: int = 50) -> Figure:
        value = percentile(us[name], percent)
        return Figure(f"{what}: p{percent}", value, "µs", times=value / bare)

    return [
        Figure(
            "publish script ÷ bare PUBLISH, median",
            statistics.median(us["script"]) / bare,
            "×",
            None,
            Target(4, "≤", 1.5),
        ),
        figure("bare PUBLISH, round trip", "bare"),
        figure("publish script (EVALSHA), round trip", "script"),
        figure("publish script (EVALSHA), round trip", "script", 99),
        figure("invalidate()", "invalidate"),
        Figure("of a bare PUBLISH, in the server", server_us["publish"], "µs"),
        Figure("of the script, in the server", server_us["evalsha"], "µs"),
    ]


def _server_us(run: Run) -> dict[str, float]:
    """Mean time of each command as the server counts it: without reading, writing, and parsing."""
    lines = str(run.server.command("INFO", "commandstats")).splitlines()
    stats = (line.removeprefix("cmdstat_").split(":", 1) for line in lines if line.startswith("cmdstat_"))
    return {name: float(dict(pair.split("=") for pair in fields.split(","))["usec_per_call"]) for name, fields in stats}
