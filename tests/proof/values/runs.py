"""Run worlds: one seed, many seeds, or a plan."""

from __future__ import annotations

import gc
import logging
import os
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import django

os.environ["DJANGO_SETTINGS_MODULE"] = "tests.proof.values.settings"
django.setup()

from django.test.utils import setup_databases, teardown_databases  # noqa: E402 - the settings come first

from django_integration import runtime  # noqa: E402
from tests.databases.chosen import start  # noqa: E402
from tests.proof.simulation.choices import Choices, Plan  # noqa: E402
from tests.proof.simulation.shrink import shrink  # noqa: E402

from .checks import Violation  # noqa: E402
from .world import World  # noqa: E402

STEPS = 60
"""Long enough for a transaction, a second one beside it, and what is left of both."""


class Failure(NamedTuple):
    """A seed in which somebody was served something that is not true."""

    seed: int
    violation: str
    plan: Plan


@contextmanager
def tables() -> Iterator[None]:
    """The tables, in a database of this process' own; and quiet."""
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")
    start()
    old = setup_databases(verbosity=0, interactive=False)
    gc.collect()
    gc.freeze()  # so that collecting what a world leaves takes no longer than that
    try:
        yield
    finally:
        runtime.reset()
        teardown_databases(old, verbosity=0)


def run_seed(seed: int) -> tuple[World, Failure | None]:
    """Run one world."""
    choices = Choices(seed)
    world = World(choices)
    violation = _run(world)
    plan = choices.taken[:-1] if world.has_ended else choices.taken
    return world, Failure(seed, violation, plan) if violation else None


def find_failures(seeds: Iterable[int]) -> Iterator[Failure]:
    """Run one world after the other."""
    for seed in seeds:
        _, failure = run_seed(seed)
        if failure:
            yield failure


def explain(failure: Failure) -> str:
    """A short trace of a shrunk run that fails as well."""
    how = _kind_of(failure.violation)

    def fails(plan: Plan) -> bool:
        return _kind_of(_run(World(Choices(plan=plan)))) == how

    plan, steps = failure.plan, len(failure.plan) + 1
    while len(plan) < steps:  # what has become boring can be left out
        steps = len(plan)
        plan = shrink(plan, fails)
    world = World(Choices(plan=plan), traced=True)
    violation = _run(world)
    return "\n".join(
        [
            f"seed {failure.seed}: {violation or failure.violation}",
            f"{len(plan) - 1} of {len(failure.plan) - 1} steps are left; {world.setup}",
            *world.trace,
        ]
    )


def _kind_of(violation: str) -> str:
    """A value that is kept and is not true will be served, too: whichever is seen first."""
    rule = violation.partition(":")[0]
    return rule if rule in ("", "crash", "deadlock") else "not true"


def trace(seed: int) -> str:
    """The whole trace of one seed."""
    world = World(Choices(seed), traced=True)
    violation = _run(world)
    return "\n".join([str(world.setup), *map(str, world.questions), *world.trace, violation or "everything was true"])


def _run(world: World) -> str:
    """What was not true; "" if everything was."""
    gc.disable()  # a cycle that is collected inside a world would run code there
    try:
        world.run(STEPS)
    except Violation as violation:
        return str(violation)
    except Exception as error:  # noqa: BLE001 - whatever the code under test raises is a finding
        return f"crash: {type(error).__name__}: {error}"
    finally:
        gc.enable()
        gc.collect()
    return ""
