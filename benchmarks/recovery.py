"""
What a dropped connection costs: the time until there is a new proof, and the entries that are lost.

Recovered means a lease that rests on the new connection: a PING that was sent after the kill has been answered. (The
old lease is still good meanwhile, and reads go on.) We look at the ledger in steps of 0.1 ms, asleep in
between, so that the listener's thread has the interpreter for itself.
"""

from __future__ import annotations

import statistics
import time

import redis

from invalidator import Invalidator, NearCache
from invalidator.ledger import PROVEN_AT, now_ns

from .figures import Figure, Target
from .run import Run
from .timing import no_garbage, percentile

PATIENCE_NS = 10_000_000_000
STEP_S = 0.0001
ENTRIES = 10_000
INVALIDATED = 20
MOST_TRIALS = 100


def measure_lease(run: Run) -> list[Figure]:
    """From CLIENT KILL, sent, to a lease that rests on a new connection."""
    rounds = run.rounds(300, 50)
    took_ms = []
    with (
        Invalidator(run.url, namespace=run.namespace()) as bus,
        redis.Redis.from_url(run.url) as client,
    ):
        NearCache(bus).set("product:42", 1)
        _wait_for_proof(bus, now_ns())
        with no_garbage():
            for done in range(rounds):
                begun = now_ns()
                _kill(client)
                took_ms.append((_wait_for_proof(bus, begun) - begun) / 1e6)
                run.progress(done, rounds)
        status = bus.status()
        if status.reconnects != rounds or status.flushes:
            raise RuntimeError(f"not every kill was one reconnect and a replay: {status}")
    return [
        Figure("connection killed to a new lease, median", statistics.median(took_ms), "ms", None, Target(4, "<", 50)),
        Figure("… p90", percentile(took_ms, 90), "ms"),
        Figure("… worst", max(took_ms), "ms"),
        Figure("… how often measured", len(took_ms), ""),
    ]


def measure_survivors(run: Run) -> list[Figure]:
    """Of entries in a cache, those still served after a reconnect that missed some invalidations."""
    wanted = run.rounds(10, 2)
    keys = [f"product:{number}" for number in range(ENTRIES)]
    stale = keys[:: ENTRIES // INVALIDATED]
    namespace = run.namespace()
    survived: list[int] = []
    with (
        Invalidator(run.url, namespace=namespace) as writer,
        Invalidator(run.url, namespace=namespace) as bus,
        redis.Redis.from_url(run.url) as client,
    ):
        cache = NearCache(bus)
        writer.invalidate("warm:up")
        for _ in range(MOST_TRIALS):
            _wait_for_proof(bus, now_ns())
            cache.set_many(dict.fromkeys(keys, 1))
            _kill(client)
            receipts = [writer.invalidate(key) for key in stale]
            _wait_for_proof(bus, now_ns())  # a PING sent before the kill may be answered, and proves nothing of these
            if any(receipt.listeners for receipt in receipts):
                continue  # it was back before the last was published: no trial
            served = cache.get_many(keys)
            if not served.keys().isdisjoint(stale):
                raise RuntimeError("an invalidated value is served")
            survived.append(len(served))
            run.progress(len(survived), wanted)
            if len(survived) == wanted:
                break
        else:
            raise RuntimeError(f"the listener was always back too early: {bus.status()}")
    worst = min(survived)
    return [
        Figure("entries still served, worst trial", 100 * worst / ENTRIES, "%", None, Target(4, "≥", 99)),
        Figure("… of 10,000 cached", worst, ""),
        Figure("… invalidated while away", INVALIDATED, ""),
        Figure("… trials", len(survived), ""),
    ]


def _kill(client: redis.Redis) -> None:
    killed = client.client_kill_filter(_type="pubsub")
    if killed != 1:
        raise RuntimeError(f"{killed} connections were killed, not the listener's alone")


def _wait_for_proof(bus: Invalidator, since: int) -> int:
    """Wait until everything accepted before *since* is proven to have been applied. Returns when that was seen."""
    patience_ends = now_ns() + PATIENCE_NS
    bus.start()
    while bus.hit_words[PROVEN_AT] <= since:
        time.sleep(STEP_S)
        if now_ns() > patience_ends:
            raise RuntimeError(f"no new proof: {bus.status()}")
    return now_ns()
