"""
What tests of an application need: a bus of their own, commits inside a `TestCase`, and to see what would be told.

    class PriceTests(InvalidationTestCase):
        def test_a_new_price_reaches_the_pages(self):
            with self.assertInvalidates(self.product, "category:1", tag("prices")):
                self.product.set_price(20)

The same without a test class: `isolated`, `capture_invalidations`, `assert_invalidates`. With pytest-django every test
is isolated by itself, and has the fixtures `invalidations` and `invalidator_bus` (`pytest_fixtures.py`).

Rule 1: an isolated test has a `memory://` bus that nobody else hears, and near caches that were empty. It leaves none
of its threads, holds or entries behind.
Rule 2: inside a `TestCase` nothing is committed. Here the end of the application's own outermost atomic block counts as
the commit, and what is written outside of any counts at once; a savepoint that is rolled back drops its names as ever.
Other `on_commit` callbacks are Django's business.
Rule 3: a capture sees messages as they leave this process' bus, one object for each, and at its end what a transaction
still in progress would tell.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, overload
from unittest import TestResult

from django.apps import apps
from django.db import DEFAULT_DB_ALIAS, connections, transaction
from django.db.models import Model
from django.test import TestCase, TransactionTestCase, override_settings

from invalidator import Invalidator, NearCache, Tag, check_key
from invalidator.testing import MemoryBus

from . import conf, l2, observing, runtime, transactions
from .names import Names, Target, is_model, is_watched, model_tag, row_tag, row_tags
from .verifier import Verifier

MAX_STALENESS_S = 7.5
"""
A lease that outlives the pauses of a loaded machine, so that what leaves a cache in a test was invalidated; and as long
as the default HOLD asks for (check W001).
"""
PATIENCE_S = 30.0
"""For what takes a millisecond."""
MOST_SHOWN = 20
"""Names of each kind in a message of a failed assertion."""


# A bus of one's own.


class IsolatedBus(MemoryBus):
    """The bus of one test; `lose`, `delayed`, `repeat`, `cut` and `down` break it, see `MemoryBus`."""

    def __init__(self) -> None:
        super().__init__()
        self._others = contextlib.ExitStack()

    def other_server(self, **options: Any) -> NearCache:
        """
        Return the near cache of another server of this application, which hears what this process tells.

        Args:
            options: of `NearCache` and `Invalidator`, such as `max_staleness=0.5`.
        """
        namespace, max_staleness = conf.conf.namespace, conf.conf.max_staleness
        cache = NearCache(self.url, **{"namespace": namespace, "max_staleness": max_staleness, **options})
        self._others.callback(cache.close)
        if not cache.bus.wait_until_leased(PATIENCE_S):
            raise TimeoutError(f"nothing is heard on {self.url}: is it delayed?")
        return cache

    @contextlib.contextmanager
    def delayed(self) -> Iterator[None]:
        """See `MemoryBus.delayed`."""
        runtime.bus()  # if there was none: it waits until it hears
        with super().delayed():
            yield

    def close(self) -> None:
        """See `MemoryBus.close`; the other servers end as well."""
        self._others.close()
        super().close()


@contextlib.contextmanager
def isolated_bus(**settings: Any) -> Iterator[IsolatedBus]:
    """
    Inside the block this process has a bus of its own and empty near caches: the default one and those of every
    `NearCacheBackend`. (What a second level holds is that cache's own.)

    Args:
        settings: keys of INVALIDATOR that differ from the project's, such as `WRITES="strict"`.
    """
    with IsolatedBus() as memory:
        own = {"URL": memory.url, "SIDECAR": None, "MAX_STALENESS": MAX_STALENESS_S, **settings}
        # Both ends of it close whatever bus there is, and the near caches on it.
        with override_settings(**{conf.SETTING: {"NAMESPACE": "tests", **conf.given(), **own}}):
            try:
                yield memory
            finally:
                l2.abandon()


def _hear_from_the_beginning(bus: Invalidator) -> None:
    # What is stored before the first proof is void with it, and a test would see a second load. (A sidecar's proof is
    # its own affair.)
    if bus.url.startswith("memory://") and bus.status().listener == "own":
        bus.wait_until_leased(PATIENCE_S)


runtime.on_made(_hear_from_the_beginning)


# Commits inside a TestCase.

_Atomic = transaction.Atomic
_real_exit: Any = _Atomic.__exit__
_commits = 0


@contextlib.contextmanager
def commits_in_test_cases() -> Iterator[None]:
    """Inside the block the transaction around a `TestCase` counts as none: rule 2. May be nested."""
    global _commits, _real_exit  # noqa: PLW0603 - the patch is as global
    _commits += 1
    if _commits == 1:
        _real_exit = _Atomic.__exit__
        _Atomic.__exit__ = _exit_and_tell  # type: ignore[method-assign]
        transactions.test_cases_commit = True
    try:
        yield
    finally:
        _commits -= 1
        if _commits == 0:
            _Atomic.__exit__ = _real_exit  # type: ignore[method-assign]
            transactions.test_cases_commit = False


def _exit_and_tell(block: Any, kind: Any, error: Any, trace: Any) -> None:
    """In the place of `Atomic.__exit__`."""
    connection = connections[block.using or DEFAULT_DB_ALIAS]
    is_good = kind is None and not connection.needs_rollback
    try:
        _real_exit(block, kind, error, trace)
    except BaseException:
        is_good = False
        raise
    finally:
        # Outside of any block it was a real transaction, and has really ended.
        is_inside = connection.in_atomic_block and not getattr(block, "_from_testcase", False)
        if is_inside and not transactions.has_own_block(connection):
            transactions.end_in_test_case(connection, committed=is_good)


@contextlib.contextmanager
def isolated(**settings: Any) -> Iterator[IsolatedBus]:
    """`isolated_bus` and `commits_in_test_cases` at once: what every test should run in."""
    with isolated_bus(**settings) as memory, commits_in_test_cases():
        for connection in connections.all(initialized_only=True):
            if connection.in_atomic_block and not transactions.has_own_block(connection):
                # Written for the whole class, before there was any cache that could know better.
                transactions.end_in_test_case(connection, committed=False)
        yield memory


# What is told.


@dataclass(frozen=True, slots=True)
class Told:
    """
    One message: what one transaction, or one call of `invalidate` outside of any, tells every server.

    `target in told` asks whether it makes that key, `tag()`, row or model stale.

    Attributes:
        keys, tags: the names, in the order in which they were said.
        everything: it is a clear of the whole namespace.
        pending: it waits for the end of a transaction that was still in progress when the capture ended.
    """

    keys: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    everything: bool = False
    pending: bool = False

    @property
    def models(self) -> tuple[type[Model], ...]:
        """The models of which it says that something in their table changed."""
        return tuple(model for name in self.tags if (model := _model_called(name)))

    @property
    def rows(self) -> tuple[str, ...]:
        """Tags of rows, such as "shop.product:42"; "shop.product:*" if nobody knows which."""
        return tuple(name for name in self.tags if ":" in name and _model_called(name.partition(":")[0]))

    @property
    def fields(self) -> tuple[str, ...]:
        """Tags of values of columns, such as "shop.product[category_id=1]"."""
        return tuple(name for name in self.tags if "[" in name and _model_called(name.partition("[")[0]))

    def __contains__(self, target: Target) -> bool:
        return _Expected(target).is_met_by(self)

    def __str__(self) -> str:
        models = {model_tag(model) for model in self.models}
        known = {*models, *self.rows, *self.fields}
        kinds = {
            "keys": self.keys,
            "rows": self.rows,
            "models": [name for name in self.tags if name in models],
            "tags": [name for name in self.tags if name not in known],
            "fields": self.fields,
        }
        words = (
            ["everything"] if self.everything else [f"{what} {_some(names)}" for what, names in kinds.items() if names]
        )
        return "; ".join(words) + (" (waits for the end of a transaction)" if self.pending else "")


class Invalidations:
    """
    The messages that a block told, in order. `target in invalidations` asks whether any of them makes a key, `tag()`,
    row or model stale.
    """

    def __init__(self) -> None:
        self._messages: list[Told] = []

    @overload
    def __getitem__(self, index: int) -> Told: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Told]: ...
    def __getitem__(self, index: int | slice) -> Told | Sequence[Told]:
        return self._messages[index]

    def __len__(self) -> int:
        return len(self._messages)

    def __iter__(self) -> Iterator[Told]:
        return iter(self._messages)

    def __contains__(self, target: object) -> bool:
        if isinstance(target, Told):
            return target in self._messages
        expected = _Expected(target)  # type: ignore[arg-type] # it says what is wrong with others
        return any(map(expected.is_met_by, self._messages))

    def __repr__(self) -> str:
        return f"<{len(self)} invalidations: {' | '.join(map(str, self))}>" if self else "<no invalidations>"

    @property
    def keys(self) -> tuple[str, ...]:
        """The keys of all messages, each once."""
        return tuple(dict.fromkeys(key for told in self for key in told.keys))

    @property
    def tags(self) -> tuple[str, ...]:
        """The tags of all messages, each once."""
        return tuple(dict.fromkeys(name for told in self for name in told.tags))

    def clear(self) -> None:
        """Forget what was told so far."""
        self._messages.clear()

    def describe(self) -> str:
        """For people, a line for each message."""
        if not self:
            return "Nothing was told."
        lines = [f"  {number}. {told}" for number, told in enumerate(self._messages[:MOST_SHOWN], 1)]
        more = len(self) - len(lines)
        return "\n".join(["Told was:", *lines, *([f"  … and {more} more messages"] if more else [])])

    def _add(self, told: Told) -> None:
        self._messages.append(told)


@contextlib.contextmanager
def capture_invalidations() -> Iterator[Invalidations]:
    """
    See what the block tells: one `Told` for each message.

    Inside a `TestCase` it sees what a real commit would tell (rule 2); in a `TransactionTestCase` what is told, from
    whichever thread.
    """
    told = Invalidations()

    def hear(keys: tuple[str, ...], tags: tuple[str, ...], everything: bool) -> None:
        told._add(Told(keys, tags, everything))  # noqa: SLF001 - the same module

    with commits_in_test_cases():
        before = {batch: Names(dict(names.keys), dict(names.tags), names.everything) for batch, names in _waiting()}
        runtime.publish_observers.append(hear)
        try:
            yield told
        finally:
            runtime.publish_observers.remove(hear)
        for batch, names in _waiting():
            new = _without(names, before.get(batch, Names()))
            if new:
                told._add(Told(tuple(new.keys), tuple(new.tags), new.everything, pending=True))  # noqa: SLF001


def _waiting() -> Iterator[tuple[transactions.Batch, Names]]:
    """What this thread's transactions would tell if they ended now."""
    for connection in connections.all(initialized_only=True):
        for batch in transactions.batches_of(connection):
            yield batch, batch.names


def _without(names: Names, others: Names) -> Names:
    return Names(
        {key: None for key in names.keys if key not in others.keys},
        {name: None for name in names.tags if name not in others.tags},
        names.everything and not others.everything,
    )


@contextlib.contextmanager
def assert_invalidates(*targets: Target) -> Iterator[Invalidations]:
    """
    Fail unless the block makes each of *targets* stale: keys (str), tags (`tag("prices")`), rows and models.

    A row is stale if its own tag is told, or that of unknown rows; everything is, if all is cleared.

    Raises:
        AssertionError: it does not; the message says what is missing, and what was told.
        TypeError, InvalidName: a target is none, such as a row that was never saved.
    """
    if not targets:
        raise TypeError("name what is to be invalidated; if nothing is, write assert_invalidates_nothing()")
    expected = [_Expected(target) for target in targets]  # now: a row that is deleted has no primary key any more
    with capture_invalidations() as told:
        yield told
    missing = [one for one in expected if not any(map(one.is_met_by, told))]
    if missing:
        raise AssertionError("\n".join([f"Not invalidated: {', '.join(map(str, missing))}.", told.describe()]))


@contextlib.contextmanager
def assert_invalidates_nothing() -> Iterator[Invalidations]:
    """Fail if the block tells anything. Raises AssertionError with what it told."""
    with capture_invalidations() as told:
        yield told
    if told:
        raise AssertionError(f"Nothing was to be invalidated.\n{told.describe()}")


class _Expected:
    """One target, and the names of which any one makes it stale."""

    def __init__(self, target: Target) -> None:
        Names().add(target)  # refuses what is none
        self._keys: tuple[str, ...] = ()
        self._tags: tuple[str, ...] = ()
        self._note = ""
        if isinstance(target, str):
            self._keys = (check_key(target),)
            self._text = f"key {target!r}"
        elif isinstance(target, Tag):
            self._tags = (target.name,)
            self._text = f"tag {target.name!r}"
        elif isinstance(target, Model):
            self._tags = row_tags(target)
            self._text = f"row {row_tag(target)}"
            self._note = _note_about(type(target))
        elif is_model(target):
            self._tags = (model_tag(target),)
            self._text = f"model {model_tag(target)}"
            self._note = _note_about(target)

    def is_met_by(self, told: Told) -> bool:
        """Whether *told* makes the target stale."""
        return (
            told.everything
            or any(key in told.keys for key in self._keys)
            or any(tag in told.tags for tag in self._tags)
        )

    def __str__(self) -> str:
        return self._text + self._note


def _note_about(model: type[Model]) -> str:
    return "" if is_watched(model) else " (its model is not watched)"


def _model_called(label: str) -> type[Model] | None:
    try:
        return apps.get_model(label)
    except (LookupError, ValueError):
        return None


def _some(names: Iterable[str]) -> str:
    names = list(names)
    more = len(names) - MOST_SHOWN
    return " ".join([*names[:MOST_SHOWN], *([f"… and {more} more"] if more > 0 else [])])


# What is stale.


@contextlib.contextmanager
def verify_reads(*, ignore: Iterable[str] = ()) -> Iterator[Verifier]:
    """
    Fail if a value that was cached and hit inside the block was stale, and nothing had invalidated it.

    Every hit of `cached`, `get_or_set` and the backend's `get_or_set` is loaded once more and compared. Where the
    loaders give another answer each time, nothing is said; `report().not_deterministic` of what is returned names them.

    Args:
        ignore: patterns of keys that are left alone, such as "clock:*".

    Raises:
        AssertionError: there was one; the message is a table with its key, age, tags and what is different.
    """
    verifier = Verifier(settle_s=0, ignore=ignore)
    observing.review(verifier)
    try:
        yield verifier
    finally:
        observing.end_review(verifier)
        report = verifier.wait()
    if report.findings:
        reads = "1 stale read" if report.counts.stale == 1 else f"{report.counts.stale} stale reads"
        raise AssertionError("\n\n".join([f"{reads} that nothing had invalidated.", *map(str, report.findings)]))


# Test classes.

if TYPE_CHECKING:
    _Base = TransactionTestCase
else:
    _Base = object


class InvalidationMixin(_Base):
    """
    For test classes of Django's: isolates each test, commits inside `TestCase`, and brings the assertions.

        class PriceTests(InvalidationMixin, LiveServerTestCase): ...

    Attributes:
        invalidator_settings: keys of INVALIDATOR that differ from the project's in this class.
        invalidator_bus: the bus of the test that is running.
    """

    invalidator_settings: ClassVar[Mapping[str, Any]] = {}
    invalidator_bus: IsolatedBus

    @classmethod
    def setUpClass(cls) -> None:
        """See Django. What is written for the whole class is told to nobody."""
        cls.enterClassContext(isolated(**cls.invalidator_settings))
        super().setUpClass()

    def run(self, result: TestResult | None = None) -> TestResult | None:
        """See unittest."""
        with isolated(**self.invalidator_settings) as self.invalidator_bus:
            return super().run(result)

    def assertInvalidates(self, *targets: Target) -> AbstractContextManager[Invalidations]:  # noqa: N802
        """See `assert_invalidates`."""
        return assert_invalidates(*targets)

    def verifyReads(self, *, ignore: Iterable[str] = ()) -> AbstractContextManager[Verifier]:  # noqa: N802
        """See `verify_reads`."""
        return verify_reads(ignore=ignore)

    def assertInvalidatesNothing(self) -> AbstractContextManager[Invalidations]:  # noqa: N802
        """See `assert_invalidates_nothing`."""
        return assert_invalidates_nothing()


class InvalidationTestCase(InvalidationMixin, TestCase):
    """Django's `TestCase`, in which the application's transactions count as committed when they are over."""


class InvalidationTransactionTestCase(InvalidationMixin, TransactionTestCase):
    """Django's `TransactionTestCase`, on a bus of its own."""
