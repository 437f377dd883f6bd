"""Tests of the application, with the helpers."""

from typing import assert_type

import pytest
from django.test import LiveServerTestCase

from django_integration import invalidate, tag
from django_integration.testing import (
    InvalidationMixin,
    Invalidations,
    InvalidationTestCase,
    InvalidationTransactionTestCase,
    IsolatedBus,
    PublishedMessage,
    assert_invalidates,
    assert_invalidates_nothing,
    capture_invalidations,
    isolated,
)
from invalidator import NearCache

from .models import Product


class ProductTests(InvalidationTestCase):
    invalidator_settings = {"WRITES": "strict"}  # noqa: RUF012

    product: Product

    @classmethod
    def setUpTestData(cls) -> None:
        cls.product = Product.objects.create(name="lamp")

    def test_it(self) -> None:
        with self.assertInvalidates(self.product, Product, "product:1", tag("prices")) as told:
            self.product.save()
        assert_type(told, Invalidations)
        assert_type(told[0], PublishedMessage)
        assert_type(told[0].models[0].__name__, str)
        with self.assertInvalidatesNothing():
            self.product.refresh_from_db()
        assert_type(self.invalidator_bus.other_server(max_staleness=1), NearCache)


class LiveTests(InvalidationMixin, LiveServerTestCase):
    def test_it(self) -> None:
        with capture_invalidations() as told:
            invalidate("a")
        assert "a" in told


class CommitTests(InvalidationTransactionTestCase):
    pass


@pytest.mark.invalidator(WRITES="strict")
def test_with_pytest(invalidations: Invalidations, invalidator_bus: IsolatedBus) -> None:
    with invalidator_bus.delayed(), assert_invalidates("a"):
        invalidate("a")
    assert invalidations.keys == ("a",)
    with isolated(PUBLISH="raise") as memory, assert_invalidates_nothing():
        assert_type(memory, IsolatedBus)
    with isolated() as memory:
        memory.cut()
