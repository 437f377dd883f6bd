"""What `django_integration.testing` gives to the tests of an application, tried in Django's own test classes."""

import unittest
from typing import Any

import pytest
from django.conf import settings
from django.db import connection, transaction
from django.test import TestCase

from django_integration import cache, invalidate, row_tags
from django_integration.testing import (
    InvalidationMixin,
    InvalidationTestCase,
    InvalidationTransactionTestCase,
    capture_invalidations,
)
from tests.support import wait_until

from ..zoo.models import Cage


def passes(case: type[unittest.TestCase]) -> None:
    """Run all tests of *case* as Django's runner would; fail as they do."""
    result = unittest.TestResult()
    unittest.defaultTestLoader.loadTestsFromTestCase(case).run(result)
    assert result.testsRun
    assert not result.errors, result.errors[0][1]
    assert not result.failures, result.failures[0][1]


class Commits(InvalidationTestCase):
    """In a TestCase of ours the application's outermost blocks are commits."""

    cage: Cage

    @classmethod
    def setUpTestData(cls) -> None:
        cls.cage = Cage.objects.create(name="old")

    def cached_name(self) -> str:
        def load() -> str:
            return Cage.objects.get(pk=self.cage.pk).name

        name: str = cache.get_or_set("name", load, tags=row_tags(self.cage))
        return name

    def test_a_write_counts_at_once(self) -> None:
        other = self.invalidator_bus.other_server()
        other.set("theirs", 1, tags=row_tags(self.cage))
        assert self.cached_name() == "old"
        self.cage.name = "new"
        self.cage.save()
        assert self.cached_name() == "new"
        assert "name" in cache
        wait_until(lambda: "theirs" not in other)

    def test_a_block_counts_at_its_end(self) -> None:
        with capture_invalidations() as captured, transaction.atomic():
            self.cage.save()
            with transaction.atomic():
                invalidate("a")
            assert not captured
        assert len(captured) == 1
        assert "a" in captured
        assert Cage in captured

    def test_a_block_without_a_savepoint_too(self) -> None:
        with self.assertInvalidates("a"), transaction.atomic(savepoint=False):
            invalidate("a")

    def test_what_is_rolled_back_is_not_published(self) -> None:
        with self.assertInvalidatesNothing():
            with pytest.raises(ZeroDivisionError), transaction.atomic():  # noqa: PT012
                self.cage.save()
                raise ZeroDivisionError
            with transaction.atomic():
                self.cage.save()
                transaction.set_rollback(True)
        with self.assertInvalidates("b"), transaction.atomic():
            invalidate("b")
            with pytest.raises(ZeroDivisionError), transaction.atomic():  # noqa: PT012
                self.cage.save()
                raise ZeroDivisionError

    def test_a_failed_block_without_a_savepoint_publishes_nothing(self) -> None:
        with self.assertInvalidatesNothing():
            with pytest.raises(ZeroDivisionError), transaction.atomic(savepoint=False):  # noqa: PT012
                invalidate("a")
                raise ZeroDivisionError
            transaction.set_rollback(False)  # as a test may, which knows that nothing is broken
            with transaction.atomic():
                pass

    def test_every_block_is_published_once(self) -> None:
        for name in ("a", "b"):
            with capture_invalidations() as captured, transaction.atomic():
                invalidate(name)
            assert [one.keys for one in captured] == [(name,)]

    def test_blocks_of_another_database_are_no_transaction_of_this_one(self) -> None:
        with capture_invalidations() as captured, transaction.atomic():
            invalidate("a")
            assert not captured

    databases = {"default", "other"}  # noqa: RUF012 - as Django declares it

    def test_each_database_ends_for_itself(self) -> None:
        with capture_invalidations() as captured, transaction.atomic(using="other"):
            invalidate("at once")
            invalidate("later", using="other")
            assert captured.keys == ("at once",)
        assert captured.keys == ("at once", "later")

    def test_callbacks_of_others_are_captured_as_ever(self) -> None:
        ran: list[str] = []
        with self.captureOnCommitCallbacks(execute=True), transaction.atomic():
            invalidate("a")
            transaction.on_commit(lambda: ran.append("theirs"))
        assert ran == ["theirs"]

    def test_a_capture_of_callbacks_publishes_nothing_twice(self) -> None:
        with capture_invalidations() as captured, self.captureOnCommitCallbacks(execute=True):
            with transaction.atomic():
                invalidate("a")
            invalidate("b")
        assert [one.keys for one in captured] == [("a",), ("b",)]

    def test_durable_blocks_count(self) -> None:
        with self.assertInvalidates("a"), transaction.atomic(durable=True):
            invalidate("a")


class StrictCommits(InvalidationTestCase):
    """Strict writes open transactions of their own; nothing is held where nothing is committed."""

    invalidator_settings = {"WRITES": "strict"}  # noqa: RUF012

    def test_a_write_is_published_and_not_held(self) -> None:
        with capture_invalidations() as captured:
            cage = Cage.objects.create()
        assert len(captured) == 1
        assert cage in captured
        cache.set("a", 1, tags=row_tags(cage))
        assert "a" in cache


class RealCommits(InvalidationTransactionTestCase):
    """Where commits are real, each is published once."""

    def test_a_commit_is_one_message(self) -> None:
        with capture_invalidations() as captured, transaction.atomic():
            cage = Cage.objects.create()
            assert not captured
        assert len(captured) == 1
        assert cage in captured

    def test_a_rollback_is_none(self) -> None:
        with self.assertInvalidatesNothing(), pytest.raises(ZeroDivisionError), transaction.atomic():  # noqa: PT012
            Cage.objects.create()
            raise ZeroDivisionError


class Isolation(InvalidationMixin, TestCase):
    """Each test begins with empty caches, in whichever order they run."""

    buses: set[str] = set()  # noqa: RUF012

    def _check(self) -> None:
        assert "a" not in cache
        cache.set("a", 1)
        assert settings.INVALIDATOR["URL"] == self.invalidator_bus.url
        assert self.invalidator_bus.url not in self.buses
        self.buses.add(self.invalidator_bus.url)

    def test_one(self) -> None:
        self._check()

    def test_two(self) -> None:
        self._check()


def test_djangos_runner_runs_them(databases: Any) -> None:
    """pytest has its own way to run them; this is Django's."""
    for case in (Commits, StrictCommits, RealCommits, Isolation):
        passes(case)
    assert not connection.in_atomic_block


@pytest.mark.usefixtures("databases")
def test_a_test_class_verifies_reads() -> None:
    """Whose writes are committed as far as caches know."""

    class Verifying(InvalidationTestCase):
        def test_a_row_that_is_saved(self) -> None:
            cage = Cage.objects.create(name="old")
            ask = lambda: cache.get_or_set("cage", lambda: Cage.objects.get(pk=cage.pk), tags=row_tags(cage))  # noqa: E731
            with self.verifyReads() as reads:
                ask()
                ask()
                cage.name = "new"
                cage.save()
                assert ask().name == "new"
            assert reads.report().counts.same == 1

    passes(Verifying)
