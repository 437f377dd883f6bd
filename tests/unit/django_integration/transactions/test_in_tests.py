"""Inside Django's test classes: `TestCase` never commits, `TransactionTestCase` does."""

import unittest
from collections.abc import Iterator

import pytest
from asgiref.sync import sync_to_async
from django.conf import settings
from django.core.cache import caches
from django.db import connection, connections, transaction
from django.test import TestCase, TransactionTestCase, override_settings
from django.test.utils import CaptureQueriesContext

from django_integration import bus, cache, cached, coherent_lru_cache, invalidate, row_tags, tag
from django_integration.testing import capture_invalidations
from django_integration.transactions import in_tests, progress
from tests.support import Thread

from ..conftest import WAIT_S, Wire, keys
from ..zoo.models import Cage, Food


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


# ------------------------------------------------------------------------------ how the tests of a project run


OURS = "django_integration.backend.NearCacheBackend"
CACHES = {
    "default": {"BACKEND": OURS, "LOCATION": "in tests"},
    "over": {"BACKEND": OURS, "LOCATION": "in tests, over", "OPTIONS": {"L2": "l2"}, "KEY_PREFIX": "over"},
    "l2": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache", "LOCATION": "in tests, l2"},
}


@cached(key="tc:names")
def names() -> list[str]:
    return [cage.name for cage in Cage.objects.order_by("pk")]


@cached(key="tc:committed")
def committed() -> int:
    return Food.objects.count()


@coherent_lru_cache
def count() -> int:
    return Cage.objects.count()


def run(case: type[TestCase]) -> None:
    """Run its tests as Django does; all of them have to pass."""
    result = unittest.TestResult()
    unittest.defaultTestLoader.loadTestsFromTestCase(case).run(result)
    assert not result.errors + result.failures, "\n".join(text for _, text in result.errors + result.failures)
    assert result.testsRun


@pytest.fixture
def project(db: None) -> Iterator[None]:
    """A project with something in its caches, before its tests run."""
    assert bus().wait_until_leased(WAIT_S)
    with override_settings(CACHES=CACHES):
        cache.evict("tc:names", "tc:before", "tc:committed")
        count.cache_clear()
        cache.set("tc:before", "stored before", tags=["t"])
        caches["default"].set("before", "stored before")
        caches["over"].set("before", "stored before")
        committed()
        yield
        caches["l2"].clear()
    assert not in_tests.is_open()


class Existing(TestCase):
    """Each test looks into the caches as if it were the first, and leaves something there."""

    __test__ = False  # for pytest: they are run below

    @classmethod
    def setUpTestData(cls) -> None:
        Cage.objects.create(name="of the class")
        assert names() == ["of the class"]

    def check(self, name: str) -> None:
        """What any view does in a test."""
        assert names() == ["of the class"]
        assert [count(), count.cache_info().currsize] == [1, 1]
        assert caches["default"].get("k") is None
        assert cache.get("tc:before") == caches["default"].get("before") == "stored before"
        cage = Cage.objects.create(name=name)
        for _ in range(2):
            with self.assertNumQueries(1 if _ == 0 else 0):
                assert names() == ["of the class", name]
        for alias in ("default", "over"):
            caches[alias].set("k", name)
            assert caches[alias].get("k") == name
            assert caches[alias].add("k", "other") is False
            caches[alias].set("n", 1)
            assert caches[alias].incr("n") == 2
        cache.set("tc:k", name)
        count.cache_clear()
        assert count() == 2
        with transaction.atomic():
            cage.delete()
            assert names() == ["of the class"]
            transaction.set_rollback(True)
        with self.assertNumQueries(0):
            assert names() == ["of the class", name]

    def test_one(self) -> None:
        assert cache.get("tc:k") is None
        self.check("one")

    def test_two(self) -> None:
        assert cache.get("tc:k") is None
        self.check("two")

    async def test_three(self) -> None:
        await Cage.objects.acreate(name="three")
        assert await sync_to_async(names)() == ["of the class", "three"]
        await caches["default"].aset("k", "three")


@pytest.mark.usefixtures("project")
def test_the_end_of_a_test_voids_what_it_has_stored_and_nothing_else() -> None:
    run(Existing)
    assert names() == []
    assert count() == 0
    assert [caches[alias].get("k") for alias in ("default", "over")] == [None, None]
    assert [caches[alias].get("before") for alias in ("default", "over")] == ["stored before"] * 2
    assert cache.get("tc:before") == "stored before"
    with CaptureQueriesContext(connection) as queries:
        committed()
    assert not queries.captured_queries
    assert set(caches["l2"]._cache) == {caches["l2"].make_key(caches["over"].make_key("before"))}, "nothing of a test"


class OnlyReading(TestCase):
    """What the class has written is cached from its beginning to its end, since no test writes to that table."""

    __test__ = False  # for pytest: they are run below

    @classmethod
    def setUpTestData(cls) -> None:
        Food.objects.create()
        assert committed() == 1

    def test_it(self) -> None:
        for _ in range(2):
            with self.assertNumQueries(0):
                assert committed() == 1


@pytest.mark.usefixtures("project")
def test_what_a_class_has_stored_leaves_at_its_end() -> None:
    run(OnlyReading)
    assert committed() == 0


class OnTwoDatabases(TestCase):
    """Each has blocks of its own, which end one after the other."""

    __test__ = False  # for pytest: they are run below

    databases = frozenset({"default", "other"})

    def test_writes_to_both_count_at_once(self) -> None:
        for alias in self.databases:
            Cage(name=alias).save(using=alias)
        assert names() == ["default"]
        with self.assertNumQueries(0):
            assert names() == ["default"]
        with transaction.atomic(using="other"):
            Cage.objects.using("other").update(name="new")
            assert not progress.is_in_own_transaction(connection)
            assert progress.is_in_own_transaction(connections["other"])


@pytest.mark.usefixtures("project")
def test_several_databases_end_together() -> None:
    run(OnTwoDatabases)
    assert names() == []


class WithSavepoints(TestCase):
    """By hand, in the test itself."""

    __test__ = False  # for pytest: they are run below

    def test_what_was_stored_since_a_savepoint_falls_with_it(self) -> None:
        cache.set("tc:k", "before")
        savepoint = transaction.savepoint()
        Cage.objects.create(name="never")
        assert names() == ["never"]
        cache.set("tc:l", "after")
        transaction.savepoint_rollback(savepoint)
        assert names() == []
        assert [cache.get("tc:k"), cache.get("tc:l")] == ["before", None]

    def test_what_was_missed_before_the_test_is_not_older_than_it(self) -> None:
        """A value that is set after a miss is as old as the miss. It falls at the end all the same."""
        cache.set("tc:missed", "inside")


@pytest.mark.usefixtures("project")
def test_savepoints_in_a_test_and_misses_before_it() -> None:
    assert cache.get("tc:missed") is None
    run(WithSavepoints)
    assert cache.get("tc:missed") is None


@pytest.mark.usefixtures("project")
def test_a_load_that_is_under_way_at_the_end_is_not_kept() -> None:
    """What it has read is no more."""

    class Case(TestCase):
        databases = frozenset({"default"})

    for_the_class = Case._enter_atomics()
    Cage.objects.create(name="never")

    def load() -> list[str]:
        found = [cage.name for cage in Cage.objects.all()]
        Case._rollback_atomics(for_the_class)
        return found

    cache.evict("tc:load")
    assert cache.get_or_set("tc:load", load) == ["never"]
    assert cache.get("tc:load") is None


# ------------------------------------------------------------------------------------------- the project's bus


class OnAServer(TestCase):
    """With the settings of a project, whose Redis may be shared with a running one, or not be there."""

    __test__ = False  # for pytest: they are run below

    def test_it(self) -> None:
        cage = Cage.objects.create(name="a")
        assert names() == ["a"]
        with capture_invalidations() as captured:
            with transaction.atomic():
                cage.name = "b"
                cage.save()
            cage.delete()
            invalidate("a")
            bus().clear()
            caches["default"].set("k", 1)
            caches["default"].delete("k")
        assert Cage in captured
        assert "a" in captured
        assert names() == []
        assert bus().status().published == 0
        assert bus().status().queued == 0


@pytest.mark.usefixtures("project")
@pytest.mark.parametrize("writes", ["after_commit", "strict"])
def test_nothing_of_a_test_leaves_the_process(writes: str) -> None:
    """Nobody listens there: a message would wait in the queue, and a strict write would be refused."""
    with override_settings(INVALIDATOR={**settings.INVALIDATOR, "URL": "redis://127.0.0.1:1", "WRITES": writes}):
        run(OnAServer)
        assert bus().publishes
        assert bus().status().queued == 0
    assert bus().publishes
