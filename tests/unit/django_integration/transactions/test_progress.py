"""What is known of a connection's transaction: whether it is in one, since when, and whose it is."""

from collections.abc import Iterator

import pytest
from django.db import connection, connections, transaction
from django.test import TestCase

from django_integration import bus, invalidate
from django_integration.transactions import progress
from django_integration.transactions.progress import (
    began_at,
    blocks_of_test_case,
    has_own_block,
    is_in_own_transaction,
    is_in_test_case,
    is_in_transaction,
)

from ..conftest import Wire, keys

pytestmark = pytest.mark.usefixtures("db")


@pytest.fixture
def in_a_test_case() -> Iterator[None]:
    """The two atomic blocks that Django opens around a test of a TestCase."""

    class Case(TestCase):
        databases = frozenset({"default"})

    for_the_class = Case._enter_atomics()
    for_the_test = Case._enter_atomics()
    yield
    Case._rollback_atomics(for_the_test)
    Case._rollback_atomics(for_the_class)


def test_a_thread_may_connect_while_a_coroutine_looks_at_all_connections() -> None:
    """Otherwise a request fails because another one has opened its first connection."""
    seen = iter(progress.known)
    first = next(seen)
    other = first.copy()
    progress.known.add(other)
    assert other not in list(seen)
    assert other in list(progress.known)


def test_asking_for_a_transaction_connects_to_no_database(wire: Wire) -> None:
    replaced = connections["other"].connection
    try:
        connections["other"].connection = None
        invalidate("a", using="other")
        assert connections["other"].connection is None
    finally:
        connections["other"].connection = replaced
    assert wire.messages() == [keys("a")]


def test_a_transaction_is_an_atomic_block_or_autocommit_off() -> None:
    assert not is_in_transaction(connection)
    with transaction.atomic():
        assert is_in_transaction(connection)
    assert not is_in_transaction(connection)
    connection.set_autocommit(False)
    try:
        assert is_in_transaction(connection)
    finally:
        connection.set_autocommit(True)


def test_a_transaction_begins_after_the_one_before_and_not_with_a_nested_block() -> None:
    before = bus().clock()
    with transaction.atomic():
        began = began_at(connection)
        assert began >= before
        with transaction.atomic():
            assert began_at(connection) == began
    with transaction.atomic():
        assert began_at(connection) > began


def test_a_connection_of_which_nobody_knows_when_it_began_is_as_old_as_can_be() -> None:
    with transaction.atomic():
        del connections["default"]._invalidator_began
        assert began_at(connections["default"]) == 0


@pytest.mark.usefixtures("in_a_test_case")
def test_the_blocks_around_a_test_are_not_the_applications() -> None:
    assert blocks_of_test_case(connection) == 2
    assert is_in_test_case(connection)
    assert is_in_transaction(connection)
    assert not has_own_block(connection)
    with transaction.atomic():
        assert blocks_of_test_case(connection) == 2
        assert has_own_block(connection)


@pytest.mark.usefixtures("in_a_test_case")
def test_only_a_block_inside_a_test_is_the_applications_own_transaction() -> None:
    assert not is_in_own_transaction(connection)
    with transaction.atomic():
        assert is_in_own_transaction(connection)
        with transaction.atomic(savepoint=False):
            assert is_in_own_transaction(connection)
    with transaction.atomic(savepoint=False):
        assert is_in_own_transaction(connection)
    assert not is_in_own_transaction(connection)


def test_outside_a_test_case_every_transaction_is_the_applications() -> None:
    assert not is_in_test_case(connection)
    assert not is_in_own_transaction(connection)
    with transaction.atomic():
        assert is_in_own_transaction(connection)
        assert has_own_block(connection)
