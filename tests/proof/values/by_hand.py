"""
Django's cache as it is used by hand: a key for each row of `Stock`, read by `get` and `get_or_set`, and deleted or set
by whoever writes the row.

The application does what it has to: it deletes or sets the key in the same transaction, or deletes it after the commit.
So whoever reads the key may find nothing, or the truth.

What was set or added in a transaction may be seen by others until its end, as ever in Django, and by nobody after a
rollback.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from django.core.cache import caches
from django.db import transaction
from django.db.models import F

from django_integration import invalidate
from tests.proof.simulation.choices import Choices

from .kinds import happens
from .models import Stock

ALIASES = ("one", "two")
MISSING = "nothing"


def key_of(pk: int) -> str:
    """The key of a row."""
    return f"stock:{pk}"


def amount_of(pk: int) -> int:
    """The truth."""
    return Stock.objects.values_list("amount", flat=True).get(pk=pk)


Reading = tuple[str, Callable[[], Any], bool]
"""Its text, how it is done, and whether it is a change of the key if it finds nothing."""


def draw_reading(choices: Choices, alias: str, pk: int, *, wrote: bool) -> Reading:
    """
    A read of the key, in one of the ways of Django's cache. It returns the amount, or MISSING.

    Args:
        wrote: whether the reader's transaction has written.
    """
    key = key_of(pk)

    def get_or_set() -> Any:
        return caches[alias].get_or_set(key, lambda: amount_of(pk))

    def get() -> Any:
        return caches[alias].get(key, MISSING)

    def get_then_set() -> Any:
        amount = caches[alias].get(key)
        if amount is None:
            amount = amount_of(pk)
            caches[alias].set(key, amount)
        return amount

    def get_then_add() -> Any:
        amount = caches[alias].get(key)
        if amount is None:
            amount = amount_of(pk)
            caches[alias].add(key, amount)
        return amount

    def get_many() -> Any:
        keys = [key_of(other) for other in (1, 2)]
        return caches[alias].get_many([key, *keys]).get(key, MISSING)

    ways = [get_or_set, get, get_then_set]
    if alias == "one" or happens("backend"):
        ways.append(get_many)
    if not wrote or happens("backend"):
        ways.append(get_then_add)
    read = choices.pick(ways)
    return f"caches[{alias!r}].{read.__name__}({key!r})", read, read is get_then_add


class Writing(NamedTuple):
    """
    A change of a row and of its key.

    Args:
        owes: whether the key is deleted only after the commit.
        sets: whether it is set.
    """

    text: str
    do: Callable[[], object]
    owes: bool = False
    sets: bool = False


def draw_writing(choices: Choices, pk: int, *, in_transaction: bool) -> Writing:
    """A change of the row, and of its key in each cache."""
    key, amount = key_of(pk), choices.draw(4)
    change: Callable[[], object] = lambda: Stock.objects.filter(pk=pk).update(amount=F("amount") + 1)  # noqa: E731
    changed = f"Stock({pk}).amount += 1"
    if choices.draw(2):
        change, changed = lambda: Stock.objects.filter(pk=pk).update(amount=amount), f"Stock({pk}).amount = {amount}"

    def each(do: Callable[[Any], object]) -> None:
        for alias in ALIASES:
            do(caches[alias])

    def delete() -> None:
        each(lambda cache: cache.delete(key))

    def by_name() -> None:
        each(lambda cache: cache.delete(key) if not hasattr(cache, "key_name") else invalidate(cache.key_name(key)))

    def set_() -> None:
        value = amount_of(pk)
        each(lambda cache: cache.set(key, value))

    def set_many() -> None:
        value = amount_of(pk)
        each(lambda cache: cache.set_many({key: value}))

    if not in_transaction:
        then = choices.pick((delete, by_name))

        def write() -> None:
            try:
                change()
            finally:  # it may have been done, though it failed
                then()

        return Writing(f"{changed}; {then.__name__}({key!r})", write)
    ways: list[Any] = [by_name]
    if happens("backend"):
        ways += [delete, set_, set_many]
    then = choices.pick((None, *ways))
    if then is None:
        do = lambda: (change(), transaction.on_commit(delete))  # noqa: E731
        return Writing(f"{changed}; on_commit(delete {key!r})", do, owes=True)
    text = f"{changed}; {then.__name__.strip('_')}({key!r})"
    return Writing(text, lambda: (change(), then()), sets=then in (set_, set_many))
