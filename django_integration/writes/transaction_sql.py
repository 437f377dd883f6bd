"""
BEGIN, COMMIT, ROLLBACK, SAVEPOINT and their like in a text of SQL: which there are. What they mean is in
`transactions/in_sql.py`.

Rule 1: Django's own savepoints, of which every name is a new one, are read by one regular expression. All other texts
that may control a transaction are taken apart like those that may write, once.
Rule 2: in doubt a text may have committed: if it is too long, if databases read it differently, if it is a block with
statements of its own, or defines something on a database that commits before it does so.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from typing import Any

from ..sql.words import LONGEST_PARSED, Word, is_doubtful, statements
from ..transactions.in_sql import Step

_MAY_CONTROL = re.compile(
    r"(?:\A|;|\*/|\n|/\*M?!\d*)\s*(?:BEGIN|START|COMMIT|END|ROLLBACK|ABORT|SAVEPOINT|RELEASE|SAVE|PREPARE|XA|SET)\b",
    re.IGNORECASE,
)
_SAVEPOINT = re.compile(
    r"""\s*(?:(?P<set>SAVEPOINT)|(?P<release>RELEASE\s+SAVEPOINT)|ROLLBACK\s+TO\s+SAVEPOINT)\s+(?P<name>["`]?\w+["`]?)\s*;?\s*""",
    re.IGNORECASE,
)
_DEFINES = re.compile(
    r"\s*(?:ALTER|ANALYZE|CACHE|CREATE|DROP|FLUSH|GRANT|INSTALL|LOCK|OPTIMIZE|RENAME|REPAIR|REVOKE|TRUNCATE|UNINSTALL"
    r"|UNLOCK)\b",
    re.IGNORECASE,
)
"""Statements before which MariaDB and Oracle commit."""
_BLOCKS = frozenset({"ALTER", "CREATE", "DECLARE", "DO"})
"""First words of texts that may contain statements of their own, with an END for each of their blocks."""
MAY_COMMIT = (Step("may commit"),)


def steps_of(text: str, *, defining_commits: bool) -> Sequence[Step]:
    """
    Return what *text* does to the transaction that it is run in; usually nothing.

    Args:
        defining_commits: whether the database commits before it creates or changes a table.
    """
    if found := _SAVEPOINT.fullmatch(text):
        kind: Any = "savepoint" if found["set"] else "release" if found["release"] else "roll back to"
        return (Step(kind, _folded(found["name"])),)
    if _MAY_CONTROL.search(text):
        return MAY_COMMIT if len(text) > LONGEST_PARSED or is_doubtful(text) else _steps_of(text)
    return MAY_COMMIT if defining_commits and _DEFINES.match(text) else ()


@functools.lru_cache(maxsize=200)
def _steps_of(text: str) -> Sequence[Step]:
    found = list(statements(text))
    if any(words[0].upper in _BLOCKS or _is_block(words) for words in found):
        return MAY_COMMIT
    return tuple(step for words in found if (step := _step_of(words)) is not None)


def _is_block(words: list[Word]) -> bool:
    """MariaDB: BEGIN NOT ATOMIC …; END. Oracle: BEGIN UPDATE …; END."""
    return words[0].upper == "BEGIN" and len(words) > 1 and words[1].upper not in _AFTER_BEGIN


_AFTER_BEGIN = frozenset(
    {
        *("CONCURRENT", "DEFERRABLE", "DEFERRED", "EXCLUSIVE", "IMMEDIATE", "ISOLATION", "READ", "TRAN", "TRANSACTION"),
        "WORK",
    }
)


def _step_of(statement: list[Word]) -> Step | None:
    words, last = [word.upper for word in statement], statement[-1].text
    first, second = words[0], words[1] if len(words) > 1 else ""
    chains = words[-2:] == ["AND", "CHAIN"]
    match first, second:
        case ("BEGIN", _) | ("START", "TRANSACTION") | ("XA", "START" | "BEGIN"):
            return Step("begin")
        case ("COMMIT", "PREPARED") | ("XA", "COMMIT"):
            return Step("commit prepared")
        case ("PREPARE", "TRANSACTION") | ("XA", "PREPARE"):
            return Step("prepared")
        case ("ROLLBACK", "PREPARED"):
            return None
        case ("COMMIT" | "END", _):
            return Step("commit", chains=chains)
        case ("ROLLBACK" | "ABORT", _):
            is_to = "TO" in words[1:3] or (second.startswith("TRAN") and len(words) == 3)
            return Step("roll back to", _folded(last)) if is_to else Step("roll back", chains=chains)
        case ("XA", "ROLLBACK"):
            return Step("roll back")
        case ("SAVEPOINT", _) | ("SAVE", _):
            return Step("savepoint", _folded(last))
        case ("RELEASE", _):
            return Step("release", _folded(last))
        case ("SET", _):
            return _set_autocommit(words)
    return None


def _set_autocommit(words: list[str]) -> Step | None:
    """MariaDB: SET autocommit = 0, SET @@session.autocommit = ON, SET SESSION autocommit := 1."""
    if not any("AUTOCOMMIT" in word for word in words):
        return None
    return Step("autocommit off" if words[-1] in ("0", "OFF", "FALSE") else "autocommit on")


def _folded(name: str) -> str:
    return name.strip("\"`[]'").casefold()
