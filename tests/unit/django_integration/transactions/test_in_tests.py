"""Inside Django's test classes: `TestCase` never commits, `TransactionTestCase` does."""

from django.conf import settings
from django.db import transaction
from django.test import TestCase, TransactionTestCase, override_settings

from django_integration import bus, cache, invalidate, row_tags, tag
from tests.support import Thread

from ..conftest import WAIT_S, Wire, keys
from ..zoo.models import Cage


class InATestCase(TestCase):
    """Django's TestCase wraps each test in a transaction that is never committed."""

    def setUp(self) -> None:
        self.wire = Wire()
        self.addCleanup(self.wire.close)
        self.cage = Cage.objects.create()
        self.wire.messages()

    def test_a_write_counts_at_once(self) -> None:
        self.cage.save()
        assert self.wire.message().tags == {"zoo.cage", f"zoo.cage:{self.cage.pk}"}
        assert invalidate("a") is not None
        assert self.wire.messages() == [keys("a")]

    def test_the_end_of_its_own_outermost_block_is_a_commit(self) -> None:
        for options in ({}, {"savepoint": False}, {"durable": True}):
            with transaction.atomic(**options):
                invalidate("a")
                with transaction.atomic():
                    invalidate("b")
                assert self.wire.messages() == []
            assert self.wire.messages() == [keys("a", "b")], options

    def test_an_own_block_that_is_rolled_back_publishes_nothing(self) -> None:
        with transaction.atomic():
            invalidate("a")
            transaction.set_rollback(True)
        with transaction.atomic():
            invalidate("b")
            with transaction.atomic():
                invalidate("c")
                transaction.set_rollback(True)
        assert self.wire.messages() == [keys("b")]

    def test_only_the_callbacks_of_the_application_are_captured(self) -> None:
        """`len(callbacks) == 1` is what the tests of a project say, and they were written before it had this app."""
        ran = []
        for execute in (False, True):
            with self.captureOnCommitCallbacks(execute=execute) as callbacks:
                self.cage.save()
                transaction.on_commit(lambda: ran.append(1))
                with transaction.atomic():
                    Cage.objects.create()
            assert len(callbacks) == 1
        assert ran == [1]

    def test_a_load_counts_from_now(self) -> None:
        """The transaction around the test is older than everything; but nothing else writes."""
        bus().wait_until_leased(WAIT_S)
        Thread(lambda: bus().invalidate("tc:page")).outcome()
        assert cache.set("tc:page", "new", tags=["t"])

    def test_what_was_written_is_loaded_anew_and_kept(self) -> None:
        def name() -> object:
            return cache.get_or_set("tc:cage", lambda: Cage.objects.get(pk=self.cage.pk).name, tags=row_tags(self.cage))

        assert [name(), cache.get("tc:cage")] == ["", ""]
        self.cage.name = "new"
        self.cage.save()
        assert [cache.get("tc:cage"), name(), cache.get("tc:cage")] == [None, "new", "new"]


@override_settings(INVALIDATOR={**settings.INVALIDATOR, "WRITES": "strict"})
class InATestCaseWithStrictWrites(TestCase):
    """Nothing is committed there, so nothing is held."""

    def test_nothing_is_held_in_a_transaction_that_never_commits(self) -> None:
        wire = Wire()
        self.addCleanup(wire.close)
        cage = Cage.objects.create()
        with transaction.atomic():
            cage.save()
            assert wire.caches(tag("zoo.cage"))
        assert {"zoo.cage", f"zoo.cage:{cage.pk}"} == set().union(*[message.tags for message in wire.messages()])


class InATransactionTestCase(TransactionTestCase):
    """Where commits are real."""

    databases = {"default", "other"}  # noqa: RUF012 - as Django declares it

    def test_a_commit_publishes(self) -> None:
        wire = Wire()
        self.addCleanup(wire.close)
        with transaction.atomic():
            cage = Cage.objects.create()
        assert wire.message().tags == {"zoo.cage", f"zoo.cage:{cage.pk}"}
