"""A stale hit fails the test."""

import pytest

from django_integration import cache, invalidate, tag
from django_integration.testing import (
    isolated,
    verify_reads,
)


def read_a_stale_price() -> None:
    prices = {"lamp": 1}
    with isolated(MAX_STALENESS=0.6), verify_reads():
        cache.get_or_set("lamp", lambda: prices["lamp"], tags=["prices"])
        prices["lamp"] = 2
        cache.get_or_set("lamp", lambda: prices["lamp"], tags=["prices"])


def read_a_stale_price_and_fail() -> None:
    prices = {"lamp": 1}
    with isolated(MAX_STALENESS=0.6), verify_reads():
        cache.get_or_set("lamp", lambda: prices["lamp"])
        prices["lamp"] = 2
        cache.get_or_set("lamp", lambda: prices["lamp"])
        raise LookupError


def test_a_stale_read_fails_the_test_with_a_table() -> None:
    with pytest.raises(AssertionError, match="1 stale read that nothing had invalidated") as failure:
        read_a_stale_price()
    assert "lamp  (cache, cached" in str(failure.value)
    assert "different: 1 → 2" in str(failure.value)
    assert "its tags:  prices" in str(failure.value)


def test_what_a_verified_block_raises_comes_first() -> None:
    with pytest.raises(LookupError):
        read_a_stale_price_and_fail()


def test_what_is_invalidated_passes_and_can_be_counted() -> None:
    prices = {"lamp": 1}
    ask = lambda: cache.get_or_set("lamp", lambda: prices["lamp"], tags=["prices"])  # noqa: E731
    with isolated(), verify_reads() as reads:
        ask()
        prices["lamp"] = 2
        invalidate(tag("prices"))
        assert [ask(), ask()] == [2, 2]
    assert reads.report().counts.reloaded == 1
