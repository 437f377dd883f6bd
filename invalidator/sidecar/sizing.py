"""
How many slots a ledger needs.

Two names in one slot cost an unneeded miss, never staleness. How often that happens depends on how many names become
stale while an entry waits for its next read, and on nothing else: not on how many entries there are.
"""

from __future__ import annotations


def needless_misses(slots: int, names_per_s: float, *, names: int = 3, read_every_s: float = 10.0) -> float:
    """
    The share of reads that miss only because another name fell into a slot of the entry's own.

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
