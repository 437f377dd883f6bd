"""Test classes that run every test isolated, and `isolated`, which does the same for a block."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, ClassVar
from unittest import TestResult

from django.db import connections
from django.test import TestCase, TransactionTestCase

from ..monitoring.verifier import Verifier
from ..names import Target
from ..transactions import batches, progress
from .captures import Invalidations, assert_invalidates, assert_invalidates_nothing
from .commits import commits_in_test_cases
from .isolation import IsolatedBus, isolated_bus
from .verifying import verify_reads


@contextlib.contextmanager
def isolated(**settings: Any) -> Iterator[IsolatedBus]:
    """Inside the block: `isolated_bus` and `commits_in_test_cases`, as every test should run."""
    with isolated_bus(**settings) as memory, commits_in_test_cases():
        for connection in connections.all(initialized_only=True):
            if connection.in_atomic_block and not progress.has_own_block(connection):
                # Written by setUpTestData: no cache of this test is older.
                batches.end_in_test_case(connection, committed=False)
        yield memory


if TYPE_CHECKING:
    _Base = TransactionTestCase
else:
    _Base = object


class InvalidationMixin(_Base):
    """
    For Django's test classes: isolates each test, treats blocks inside a `TestCase` as committed, has the assertions.

        class PriceTests(InvalidationMixin, LiveServerTestCase): ...

    Attributes:
        invalidator_settings: keys of INVALIDATOR that differ from the project's in this class.
        invalidator_bus: the bus of the test that is running.
    """

    invalidator_settings: ClassVar[Mapping[str, Any]] = {}
    invalidator_bus: IsolatedBus

    @classmethod
    def setUpClass(cls) -> None:
        """See Django. What is written for the whole class is not published on the buses of its tests."""
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
