"""Inside Django's test classes: `TestCase` never commits, `TransactionTestCase` does."""

from django.conf import settings
from django.db import transaction
from django.db.transaction import Atomic
from django.test import TestCase, TransactionTestCase, override_settings

from django_integration import bus, cache, invalidate, row_tags, tag
from django_integration.testing import commits_in_test_cases
from django_integration.transactions import progress
from tests.support import Thread

from ..conftest import WAIT_S, Wire, keys
from ..zoo.models import Cage


class InATestCase(TestCase):
    """Django's TestCase wraps each test in a transaction that is never committed."""

    def setUp(self) -> None:
        self.wire = Wire()
        self.addCleanup(self.wire.close)
        self.cage = Cage.objects.create()

    def test_nothing_leaves_by_itself(self) -> None:
        self.cage.save()
        invalidate("a")
        assert self.wire.messages() == []

    def test_callbacks_can_be_captured_and_run(self) -> None:
        """What setUp saved must not swallow what is saved inside the capture."""
        with self.captureOnCommitCallbacks(execute=True):
            self.cage.save()
        assert self.wire.message().tags == {"zoo.cage", f"zoo.cage:{self.cage.pk}"}

    def test_each_capture_runs_its_own(self) -> None:
        for name in ("a", "b"):
            with self.captureOnCommitCallbacks(execute=True), transaction.atomic():
                invalidate(name)
                invalidate(f"{name} too")
            assert self.wire.messages() == [keys(name, f"{name} too")]

    def test_captured_callbacks_run_once(self) -> None:
        with self.captureOnCommitCallbacks() as callbacks:
            invalidate("a")
        assert len(callbacks) == 1
        callbacks[0]()
        callbacks[0]()
        assert self.wire.messages() == [keys("a")]

    def test_a_rolled_back_block_is_not_captured(self) -> None:
        with self.captureOnCommitCallbacks(execute=True):
            with transaction.atomic():
                invalidate("a")
                transaction.set_rollback(True)
            invalidate("b")
        assert self.wire.messages() == [keys("b")]

    def test_a_block_without_savepoint_is_captured(self) -> None:
        for name in ("a", "b"):
            with self.captureOnCommitCallbacks(execute=True), transaction.atomic(savepoint=False):
                invalidate(name)
            assert self.wire.messages() == [keys(name)]

    def test_a_load_counts_from_now(self) -> None:
        """The transaction around the test is older than everything; but nothing else writes."""
        bus().wait_until_leased(WAIT_S)
        Thread(lambda: bus().invalidate("tc:page")).outcome()
        assert cache.set("tc:page", "new", tags=["t"])

    def test_what_was_written_is_read_past_the_cache(self) -> None:
        def name() -> object:
            return cache.get_or_set("tc:cage", lambda: Cage.objects.get(pk=self.cage.pk).name, tags=row_tags(self.cage))

        self.cage.name = "new"
        self.cage.save()
        assert [name(), cache.get("tc:cage")] == ["new", None]


@override_settings(INVALIDATOR={**settings.INVALIDATOR, "WRITES": "strict"})
class InATestCaseWithStrictWrites(TestCase):
    """Nothing is committed there, so nothing is held; captured callbacks send as ever."""

    def test_nothing_is_held_in_a_transaction_that_never_commits(self) -> None:
        wire = Wire()
        self.addCleanup(wire.close)
        with self.captureOnCommitCallbacks(execute=True):
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


def test_nested_contexts_end_with_the_last() -> None:
    original = Atomic.__exit__
    with commits_in_test_cases():
        with commits_in_test_cases():
            pass
        assert progress.test_cases_commit
        assert Atomic.__exit__ is not original
    assert Atomic.__exit__ is original
