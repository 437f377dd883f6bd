"""
How many slots a ledger needs: the table in docs/sidecar.md against a formula, and the formula against the real hash.

Two names in one slot cost an unneeded miss, never staleness. How often that happens depends on how many names become
stale while an entry waits for its next read, and on nothing else: not on how many entries there are.
"""

import random
from pathlib import Path

import pytest

from invalidator.names import name_slots
from invalidator.sidecar.daemon import DEFAULT_SLOTS

DOCUMENT = Path(__file__).parents[2] / "docs" / "sidecar.md"
RATES = (10, 100, 1_000, 10_000, 20_000)
POWERS = (16, 17, 18, 20, 22, 24)


def needless_misses(slots: int, names_per_s: float, *, names: int = 3, read_every_s: float = 10.0) -> float:
    """
    Return the share of reads that miss only because another name fell into a slot of the entry's own.

    Each of the `names_per_s` x `read_every_s` names that became stale since the last read misses all slots of the
    entry with the probability (1 - 1/slots)^names; the read is served if all of them do.

    Args:
        slots: of the ledger.
        names_per_s: how many names of others become stale each second.
        names: of the entry: its key and its tags.
        read_every_s: seconds between two reads of the entry, and at most its TTL.
    """
    served: float = (1 - 1 / slots) ** (names * names_per_s * read_every_s)
    return 1 - served


def table() -> str:
    """As docs/sidecar.md has it."""
    lines = [
        "| slots | size | " + " | ".join(f"{rate:,}/s" for rate in RATES) + " |",
        "| ---: | ---: |" + " ---: |" * len(RATES),
    ]
    for power in POWERS:
        shares = [needless_misses(2**power, rate) for rate in RATES]
        size = f"{2**power * 8 / 2**20:g} MiB"
        lines.append(f"| 2^{power} | {size} | " + " | ".join(f"{share:.2%}" for share in shares) + " |")
    return "\n".join(lines)


def test_the_documents_table_is_what_the_formula_says() -> None:
    text = DOCUMENT.read_text()
    (between,) = [part.partition("<!-- /slots -->")[0] for part in text.split("<!-- slots -->")[1:]]
    assert between.strip() == table()


def test_the_document_names_the_default() -> None:
    assert f"2^{DEFAULT_SLOTS.bit_length() - 1}" in DOCUMENT.read_text()
    assert 2 ** (DEFAULT_SLOTS.bit_length() - 1) == DEFAULT_SLOTS


@pytest.mark.parametrize(("slots", "others"), [(1024, 100), (4096, 1000), (65_536, 20_000)])
def test_the_formula_is_what_the_hash_does(slots: int, others: int) -> None:
    """Entries of one key and two tags each, and names of others that look like them."""
    draw = random.Random(1)
    missed = rounds = 0
    for turn in range(30):
        stale = set(name_slots((f"product:{draw.randrange(10**9)}" for _ in range(others)), (), slots))
        for entry in range(500):
            own = name_slots([f"page:{turn}:{entry}"], [f"shop.product:{turn * 500 + entry}", f"list:{entry}"], slots)
            missed += not stale.isdisjoint(own)
            rounds += 1
    assert missed / rounds == pytest.approx(needless_misses(slots, others, names=3, read_every_s=1), rel=0.05, abs=0.01)


def test_nothing_stale_is_nothing_missed() -> None:
    assert needless_misses(1024, 0) == 0
