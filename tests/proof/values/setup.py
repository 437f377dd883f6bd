"""What kind of world a seed is: few questions, few faults, and a tempo of its own (see the simulation's setup)."""

from __future__ import annotations

from dataclasses import dataclass

from tests.proof.simulation.choices import Choices

from .kinds import happens


@dataclass(frozen=True)
class Setup:
    """The constants of one world."""

    processes: int
    threads: int
    questions: int
    prompt: bool
    leave_one_in: int
    fail_one_in: int
    commit_fails_one_in: int
    stock: bool
    weights: tuple[tuple[int, str], ...]


def draw_setup(choices: Choices) -> Setup:
    """What kind of world this is."""
    pick, weigh = choices.pick, choices.weigh
    stock = bool(weigh(((2, 0), (1, 1))))
    copies = happens("copies")
    return Setup(
        processes=weigh(((3, 1), (2, 2))),
        threads=weigh(((4, 2), (2, 1), (1, 3))),
        questions=weigh(((3, 2), (2, 1), (2, 3), (1, 6))),
        prompt=bool(weigh(((3, 1), (1, 0)))),
        leave_one_in=weigh(((2, 1000), (2, 6), (3, 3))),
        fail_one_in=weigh(((4, 100_000), (1, 8))),
        commit_fails_one_in=weigh(((4, 100_000), (1, 3))),
        stock=stock,
        weights=(
            (pick((30, 60)), "read"),
            (pick((20, 8)), "write"),
            (pick((8, 16, 0)), "begin"),
            (pick((8, 4)), "commit"),
            (pick((8, 4)), "roll back"),
            (pick((0, 0, 2)), "autocommit"),
            (15 if stock else 0, "read stock"),
            (10 if stock else 0, "write stock"),
            (pick((6, 12)) if copies else 0, "misuse"),
            (pick((6, 0)) if copies else 0, "follow"),
            (pick((4, 0)) if copies else 0, "look again"),
            (pick((0, 0, 1)), "lose"),
            (pick((0, 3, 10)) if happens("context") else 0, "speak"),
        ),
    )
