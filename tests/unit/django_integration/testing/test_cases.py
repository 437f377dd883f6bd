"""What `django_integration.testing` gives to the tests of an application, tried in Django's own test classes."""

import threading
import unittest
from typing import Any

import pytest
from django.conf import settings
from django.contrib.contenttypes.models import ContentType
from django.core.cache import caches
from django.db import connection, transaction
from django.db.transaction import Atomic
from django.test import TestCase, override_settings

from django_integration import bus, cache, invalidate, row_tags, tag
from django_integration.testing import (
    InvalidationMixin,
    InvalidationTestCase,
    InvalidationTransactionTestCase,
    Told,
    assert_invalidates,
    assert_invalidates_nothing,
    capture_invalidations,
    captures,
    commits_in_test_cases,
    isolated,
    isolated_bus,
    verify_reads,
)
from django_integration.transactions import progress
from invalidator import InvalidName
from invalidator.link import memory as link
from tests.support import PATIENCE_S, wait_until

from ..zoo.models import Animal, Cage, Note, Pet, Ticket

BACKEND = {"default": {"BACKEND": "django_integration.backend.NearCacheBackend"}}


def passes(case: type[unittest.TestCase]) -> None:
    """Run all tests of *case* as Django's runner would; fail with what they say."""
    result = unittest.TestResult()
    unittest.defaultTestLoader.loadTestsFromTestCase(case).run(result)
    assert result.testsRun
    assert not result.errors, result.errors[0][1]
    assert not result.failures, result.failures[0][1]


@pytest.mark.usefixtures("databases")
class TestABusOfOnesOwn:
    def test_caches_are_empty_before_and_after(self) -> None:
        """The default cache and the places of the backend alike."""
        with override_settings(CACHES=BACKEND):
            cache.set("a", "outside")
            caches["default"].set("a", "outside")
            with isolated_bus():
                assert cache.get("a") is None
                assert caches["default"].get("a") is None
                cache.set("a", "inside")
                caches["default"].set("a", "inside")
                assert (cache.get("a"), caches["default"].get("a")) == ("inside", "inside")
            assert cache.get("a") is None
            assert caches["default"].get("a") is None

    def test_nothing_is_left_behind(self) -> None:
        bus().close()
        threads, servers, wrapped = set(threading.enumerate()), set(link._meetings), Atomic.__exit__
        with isolated() as memory:
            invalidate("a")
            cache.set("a", 1)
            memory.other_server().set("a", 1)
            assert set(threading.enumerate()) > threads
        assert set(threading.enumerate()) <= threads
        assert set(link._meetings) == servers
        assert Atomic.__exit__ is wrapped
        assert not progress.test_cases_commit

    def test_what_is_stored_first_stays(self) -> None:
        """The flush of the first subscription comes before it: a test that counts queries must not see two."""
        for _ in range(20):
            with isolated_bus():
                loads: list[int] = []
                for _ in range(2):
                    cache.get_or_set("a", lambda loads=loads: loads.append(1))
                assert bus().wait_until_leased(PATIENCE_S)
                cache.get_or_set("a", lambda loads=loads: loads.append(1))
                assert len(loads) == 1

    def test_another_server_hears_it_as_the_bus_permits(self) -> None:
        with isolated_bus() as memory:
            other = memory.other_server()
            other.set("a", 1)
            with memory.delayed():
                invalidate("a")
                assert other.get("a") == 1
            wait_until(lambda: "a" not in other)

    def test_settings_differ_as_asked(self) -> None:
        before = settings.INVALIDATOR
        with isolated_bus(WRITES="strict", NAMESPACE="apart"):
            assert bus().namespace == "apart"
            assert settings.INVALIDATOR["WRITES"] == "strict"
            with isolated_bus():
                assert settings.INVALIDATOR["WRITES"] == "strict"
        assert before == settings.INVALIDATOR


class TestTold:
    def test_a_message_can_be_read(self, db: None) -> None:
        with isolated_bus(), capture_invalidations() as told:
            cage = Cage.objects.create()
            invalidate("a", tag("prices"))
        saved, said = told
        assert saved.models == (Cage,)
        assert saved.rows == (f"zoo.cage:{cage.pk}",)
        assert said.keys == ("a",)
        assert said.tags == ("prices",)
        assert "zoo.cage[name=]" in saved.fields
        assert str(said) == "keys a; tags prices"
        assert told.keys == ("a",)
        assert {"zoo.cage", f"zoo.cage:{cage.pk}", "prices"} <= set(told.tags)

    def test_names_are_shown_by_their_kind(self) -> None:
        told = Told(("a", "b"), ("zoo.cage", "zoo.cage:1", "zoo.cage[name=x:y]", "prices", "no.such:1", "no[1]"))
        assert str(told) == (
            "keys a b; rows zoo.cage:1; models zoo.cage; tags prices no.such:1 no[1]; fields zoo.cage[name=x:y]"
        )

    def test_targets_are_found_in_it(self, db: None) -> None:
        with isolated_bus(), capture_invalidations() as told:
            cage = Cage.objects.create()
            invalidate("a", tag("prices"))
        other = Cage(pk=cage.pk + 1)
        assert all(target in told for target in (cage, Cage, "a", tag("prices")))
        assert not any(target in told for target in (other, Animal, "b", "prices", tag("a")))
        assert told[0] in told
        with pytest.raises(TypeError, match="can be invalidated"):
            assert 7 in told

    def test_unknown_rows_are_every_row_and_a_clear_is_all(self, db: None) -> None:
        cage = Cage.objects.create()
        with isolated_bus():
            with capture_invalidations() as told:
                invalidate(Cage)
            assert cage in told
            with capture_invalidations() as told:
                bus().clear()
            assert cage in told
            assert "whatever" in told
            assert str(told[0]) == "everything"

    def test_a_transaction_is_one_message(self, db: None) -> None:
        with isolated_bus(), capture_invalidations() as told, transaction.atomic():
            cage = Cage.objects.create()
            with transaction.atomic():
                Note.objects.create(cage=cage)
            with transaction.atomic():
                Animal.objects.create()
                transaction.set_rollback(True)
        assert len(told) == 1
        assert Cage in told
        assert Note in told
        assert Animal not in told

    def test_a_transaction_in_progress_would_tell(self, db: None) -> None:
        with isolated_bus(), transaction.atomic():
            invalidate("before")
            with capture_invalidations() as told:
                invalidate("before", "inside")
            assert [(one.keys, one.pending) for one in told] == [(("inside",), True)]
            assert str(told[0]) == "keys inside (waits for the end of a transaction)"

    def test_what_a_strict_write_releases_is_told(self, db: None) -> None:
        with isolated_bus(WRITES="strict"), capture_invalidations() as told:
            cage = Cage.objects.create()
        assert len(told) == 1
        assert cage in told

    def test_the_backend_and_the_bare_bus_are_heard(self) -> None:
        with override_settings(CACHES=BACKEND), isolated_bus(), capture_invalidations() as told:
            caches["default"].set("a", 1)
            bus().invalidate("b", tags=[tag("t")])
            assert repr(told) == "<2 invalidations: keys :1:a | keys b; tags t>"
            told.clear()
            assert not told
            assert repr(told) == "<no invalidations>"


class TestAssertions:
    def test_they_pass(self, db: None) -> None:
        ticket = Ticket.objects.create(day=1)
        with isolated_bus():
            with assert_invalidates(ticket, Ticket, "day:1", "day:2", tag("photo:None")) as told:
                ticket.day = 2
                ticket.save()
            assert len(told) == 1
            with assert_invalidates_nothing():
                Ticket.objects.count()

    def test_a_deleted_row_is_expected_by_what_it_was(self, db: None) -> None:
        cage = Cage.objects.create()
        with isolated_bus(), assert_invalidates(cage):
            cage.delete()

    def test_a_proxy_is_its_model(self, db: None) -> None:
        with isolated_bus(), assert_invalidates(Pet, Animal):
            Pet.objects.create()

    def test_a_failure_says_what_is_missing_and_what_was_told(self, db: None) -> None:
        cage, other = Cage.objects.create(), Cage.objects.create()
        with isolated_bus(), pytest.raises(AssertionError) as failure:  # noqa: SIM117, PT012
            with assert_invalidates(other, cage, Animal, "a", tag("prices")):
                bus().invalidate(tags=["zoo.cage", f"zoo.cage:{cage.pk}"])
                invalidate("b")
        assert str(failure.value).splitlines() == [
            f"Not invalidated: row zoo.cage:{other.pk}, model zoo.animal, key 'a', tag 'prices'.",
            "Told was:",
            f"  1. rows zoo.cage:{cage.pk}; models zoo.cage",
            "  2. keys b",
        ]

    def test_a_failure_of_silence(self, db: None) -> None:
        with isolated_bus(), pytest.raises(AssertionError, match=r"Not invalidated: key 'a'\.\nNothing was told\."):  # noqa: SIM117
            with assert_invalidates("a"):
                pass
        with isolated_bus(), pytest.raises(AssertionError, match=r"Nothing was to be .*\nTold was:\n  1\. keys a"):  # noqa: SIM117
            with assert_invalidates_nothing():
                invalidate("a")

    def test_many_names_and_messages_are_cut_short(self, db: None) -> None:
        with isolated_bus(), capture_invalidations() as told:
            invalidate(*map(str, range(30)))
            for _ in range(30):
                invalidate("a")
        assert "19 … and 10 more" in told.describe()
        assert told.describe().splitlines()[-1] == "  … and 11 more messages"

    def test_an_error_in_the_block_comes_through(self) -> None:
        with isolated_bus(), pytest.raises(ZeroDivisionError), assert_invalidates("a"):
            raise ZeroDivisionError

    def test_impossible_targets_are_refused_at_once(self) -> None:
        reached: list[int] = []
        for target, error in ((Cage(), InvalidName), (7, TypeError), ("", InvalidName)):
            with pytest.raises(error), assert_invalidates(target):  # type: ignore[arg-type]
                reached.append(1)
        with pytest.raises(TypeError, match="assert_invalidates_nothing"), assert_invalidates():
            reached.append(1)
        assert not reached

    def test_an_unwatched_model_is_named(self, db: None) -> None:
        with isolated_bus(), pytest.MonkeyPatch.context() as patch:
            patch.setattr(captures, "is_watched", lambda model: False)
            with pytest.raises(AssertionError, match=r"model contenttypes.contenttype \(its model is not watched\)"):  # noqa: SIM117
                with assert_invalidates(ContentType):
                    pass


class Commits(InvalidationTestCase):
    """In a TestCase of ours the application's transactions are over when it says so."""

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
        with capture_invalidations() as told, transaction.atomic():
            self.cage.save()
            with transaction.atomic():
                invalidate("a")
            assert not told
        assert len(told) == 1
        assert "a" in told
        assert Cage in told

    def test_a_block_without_a_savepoint_too(self) -> None:
        with self.assertInvalidates("a"), transaction.atomic(savepoint=False):
            invalidate("a")

    def test_what_is_rolled_back_is_not_told(self) -> None:
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

    def test_a_failed_block_without_a_savepoint_leaves_nothing_to_tell(self) -> None:
        with self.assertInvalidatesNothing():
            with pytest.raises(ZeroDivisionError), transaction.atomic(savepoint=False):  # noqa: PT012
                invalidate("a")
                raise ZeroDivisionError
            transaction.set_rollback(False)  # as a test may, which knows that nothing is broken
            with transaction.atomic():
                pass

    def test_every_block_is_told_once(self) -> None:
        for name in ("a", "b"):
            with capture_invalidations() as told, transaction.atomic():
                invalidate(name)
            assert [one.keys for one in told] == [(name,)]

    def test_blocks_of_another_database_are_no_transaction_of_this_one(self) -> None:
        with capture_invalidations() as told, transaction.atomic():
            invalidate("a")
            assert not told

    databases = {"default", "other"}  # noqa: RUF012 - as Django declares it

    def test_each_database_ends_for_itself(self) -> None:
        with capture_invalidations() as told, transaction.atomic(using="other"):
            invalidate("at once")
            invalidate("later", using="other")
            assert told.keys == ("at once",)
        assert told.keys == ("at once", "later")

    def test_callbacks_of_others_are_captured_as_ever(self) -> None:
        ran: list[str] = []
        with self.captureOnCommitCallbacks(execute=True), transaction.atomic():
            invalidate("a")
            transaction.on_commit(lambda: ran.append("theirs"))
        assert ran == ["theirs"]

    def test_a_capture_of_callbacks_tells_nothing_twice(self) -> None:
        with capture_invalidations() as told, self.captureOnCommitCallbacks(execute=True):
            with transaction.atomic():
                invalidate("a")
            invalidate("b")
        assert [one.keys for one in told] == [("a",), ("b",)]

    def test_durable_blocks_count(self) -> None:
        with self.assertInvalidates("a"), transaction.atomic(durable=True):
            invalidate("a")


class StrictCommits(InvalidationTestCase):
    """Strict writes open transactions of their own; nothing is held where nothing is committed."""

    invalidator_settings = {"WRITES": "strict"}  # noqa: RUF012

    def test_a_write_is_told_and_not_held(self) -> None:
        with capture_invalidations() as told:
            cage = Cage.objects.create()
        assert len(told) == 1
        assert cage in told
        cache.set("a", 1, tags=row_tags(cage))
        assert "a" in cache


class RealCommits(InvalidationTransactionTestCase):
    """Where commits are real, they count once."""

    def test_a_commit_is_one_message(self) -> None:
        with capture_invalidations() as told, transaction.atomic():
            cage = Cage.objects.create()
            assert not told
        assert len(told) == 1
        assert cage in told

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


class PlainTestCase(TestCase):
    """A TestCase that asks for nothing: a capture alone sees what a commit would tell, and spoils nothing."""

    def test_a_capture_sees_it(self) -> None:
        with capture_invalidations() as told:
            cage = Cage.objects.create()
        assert cage in told

    def test_what_waits_for_a_capture_of_callbacks_still_does(self) -> None:
        with self.captureOnCommitCallbacks() as callbacks:
            invalidate("a")
            with capture_invalidations():
                invalidate("b")
        with capture_invalidations() as told:
            for callback in callbacks:
                callback()
        assert told.keys == ("a",)


def test_nested_contexts_end_with_the_last() -> None:
    original = Atomic.__exit__
    with commits_in_test_cases():
        with commits_in_test_cases():
            pass
        assert progress.test_cases_commit
        assert Atomic.__exit__ is not original
    assert Atomic.__exit__ is original


def test_djangos_runner_runs_them(databases: Any) -> None:
    """pytest has its own way to run them; this is Django's."""
    for case in (Commits, StrictCommits, RealCommits, Isolation):
        passes(case)
    assert not connection.in_atomic_block


# What is stale.


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
