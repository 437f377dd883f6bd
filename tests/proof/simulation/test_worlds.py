"""
The promise, in some thousand worlds. More: `python -m tests.proof.simulation --seeds 0-100000`.

A seed that fails here prints a shrunk trace; `python -m tests.proof.simulation --seed N --trace` shows the whole run.
"""

import pytest

from .runs import Choices, World, explain, find_failures
from .shrink import shrink

WORLDS = 2_000
AT_ONCE = 100


@pytest.mark.parametrize("first", range(0, WORLDS, AT_ONCE))
def test_the_promise_holds(first: int) -> None:
    """The bound, no stale fill, own writes read, an honest lease, no needless flush, recovery: see `checks.py`."""
    failure = next(find_failures(range(first, first + AT_ONCE)), None)
    if failure is not None:
        pytest.fail(explain(failure), pytrace=False)


def test_a_seed_is_always_the_same_world() -> None:
    """Otherwise a failing seed could not be replayed."""
    plans = []
    for _ in range(2):
        world = World(Choices(17))
        world.run(150)
        plans.append(world.choices.taken)
    assert plans[0] == plans[1]


def test_worlds_do_check_reads() -> None:
    """A simulation in which nobody is served anything finds nothing."""
    reads = 0
    for seed in range(20):
        world = World(Choices(seed))
        world.run(150)
        reads += world.checks.reads
    assert reads > 20 * 10


def test_shrinking_keeps_what_matters() -> None:
    """What a trace shows is what the failure needs."""
    plan = [[1, 2, 3] for _ in range(50)]
    plan[30] = [7, 5]
    smaller = shrink(plan, lambda plan: any(7 in step for step in plan[1:]))
    assert [step for step in smaller[1:] if step] == [[7, 0]]
