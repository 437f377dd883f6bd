"""
What kind of world a seed is.

Each seed has few kinds of faults, and its own tempo: a world in which everything happens at once finds less than many
in which one thing happens often (swarm testing, Groce et al. 2012).
"""

from __future__ import annotations

from dataclasses import dataclass

from .choices import MS, US, Choices
from .faults import FAULTS, Fault
from .network import LATENCIES


@dataclass(frozen=True)
class Setup:
    """The constants of one world."""

    processes: int
    workers: int
    keys: int
    tags: int
    when_unleased: str
    replica_lag_ns: int
    publish: str
    queue_size: int
    journal_length: int
    page: int
    maxsize: int
    tick_ns: int
    wall_clock_stands: bool
    output_buffer: int
    latencies: tuple[int, ...]
    switch_one_in: int
    step_weights: tuple[tuple[int, str], ...]
    write_one_in: int
    strict_one_in: int
    ttl_one_in: int
    longest_wait: int
    info_refused: bool
    publish_fates: tuple[tuple[int, str], ...]
    faults: tuple[Fault, ...]
    storm: bool
    server_starts_late: bool
    sidecar_starts_late: bool


def draw_setup(choices: Choices) -> Setup:
    """What kind of world this is."""
    pick, weigh = choices.pick, choices.weigh
    return Setup(
        processes=weigh(((5, 2), (2, 1), (2, 3))),
        workers=weigh(((4, 0), (2, 1), (2, 2))),
        keys=weigh(((4, 1), (3, 2), (1, 4))),
        tags=weigh(((2, 0), (2, 1))),
        when_unleased=weigh(((10, "short"), (2, "bypass"), (1, "serve"))),
        replica_lag_ns=weigh(((8, 0), (1, 300 * MS))),
        publish=weigh(((5, "queue"), (1, "raise"))),
        queue_size=weigh(((4, 10_000), (1, 1))),
        journal_length=weigh(((4, 1000), (1, 1), (1, 4))),
        page=weigh(((2, 200), (1, 1), (1, 2))),
        maxsize=weigh(((5, 1000), (1, 1))),
        tick_ns=weigh(((3, 1), (1, US), (1, 5 * MS))),
        wall_clock_stands=weigh(((4, False), (1, True))),
        output_buffer=weigh(((5, 1000), (1, 3))),
        latencies=weigh(tuple((1, latencies) for latencies in LATENCIES.values())),
        switch_one_in=weigh(((2, 25), (1, 1000), (2, 10))),
        step_weights=(
            (pick((60, 30)), "run"),
            (pick((8, 25)), "advance"),
            (pick((10, 25)), "begin"),
            (pick((2, 6, 0)), "fault"),
        ),
        write_one_in=pick((4, 2, 8)),
        strict_one_in=weigh(((3, 1000), (1, 2), (1, 1))),
        ttl_one_in=weigh(((3, 1000), (1, 3))),
        longest_wait=pick((9, 7, 5)),
        info_refused=weigh(((8, False), (1, True))),
        publish_fates=weigh(
            (
                (2, ((1, "fine"),)),
                (1, ((5, "fine"), (1, "unanswered"), (1, "late"), (1, "lost"))),
                (1, ((2, "fine"), (1, "unanswered"), (1, "late"), (1, "lost"))),
            )
        ),
        faults=tuple({FAULTS[choices.draw(len(FAULTS))]: None for _ in range(1 + choices.draw(4))}),
        storm=weigh(((2, False), (1, True))),
        server_starts_late=weigh(((5, False), (1, True))),
        sidecar_starts_late=weigh(((2, False), (1, True))),
    )
