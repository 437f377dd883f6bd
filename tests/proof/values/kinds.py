"""
Kinds of wrong values that are known and not mended yet. A kind that is named in `KNOWN` does not happen in any world.

    tx        what is read by a column in a transaction that has written
    backend   `set`, `add` and `delete` of Django's cache in a transaction
    copies    callers change what they were handed, and follow its relations
    keys      arguments and functions that are told apart by more than SQL: related managers, states of query sets
    recorder  results that are read later, and SQL that reads
    context   languages and tenants that switch
"""

import os

ALL = frozenset({"tx", "backend", "copies", "keys", "recorder", "context"})
KNOWN = (ALL - frozenset({"keys", "recorder", "tx", "copies", "backend"})) - frozenset(
    os.environ.get("VALUES_TRY", "").split(",")
)


def happens(kind: str) -> bool:
    """Whether this kind may happen in a world."""
    return kind not in KNOWN
