"""
Which keys there are, and how often they are read and written.

Rule 1: most keys are idle (read once a second): what a replay forgot shows there, while hot keys heal themselves
under the policy "short".
Rule 2: every key has a tag that it shares with others, and is invalidated by either.
Rule 3: some loads are slow *after* they have read the source: what they return is old by then.
"""

from __future__ import annotations

from random import Random

HOT = 40
IDLE = 240
KEYS = HOT + IDLE
GROUPS = 28
"""Tags; a change of a whole group touches KEYS / GROUPS keys in one transaction."""

READS_AT_ONCE = 10
PAUSE_S = 0.002
"""Between bursts of hot reads."""
IDLE_READ_EVERY_S = 1.0

WRITE_PAUSE_S = 0.025
"""Mean, between two transactions of a writer."""
GROUP_CHANGES = 0.06
"""The share of transactions that change a whole group, and say so by its tag."""
HOT_CHANGES = 0.3
"""The share of the other transactions that change a hot key."""
SLOW_LOADS = 0.03
SLOWEST_LOAD_S = 0.15


def key_name(index: int) -> str:
    """The cache key of a row."""
    return f"row:{index}"


def tag_name(index: int) -> str:
    """The tag of a row."""
    return f"group:{index % GROUPS}"


def reads_by_get_and_set(index: int) -> bool:
    """Whether a row is read by `get`, a load and `set` instead of by `get_or_set`."""
    return index % 8 == 7


def draw_change(random: Random) -> tuple[list[int], bool]:
    """What a writer changes next: the rows, and whether it invalidates them by their tag."""
    if random.random() < GROUP_CHANGES:
        group = random.randrange(GROUPS)
        return list(range(group, KEYS, GROUPS)), True
    if random.random() < HOT_CHANGES:
        return [random.randrange(HOT)], False
    return [HOT + random.randrange(IDLE)], False
