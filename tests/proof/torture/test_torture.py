"""The torture suite in short, on real processes: see `python -m tests.proof.torture --help` for the long form."""

import json
import subprocess
import sys

from .stage import ROOT

TIMEOUT_S = 100


def play(*options: str) -> str:
    """What the suite prints, in a process of its own."""
    played = subprocess.run(
        [sys.executable, "-m", "tests.proof.torture", *options],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert played.returncode == 0, played.stderr
    return played.stdout


def test_no_read_is_staler_than_promised_while_messages_are_lost_connections_die_and_the_server_crashes() -> None:
    """Three faults of the many; `make torture` plays all of them, alone and mixed."""
    rounds = json.loads(play("--short", "--json"))
    assert len(rounds) == 3
    assert sum(result["reads"] for result in rounds) > 10_000


def test_random_queries_and_writes_are_played_in_a_process_of_their_own() -> None:
    """One world; tests/unit/django_integration/dependencies plays others, where Django is set up already."""
    assert " 0 stale" in play("--deps", "--minutes", "0.001", "--seed", "5000")
