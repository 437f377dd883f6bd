"""Timing with care: no garbage collection meanwhile, competitors interleaved, the smallest or the middle of many."""

from __future__ import annotations

import gc
import random
import statistics
import timeit
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from invalidator.ledger import now_ns

from .run import Run

CALIBRATED_S = 0.004
"""One batch of a nanosecond-scale statement: long against the clock, short against what else the machine does."""


@contextmanager
def no_garbage() -> Iterator[None]:
    """No garbage collection inside."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def quickest_ns(
    run: Run, statements: Mapping[str, tuple[str, Mapping[str, Any]]], *, inner: int, rounds: int
) -> dict[str, float]:
    """
    Time each statement *rounds* times, interleaved, and return the shortest time of each per inner step.

    Each statement is compiled into a function of its own by `timeit`, so that the interpreter's specialization of one
    does not get in the way of another.

    Args:
        statements: by name, a statement and its variables (made local, so that looking them up costs next to nothing).
        inner: how many steps one execution of a statement makes.
    """
    timers = {
        name: timeit.Timer(statement, "; ".join(f"{v} = _{v}" for v in variables), globals=_hidden(variables))
        for name, (statement, variables) in statements.items()
    }
    passes = {name: max(1, int(CALIBRATED_S / min(timer.repeat(5, 1)))) for name, timer in timers.items()}
    times: dict[str, list[float]] = {name: [] for name in timers}
    order = list(timers)
    for done in range(rounds):
        random.shuffle(order)
        for name in order:
            times[name].append(timers[name].timeit(passes[name]))
        run.progress(done, rounds)
    return {name: min(took) / passes[name] / inner * 1e9 for name, took in times.items()}


def _hidden(variables: Mapping[str, Any]) -> dict[str, Any]:
    return {f"_{name}": value for name, value in variables.items()}


def interleaved_ns(
    run: Run, calls: Mapping[str, Callable[[], object]], *, rounds: int, warm_up: int = 50
) -> dict[str, list[int]]:
    """Time each call *rounds* times, one after the other in an order drawn for each round. Returns all times."""
    times: dict[str, list[int]] = {name: [] for name in calls}
    order = list(calls.items())
    with no_garbage():
        for done in range(-warm_up, rounds):
            random.shuffle(order)
            for name, call in order:
                begun = now_ns()
                call()
                took = now_ns() - begun
                if done >= 0:
                    times[name].append(took)
            if done % 100 == 0:
                run.progress(max(done, 0), rounds)
    return times


def percentile(values: Sequence[float], percent: int) -> float:
    """The value below which *percent* of 100 lie."""
    return statistics.quantiles(values, n=100, method="inclusive")[percent - 1]
