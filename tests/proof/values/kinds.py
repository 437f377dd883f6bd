"""
Kinds of wrong values that are known and not mended yet. A kind that is named in `KNOWN` happens in no world, so
that the worlds go on to find others.

    tx        what is read by a column in a transaction that has written
    backend   `set`, `add` and `delete` of Django's cache in a transaction
    copies    callers change what they were handed, and follow its relations
    recorder  results that are read later, and SQL that reads
    keys      arguments and functions that are told apart by more than SQL: related managers, states of query sets
    context   languages and tenants that switch
    limits    a time limit strikes after a statement was executed
"""

KNOWN: frozenset[str] = frozenset()


def happens(kind: str) -> bool:
    """Whether this kind may happen in a world."""
    return kind not in KNOWN
