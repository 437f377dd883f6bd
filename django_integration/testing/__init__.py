"""
What tests of an application need: a bus of their own, and captures of what is published.

    class PriceTests(InvalidationTestCase):
        def test_a_new_price_reaches_the_pages(self):
            with self.assertInvalidates(self.product, "category:1", tag("prices")):
                self.product.set_price(20)

The same without a test class: `isolated`, `capture_invalidations`, `assert_invalidates`. With pytest-django every test
is isolated by itself, and has the fixtures `invalidations` and `invalidator_bus` (`pytest_fixtures.py`).

Rule 1: an isolated test has a `memory://` bus that no other process or test uses, and near caches that are empty at
its start. It leaves none of its threads, holds or entries behind.
Rule 2: inside a `TestCase` Django commits nothing. There, with these tools or without, the end of the application's own
outermost atomic block is treated as its commit, and a write outside of any block as committed at once
(`transactions/in_tests.py`). `on_commit` callbacks are left to Django.
"""

from .captures import (
    Invalidations,
    PublishedMessage,
    assert_invalidates,
    assert_invalidates_nothing,
    capture_invalidations,
)
from .cases import InvalidationMixin, InvalidationTestCase, InvalidationTransactionTestCase
from .isolation import IsolatedBus, isolated
from .verifying import verify_reads

__all__ = [
    "InvalidationMixin",
    "InvalidationTestCase",
    "InvalidationTransactionTestCase",
    "Invalidations",
    "IsolatedBus",
    "PublishedMessage",
    "assert_invalidates",
    "assert_invalidates_nothing",
    "capture_invalidations",
    "isolated",
    "verify_reads",
]
