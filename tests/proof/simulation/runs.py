"""Run worlds: one seed, many seeds, or a plan."""

from __future__ import annotations

import gc
import logging
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from .checks import Violation
from .choices import Choices, Plan
from .shrink import shrink
from .world import World

STEPS = 150
"""Long enough for a fault, its discovery, its repair and the next one."""


def be_quiet() -> None:
    """Log nothing of the library: there are faults in every world."""
    logging.getLogger("invalidator").setLevel(logging.CRITICAL)


class Failure(NamedTuple):
    """A seed that breaks the promise."""

    seed: int
    violation: str
    plan: Plan


def run_seed(seed: int) -> Failure | None:
    """Run one world."""
    choices = Choices(seed)
    violation = _run(World(choices))
    return Failure(seed, violation, choices.taken) if violation else None


def find_failures(seeds: Iterable[int]) -> Iterator[Failure]:
    """Run one world after the other."""
    for number, seed in enumerate(seeds, 1):
        if failure := run_seed(seed):
            yield failure
        if number % 50 == 0:
            gc.collect()


def run_all(seeds: Iterable[int]) -> list[Failure]:
    """Run one world after the other, and return those that failed."""
    return list(find_failures(seeds))


def explain(failure: Failure) -> str:
    """A short trace of a shrunk run that fails by the same rule."""
    rule = failure.violation.partition(":")[0]

    def fails(plan: Plan) -> bool:
        return _run(World(Choices(plan=plan))).partition(":")[0] == rule

    plan = shrink(failure.plan[:-1], fails)
    world = World(Choices(plan=plan), traced=True)
    violation = _run(world)
    return "\n".join(
        [
            f"seed {failure.seed}: {violation or failure.violation}",
            f"{len(plan) - 1} of {len(failure.plan) - 1} steps are left; {world.setup}",
            *world.trace,
        ]
    )


def trace(seed: int) -> str:
    """The whole trace of one seed."""
    world = World(Choices(seed), traced=True)
    violation = _run(world)
    return "\n".join([str(world.setup), *world.trace, violation or "the promise held"])


def _run(world: World) -> str:
    """How the promise was broken; "" if it was not."""
    gc.disable()  # a cycle that is collected inside a world would run code there
    try:
        world.run(STEPS)
    except Violation as violation:
        return str(violation)
    except Exception as error:  # noqa: BLE001 - whatever the code under test raises is a finding
        return f"crash: {type(error).__name__}: {error}"
    finally:
        gc.enable()
    return ""
