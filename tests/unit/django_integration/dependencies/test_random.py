"""Random queries and writes: nothing is stale, less is needless than by table. `make torture ARGS=--deps` is longer."""

import pytest
from django.db import connection

from django_integration.dependencies.conditions import EXACT_TEXT
from django_integration.reads.default_cache import default_cache

from .random_world import Tally, World

SEEDS = range(4)


@pytest.mark.usefixtures("db")
@pytest.mark.parametrize("seed", SEEDS)
def test_nothing_is_stale(seed: int) -> None:
    assert default_cache().bus.wait_until_leased(20)
    tally = World(seed).play(writes=25, queries=16)
    print(tally)
    assert not tally.stale, "\n".join(tally.stale)
    assert tally.changed > 0, "nothing was proved"
    # Elsewhere a row whose key is a text is written as an unknown row, and invalidates the rows that it links, too.
    if connection.vendor in EXACT_TEXT:
        assert tally.voided <= tally.voided_by_table


def test_a_tally_says_what_it_counted() -> None:
    tally = Tally()
    tally.add(Tally(writes=2, looked_at=10, changed=1, voided=4, needless=3, needless_by_table=9, voided_by_table=10))
    assert "75.0 %" in str(tally)
    assert "90.0 %" in str(tally)
