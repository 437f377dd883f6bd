"""
Queries through `cache.get_or_set`, each compared with the database at once; and a tally of the results.

Rule 1: the caller gets the value from the cache. The same query is then sent once more, past every cache, on the same
connection: a value that differs was stale, whatever the test asserts.
Rule 2: the comparing query is neither logged nor recorded, so the tests do not see it.
Rule 3: assertions about numbers of queries are counted and do not fail. A query more than expected is a needless void;
a query less is no fault, because each read is compared.
"""

from __future__ import annotations

import collections
import contextlib
import copy
import hashlib
import itertools
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Any

from django.db import connections
from django.db.models import Model
from django.test.utils import CaptureQueriesContext

from django_integration import cache
from django_integration.dependencies.recorder import recording

_past: ContextVar[bool] = ContextVar("past", default=False)


class Tally:
    """The reads since the start."""

    def __init__(self) -> None:
        self.test = "before the first test"
        self.reads = 0
        self.hits = 0
        self.verified = 0
        self.stale: list[str] = []
        self.needless: collections.Counter[str] = collections.Counter()
        """By test, how many more queries were sent than it expects."""
        self.spared = 0
        """How many queries were expected and not sent."""

    def counted(self, expected: int, sent: int) -> None:
        """Record that a test expects a number of queries."""
        if sent > expected:
            self.needless[self.test] += sent - expected
        self.spared += max(0, expected - sent)


tally = Tally()


@contextlib.contextmanager
def past_the_cache() -> Iterator[None]:
    """Inside the block, queries go to the database, unseen by logs and recorders."""
    token = _past.set(True)
    try:
        yield
    finally:
        _past.reset(token)


is_past_the_cache = _past.get


def read(key: str, load: Callable[[], Any], using: str) -> Any:
    """Return *key* from the cache, recording what its load reads; compare the value with the database."""
    loads = []

    def loader() -> Any:
        loads.append(key)
        with past_the_cache():
            return load()

    value = cache.get_or_set(key, loader)
    tally.reads += 1
    tally.hits += not loads
    _compare(key, value, load, using)
    return value


def hashed(*parts: object) -> str:
    """A key made of *parts*, whose beginning is legible."""
    text = " ".join(map(repr, parts))
    return f"{text.encode()[:300].decode(errors='ignore')}~{hashlib.blake2b(text.encode(), digest_size=16).hexdigest()}"


def copied(rows: Any) -> Any:
    """Copies of rows that the caller may change: those in the cache are shared."""
    return copy.deepcopy(rows)


def _compare(key: str, value: Any, load: Callable[[], Any], using: str) -> None:
    connection = connections[using]
    if connection.needs_rollback:
        return  # the database refuses to answer: there is nothing to compare with
    logs, connection.force_debug_cursor = connection.force_debug_cursor, False
    try:
        with recording(None), past_the_cache():
            fresh = load()
    finally:
        connection.force_debug_cursor = logs
    tally.verified += 1
    if not _is_same(facts(value), facts(fresh)):
        tally.stale.append(f"{tally.test}: {key}: cached {facts(value)!r}, in the database {facts(fresh)!r}")


def _is_same(one: Any, other: Any) -> bool:
    if one == other:
        return True
    if not isinstance(one, list) or not isinstance(other, list):
        return False
    # The order is undefined where the query has none. Rows come in chunks.
    return _without_order(one) == _without_order(other)


def _without_order(chunks: list[Any]) -> list[str]:
    rows = itertools.chain.from_iterable(chunk if isinstance(chunk, list) else [chunk] for chunk in chunks)
    return sorted(map(repr, rows))


def facts(value: Any, above: tuple[Model, ...] = ()) -> Any:
    """A comparable form of *value*: of a row, its columns, annotations and loaded relations."""
    if isinstance(value, Model):
        if any(value is row for row in above):
            return "itself"
        state = value._state
        around = (*above, value)
        columns = {name: facts(item, around) for name, item in vars(value).items() if not name.startswith("_")}
        related = {name: facts(item, around) for name, item in sorted(state.fields_cache.items())}
        return [type(value).__name__, state.db, state.adding, columns, related]
    if isinstance(value, memoryview | bytearray):
        return bytes(value)
    if isinstance(value, list | tuple):
        return [facts(item, above) for item in value]
    if isinstance(value, dict):
        return {key: facts(item, above) for key, item in value.items()}
    return value


TRANSACTIONS = {"BEGIN", "COMMIT", "ROLLBACK"}


def count_instead(context: type[CaptureQueriesContext]) -> None:
    """Let assertions about numbers of queries be counted: rule 3."""

    def __exit__(self: Any, kind: Any, error: Any, trace: Any) -> None:  # noqa: N807
        CaptureQueriesContext.__exit__(self, kind, error, trace)
        if kind is None:
            sent = [query for query in self.captured_queries if query["sql"].upper() not in TRANSACTIONS]
            tally.counted(self.num, len(sent))

    context.__exit__ = __exit__  # type: ignore[method-assign]
