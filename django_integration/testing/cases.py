"""Test classes that run every test isolated."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, ClassVar
from unittest import TestResult

from django.test import TestCase, TransactionTestCase

from ..monitoring.verifier import Verifier
from ..names import Target
from .captures import Invalidations, assert_invalidates, assert_invalidates_nothing
from .isolation import IsolatedBus, isolated
from .verifying import verify_reads

if TYPE_CHECKING:
    _Base = TransactionTestCase
else:
    _Base = object


class InvalidationMixin(_Base):
    """
    For Django's test classes: isolates each test, and has the assertions.

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
    """Django's `TestCase`, on a bus of its own."""


class InvalidationTransactionTestCase(InvalidationMixin, TransactionTestCase):
    """Django's `TransactionTestCase`, on a bus of its own."""
