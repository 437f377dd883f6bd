"""The table of states."""

from pathlib import Path

from invalidator.protocol.states import TRANSITIONS, State

ROOT = Path(__file__).parents[4]


def test_every_state_is_in_the_table() -> None:
    """And nothing leaves CLOSED."""
    assert set(TRANSITIONS) == set(State)
    assert TRANSITIONS[State.CLOSED] == frozenset()
    assert all(State.CLOSED in after for state, after in TRANSITIONS.items() if state is not State.CLOSED)


def test_the_diagram_shows_the_table() -> None:
    """Whoever changes the one changes the other."""
    arrows = [
        line.split(":")[0].split("-->")
        for line in (ROOT / "docs" / "wire-protocol.md").read_text().splitlines()
        if "-->" in line and "[*]" not in line
    ]
    assert {(before.strip(), after.strip()) for before, after in arrows} == {
        (before, after) for before, those in TRANSITIONS.items() for after in those
    }
