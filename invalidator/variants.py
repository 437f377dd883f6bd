"""
Several values under one name: variants of a key.

A key as people write it is a *name*: what every process, page and person can invalidate. It does not always say enough
to store a value under: two functions may have one key template, the texts of two arguments may run into each other
("page:1:2:3"), and a value may depend on what no argument says (the tenant). So a value can be stored under a
**variant** of its key: the same name, and behind a mark what tells this value from the others.

Rule 1: the name of a variant is its key's. Whatever invalidates the name voids all of them, and outside of this process
nobody hears of variants: messages, callbacks, pages and logs say the name.
Rule 2: the mark is drawn at random, so that no key of the application's contains it.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator

_MARK = f"\x00{secrets.token_hex(8)}\x00"


def variant_of(key: str, *parts: str) -> str:
    """Return the variant of *key*, itself a variant or not, that *parts* tell from all others."""
    return _MARK.join((key, *parts))


def name_of(key: str) -> str:
    """Return the name of *key*: itself, unless it is a variant."""
    return key.partition(_MARK)[0]


def is_variant(key: object) -> bool:
    """Whether *key* is a variant."""
    return isinstance(key, str) and _MARK in key


def within(key: str, part: str) -> str:
    """Return the variant of the name of *key* that *part* tells from the others, and of that one what *key* is."""
    name, mark, own = key.partition(_MARK)
    return f"{name}{_MARK}{part}{mark}{own}"


class Variants:
    """The variants that are stored, by each key that they are variants of. (Its owner has a lock.)"""

    def __init__(self) -> None:
        # Most keys have one variant, and a dictionary for it would be larger than all the rest.
        self._stored: dict[str, str | dict[str, None]] = {}

    def add(self, key: str) -> None:
        """The variant *key* is stored."""
        for of in _ancestors(key):
            there = self._stored.setdefault(of, key)
            if there is not key and there != key:
                if isinstance(there, str):
                    there = self._stored[of] = {there: None}
                there[key] = None

    def discard(self, key: str) -> None:
        """The variant *key* is stored no longer."""
        for of in _ancestors(key):
            there = self._stored.get(of)
            if isinstance(there, dict):
                there.pop(key, None)
                if not there:
                    del self._stored[of]
            elif there == key:
                del self._stored[of]

    def of(self, key: str) -> tuple[str, ...]:
        """Return the variants of *key* that are stored."""
        there = self._stored.get(key, ())
        return (there,) if isinstance(there, str) else tuple(there)

    def __contains__(self, key: str) -> bool:
        """Whether a variant of *key* is stored. Needs no lock."""
        return key in self._stored


def _ancestors(key: str) -> Iterator[str]:
    """Yield what *key* is a variant of: from its nearest to its name."""
    while (end := key.rfind(_MARK)) >= 0:
        key = key[:end]
        yield key
