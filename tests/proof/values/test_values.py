"""
What is served is true, in some worlds. More: `make torture ARGS="--values --minutes 60"`.

A seed that fails here prints a shrunk trace; `python -m tests.proof.values --seed N` prints it again.
"""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.databases.chosen import chosen
from tests.proof.simulation.choices import Choices

from .turns import Thread, Turns

ROOT = Path(__file__).parents[3]
WORLDS = {"sqlite": 60}
ON_SERVERS = 25


def play(*arguments: str) -> "subprocess.CompletedProcess[str]":
    """Run worlds in a process of their own: they bring a project of their own."""
    command = [sys.executable, "-m", "tests.proof.values", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_everything_that_is_served_is_true() -> None:
    """Through every door, inside and outside of transactions, whatever others do meanwhile."""
    done = play("--seeds", f"0-{WORLDS.get(chosen(), ON_SERVERS) - 1}")
    assert done.returncode == 0, done.stdout + done.stderr
    seen = {what: int(count) for count, what in re.findall(r"(\d+) (operations|looks|of them compared)", done.stdout)}
    # Worlds in which nobody is served anything find nothing.
    assert seen["operations"] > 500, done.stdout
    assert seen["of them compared"] > 200, done.stdout
    assert seen["looks"] > 1000, done.stdout


def test_a_seed_is_always_the_same_world() -> None:
    """Otherwise a failing seed could not be replayed."""
    first, second = (play("--seed", "3", "--trace").stdout for _ in range(2))
    assert first == second
    assert "everything was true" in first


def test_threads_take_turns() -> None:
    """What one does is interleaved with what the other does where it gives its turn back, and nowhere else."""
    turns, said = Turns(), []
    one, other = Thread(turns, "one"), Thread(turns, "other")

    def operation(name: str) -> None:
        said.append(f"{name} begins")
        turns.give_back()
        said.append(f"{name} ends")

    one.begin(lambda: operation("one"))
    other.begin(lambda: operation("other"))
    one.go_on()
    other.go_on()
    assert said == ["one begins", "other begins", "one ends", "other ends"]
    assert not one.busy
    one.close()
    other.close()


def test_who_waits_gets_a_turn_when_there_is_nothing_to_wait_for() -> None:
    """As a thread does that joins the load of another."""
    turns, done = Turns(), []
    waiting = Thread(turns, "waiting")
    waiting.begin(lambda: turns.wait_until(lambda: bool(done)))
    assert waiting.busy
    assert not waiting.can_go_on()
    done.append(True)
    assert waiting.can_go_on()
    waiting.go_on()
    assert not waiting.busy
    waiting.close()


def test_an_operation_that_was_left_is_abandoned_at_the_end() -> None:
    """Nothing of a world goes on in the next one."""
    turns, ended = Turns(), []
    thread = Thread(turns, "left")

    def operation() -> None:
        try:
            turns.give_back()
        finally:
            ended.append(True)

    thread.begin(operation)
    assert not ended
    thread.close()
    assert ended


def test_an_error_of_an_operation_reaches_the_driver() -> None:
    """A crash is a finding, and never lost in a thread."""
    thread = Thread(Turns(), "failing")
    with pytest.raises(ZeroDivisionError):
        thread.begin(lambda: 1 // 0)
    thread.close()


def test_the_first_choice_is_the_most_boring() -> None:
    """Plans are shrunk towards it."""
    choices = Choices(plan=[[]])
    choices.begin_step()
    assert choices.pick(("boring", "less so")) == "boring"
