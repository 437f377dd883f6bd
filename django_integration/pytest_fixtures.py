"""
Fixtures for pytest-django, loaded by `invalidator_pytest.py`: every test is isolated, and can see what it publishes.

    def test_a_new_price_reaches_the_pages(db, product, invalidations):
        product.set_price(20)
        assert product in invalidations

`invalidator_isolate = false` in the ini-file turns the isolation off; `@pytest.mark.invalidator(WRITES="strict")`
changes settings for a test, and isolates it in any case.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from .testing.captures import Invalidations, capture_invalidations
from .testing.isolation import IsolatedBus, isolated


@pytest.fixture(autouse=True)
def _invalidator_isolation(request: pytest.FixtureRequest) -> Iterator[IsolatedBus | None]:
    marks = list(request.node.iter_markers("invalidator"))
    if not (request.config.getini("invalidator_isolate") or marks):
        yield None
        return
    settings: dict[str, Any] = {}
    for mark in reversed(marks):  # the closest comes first
        settings |= mark.kwargs
    with isolated(**settings) as memory:
        yield memory


@pytest.fixture
def invalidator_bus(_invalidator_isolation: IsolatedBus | None) -> IsolatedBus:
    """The bus of this test, which can lose, delay and repeat messages."""
    if _invalidator_isolation is None:
        pytest.fail("invalidator_bus needs an isolated test: invalidator_isolate is false here", pytrace=False)
    return _invalidator_isolation


@pytest.fixture
def invalidations(_invalidator_isolation: IsolatedBus | None) -> Iterator[Invalidations]:
    """What this test has published so far, one object for each message: see `capture_invalidations`."""
    with capture_invalidations() as captured:
        yield captured
