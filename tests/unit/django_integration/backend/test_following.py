"""
What follows from how a transaction ends for what was changed in it: every operation, with one level and with two, for
sync and async callers. One table says what is there afterwards.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import product
from typing import Any, Literal, get_args

import pytest
from asgiref.sync import async_to_sync, sync_to_async
from django.core.cache import caches
from django.db import DatabaseError, OperationalError, connection, connections, transaction
from django.template import Context, Template
from django.test import TestCase, override_settings

from django_integration import bus, cached, invalidate, slow_path
from django_integration.backend import NearCacheBackend, following, settling
from tests.support import Thread

from ..conftest import WAIT_S, Message, Wire
from ..faulty import FaultyCache
from ..zoo.models import Cage
from .conftest import KEY, OURS

pytestmark = pytest.mark.usefixtures("db")

CACHES: dict[str, Any] = {
    "default": {"BACKEND": OURS, "LOCATION": "one"},
    "one": {"BACKEND": OURS, "LOCATION": "one"},
    "two": {"BACKEND": OURS, "LOCATION": "two", "OPTIONS": {"L2": "below"}},
    "one, alone": {"BACKEND": OURS, "LOCATION": "one, alone", "OPTIONS": {"TRANSACTIONS": False}},
    "two, alone": {"BACKEND": OURS, "LOCATION": "two, alone", "OPTIONS": {"TRANSACTIONS": False, "L2": "below"}},
    "below": {"BACKEND": "tests.unit.django_integration.faulty.FaultyCache", "LOCATION": "below following"},
}
LEVELS = ("one", "two")
both = pytest.mark.parametrize("alias", LEVELS)


@pytest.fixture(autouse=True)
def leased(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Empty caches, and a lease."""
    monkeypatch.setattr(settling, "GRACE_NS", 0)  # a fill below is proven, and may be forgotten, a little sooner
    setting = {"URL": "memory://", "NAMESPACE": "following", "MAX_STALENESS": 3}
    with override_settings(CACHES=CACHES, INVALIDATOR=setting):
        assert bus().wait_until_leased(WAIT_S)
        FaultyCache.down = False
        FaultyCache.after.clear()
        for alias in CACHES:
            caches[alias].clear()
        yield
        FaultyCache.down = False
        assert settling.settle(WAIT_S)
        assert not slow_path.reasons


def write() -> None:
    """The transaction writes something."""
    Cage.objects.create(name="written")


def roll_back() -> None:
    transaction.set_rollback(True)


def elsewhere(call: Callable[[], Any]) -> Any:
    """What another thread, which is in no transaction, gets."""

    def call_and_close() -> Any:
        try:
            return call()
        finally:
            connections.close_all()

    return Thread(call_and_close).outcome()


# --------------------------------------------------------------------------------------- the table


Before = Literal["stored", "absent", "missed"]


@dataclass(frozen=True)
class Case:
    """
    One row: what "k" is while the transaction is in progress, and after it.

    Attributes:
        before: whether the value 1 is stored when the transaction begins; if not, whether the caller has just missed.
        meanwhile: the value after the operation, for everybody.
        falls: whether it is void after a rollback, if the operation came after the transaction's first write.
        again: what leaves again after the commit.
    """

    operation: str
    arguments: tuple[Any, ...]
    before: Before
    meanwhile: int | None
    falls: bool
    again: Literal["key", "location", "nothing"]

    def __str__(self) -> str:
        return f"{self.operation} {self.before}"


CASES = [
    Case("set", ("k", 2), "stored", 2, True, "key"),
    Case("set", ("k", 2), "absent", 2, True, "key"),
    Case("set", ("k", 2, 0), "stored", None, True, "key"),
    Case("set_many", ({"k": 2},), "stored", 2, True, "key"),
    Case("set_many", ({"k": 2},), "absent", 2, True, "key"),
    Case("add", ("k", 2), "stored", 1, False, "nothing"),
    Case("add", ("k", 2), "absent", 2, True, "key"),
    Case("touch", ("k", 60), "stored", 1, False, "key"),
    Case("touch", ("k", 60), "absent", None, False, "nothing"),
    Case("incr", ("k",), "stored", 2, False, "key"),
    Case("decr", ("k",), "stored", 0, False, "key"),
    Case("delete", ("k",), "stored", None, False, "key"),
    Case("delete", ("k",), "absent", None, False, "key"),
    Case("delete_many", (["k"],), "stored", None, False, "key"),
    Case("clear", (), "stored", None, False, "location"),
    Case("get", ("k",), "stored", 1, False, "nothing"),
    Case("get_or_set", ("k", 2), "stored", 1, False, "nothing"),
]


def call_sync(cache: NearCacheBackend, operation: str, *arguments: Any) -> Any:
    return getattr(cache, operation)(*arguments)


def call_async(cache: NearCacheBackend, operation: str, *arguments: Any) -> Any:
    return async_to_sync(getattr(cache, f"a{operation}"))(*arguments)


End = Literal["commit", "rollback", "savepoint", "released, then rollback", "released, then commit"]
ENDS: tuple[End, ...] = get_args(End)


@pytest.mark.parametrize("call", [call_sync, call_async], ids=["sync", "async"])
@both
@pytest.mark.parametrize("case", CASES, ids=str)
def test_an_operation(wire: Wire, case: Case, alias: str, call: Any) -> None:
    for is_written_before, end in product((True, False), ENDS):
        run = Run(case, alias, call, is_written_before, end)
        run.prepare(wire)
        at_once, messages = run.change(wire)
        assert bool(at_once) == (case.again != "nothing"), run

        falls = case.falls and is_written_before and "commit" not in end
        after = None if falls else case.meanwhile
        assert run.cache.get("k") == after, run
        assert elsewhere(lambda run=run: run.cache.get("k")) == after, run
        if alias == "two":
            assert caches["below"].get(KEY) == after, run

        if "commit" in end:
            (message,) = messages
            assert message.tags >= {"zoo.cage"}, "one message, with the names of what was written"
            assert message.keys == ({KEY} if case.again == "key" else set()), run
            assert (f"django.cache:{alias}" in message.tags) == (case.again == "location"), run
        else:
            assert messages == ([Message(keys=frozenset({KEY}))] if falls else []), run


@dataclass(frozen=True)
class Run:
    """One case, in a transaction that has written before the operation or will write after it, and that ends so."""

    case: Case
    alias: str
    call: Any
    is_written_before: bool
    end: End

    @property
    def cache(self) -> Any:
        return caches[self.alias]

    def prepare(self, wire: Wire) -> None:
        self.cache.clear()
        if self.case.before == "stored":
            self.cache.set("k", 1)
            assert self.cache.get("k") == 1
        wire.messages()

    def change(self, wire: Wire) -> tuple[list[Message], list[Message]]:
        """Return what the operation has published, and what the end of the transaction, or of the savepoint, has."""
        case, end = self.case, self.end
        with transaction.atomic():
            if self.is_written_before:
                write()
            with transaction.atomic(savepoint=end not in ("commit", "rollback")):
                self.call(self.cache, case.operation, *case.arguments)
                at_once = wire.messages()
                assert self.cache.get("k") == case.meanwhile, self
                assert elsewhere(lambda: self.cache.get("k")) == case.meanwhile, "in force for everybody, as in Django"
                if not self.is_written_before:
                    write()
                if end == "savepoint":
                    roll_back()
            if end == "savepoint":
                return at_once, wire.messages()
            if "rollback" in end:
                roll_back()
        return at_once, wire.messages()


def test_the_table_has_every_change() -> None:
    """Those of which Django has both kinds, and that are no reads."""
    public = [name for name in dir(NearCacheBackend) if not name.startswith("_")]
    reads = {"get", "get_many", "has_key", "get_or_set", "close", "incr_version", "decr_version"}
    assert {case.operation for case in CASES} - reads == {name for name in public if f"a{name}" in public} - reads


# --------------------------------------------------------------------------------------- fills


@both
class TestFills:
    """They are no changes: they publish nothing, and what follows a miss after the first write is stored nowhere."""

    def test_before_the_first_write_a_fill_stands(self, alias: str, wire: Wire) -> None:
        cache: Any = caches[alias]
        wire.messages()
        with transaction.atomic():
            assert cache.get("k") is None
            cache.set("k", "committed")
            assert cache.get_or_set("l", lambda: "committed") == "committed"
            write()
            roll_back()
        assert cache.get_many(["k", "l"]) == {"k": "committed", "l": "committed"}
        assert wire.messages() == []

    def test_after_it_there_is_none(self, alias: str) -> None:
        cache: Any = caches[alias]
        with transaction.atomic():
            write()
            assert cache.get("k") is None
            cache.set("k", "uncommitted")
            assert cache.get_or_set("l", lambda: "uncommitted") == "uncommitted"
            assert elsewhere(lambda: cache.get_many(["k", "l"])) == {}
            roll_back()
        assert cache.get_many(["k", "l"]) == {}

    def test_a_fragment_of_a_template(self, alias: str) -> None:
        template = Template("{% load cache %}{% cache 60 fragment using=alias %}{{ cage.name }}{% endcache %}")
        context = Context({"alias": alias, "cage": Cage(name="uncommitted")})
        with transaction.atomic():
            write()
            assert template.render(context) == "uncommitted"
            roll_back()
        context["cage"].name = "committed"
        assert template.render(context) == "committed"


# --------------------------------------------------------------------------------------- readers in between


@both
class TestAReaderBeforeTheCommit:
    """It reads the old row, and keeps it."""

    @pytest.fixture
    def cage(self) -> Cage:
        return Cage.objects.create(name="old")

    def load(self, alias: str) -> Any:
        return caches[alias].get_or_set("k", lambda: Cage.objects.get().name)

    @pytest.mark.parametrize("call", [call_sync, call_async])
    @pytest.mark.parametrize("when", ["before the write", "after the write"])
    def test_of_a_key_that_was_deleted(self, alias: str, cage: Cage, call: Any, when: str) -> None:
        """`delete` and then the commit is what people write."""
        with transaction.atomic():
            if when == "before the write":
                call(caches[alias], "delete", "k")
            Cage.objects.update(name="new")
            if when == "after the write":
                call(caches[alias], "delete", "k")
            assert elsewhere(lambda: self.load(alias)) == "old"
        assert self.load(alias) == "new"

    def test_after_a_clear(self, alias: str, cage: Cage) -> None:
        with transaction.atomic():
            caches[alias].clear()
            Cage.objects.update(name="new")
            assert elsewhere(lambda: self.load(alias)) == "old"
        assert self.load(alias) == "new"

    def test_after_a_value_that_was_set_has_left(self, alias: str, cage: Cage) -> None:
        """By a LOCATION that is full, or by another server that has deleted the key."""
        with transaction.atomic():
            Cage.objects.update(name="new")
            caches[alias].set("k", "new")
            elsewhere(lambda: caches[alias].delete("k"))
            assert elsewhere(lambda: self.load(alias)) == "old"
        assert self.load(alias) == "new"

    def test_of_what_was_made_of_a_value_that_falls(self, alias: str, cage: Cage) -> None:
        """It has read what was never committed, as everybody can in Django; and has kept it."""

        @cached(key=f"made of {alias}")
        def page() -> str:
            return f"<p>{caches[alias].get('k')}</p>"

        with transaction.atomic():
            Cage.objects.update(name="new")
            caches[alias].set("k", "new")
            assert elsewhere(page) == "<p>new</p>"
            roll_back()
        assert page() == "<p>None</p>"


# --------------------------------------------------------------------------------------- who else writes


@both
class TestWhatOthersHaveSetMeanwhile:
    """A thread that is in no transaction is not concerned by the end of others."""

    @pytest.mark.parametrize("is_fill", [False, True])
    def test_stands_at_a_rollback(self, alias: str, is_fill: bool) -> None:
        cache: Any = caches[alias]

        def set_another() -> None:
            cache.delete("k")
            if is_fill:
                assert cache.get("k") is None
            cache.set("k", "another")

        with transaction.atomic():
            write()
            cache.set("k", "uncommitted")
            elsewhere(set_another)
            roll_back()
        assert cache.get("k") == "another"

    def test_is_not_undone_by_a_commit(self, alias: str) -> None:
        """In a second level nobody knows whether it is older than the commit: it is deleted, and never overwritten."""
        cache: Any = caches[alias]
        with transaction.atomic():
            write()
            cache.set("k", "mine")
            elsewhere(lambda: cache.set("k", "another"))
        assert cache.get("k") is None

    def test_an_increment_of_theirs_stands(self, alias: str) -> None:
        cache: Any = caches[alias]
        cache.set("k", 1)
        with transaction.atomic():
            write()
            cache.incr("k")
            elsewhere(lambda: cache.incr("k"))
            roll_back()
        assert cache.get("k") == 3

    def test_a_touch_of_theirs_does_not_keep_what_falls(self, alias: str) -> None:
        cache: Any = caches[alias]
        with transaction.atomic():
            write()
            cache.set("k", "uncommitted")
            assert elsewhere(lambda: cache.touch("k", 60))
            roll_back()
        assert cache.get("k") is None

    def test_two_transactions_at_once(self, alias: str) -> None:
        """Each takes its own back."""
        cache: Any = caches[alias]

        def another() -> None:
            with transaction.atomic(using="other"):
                Cage.objects.using("other").create()
                cache.set("l", "another")

        with transaction.atomic():
            write()
            cache.set("k", "uncommitted")
            elsewhere(another)
            roll_back()
        assert cache.get_many(["k", "l"]) == {"l": "another"}


@both
@pytest.mark.parametrize("update", [lambda cache: cache.incr("k"), lambda cache: cache.decr("k", 3)])
def test_what_an_update_has_made_last_of_a_value_that_falls_falls_with_it(alias: str, update: Any) -> None:
    """In a second level it is another number than the one that was set."""
    cache: Any = caches[alias]
    with transaction.atomic():
        write()
        cache.set("k", 5)
        update(cache)
        roll_back()
    assert cache.get("k") is None


@both
def test_what_an_update_has_made_of_a_value_that_falls_falls_with_it(alias: str) -> None:
    """`incr`, `decr` and `touch` stand; but the number was never committed."""
    cache: Any = caches[alias]
    with transaction.atomic():
        write()
        cache.set("k", 5)
        with transaction.atomic():
            cache.incr("k")
            assert cache.touch("k", 60)
        assert cache.decr("k") == 5
        roll_back()
    assert cache.get("k") is None


@both
@pytest.mark.parametrize("inner", ["savepoint", "none"])
@pytest.mark.parametrize("first", ["set", "add", "delete", "incr", "touch"])
def test_the_last_of_several_changes_counts(alias: str, first: str, inner: str) -> None:
    """What a transaction has changed itself raises no doubt of what it sets next."""
    cache: Any = caches[alias]
    cache.set("k", 1) if first in ("incr", "touch") else None
    arguments = {"set": ("first",), "add": ("first",)}.get(first, ())
    with transaction.atomic():
        write()
        getattr(cache, first)("k", *arguments)
        with transaction.atomic(savepoint=inner == "savepoint"):
            cache.set("k", "second")
            assert elsewhere(lambda: cache.get("k")) == "second"
        cache.set("k", "third")
        assert cache.get("k") == "third"
    assert cache.get("k") == "third"


def test_what_others_have_invalidated_since_the_transaction_began_raises_doubt() -> None:
    """It may have been computed from rows that are older: also what is set second."""
    cache: Any = caches["one"]
    with transaction.atomic():
        write()
        elsewhere(lambda: invalidate(KEY))
        cache.set("k", "first")
        cache.set("k", "second")
        assert cache.get("k") is None


@both
def test_a_savepoint_takes_back_what_was_set_over_another_value(alias: str) -> None:
    cache: Any = caches[alias]
    with transaction.atomic():
        write()
        cache.set("k", "first")
        with transaction.atomic():
            cache.set("k", "second")
            roll_back()
        assert cache.get("k") is None
    assert cache.get("k") is None


@both
def test_a_value_that_was_set_again_after_a_commit_is_its_own(alias: str) -> None:
    cache: Any = caches[alias]
    with transaction.atomic():
        write()
        cache.set("k", "committed")
    with transaction.atomic():
        write()
        roll_back()
    assert cache.get("k") == "committed"


@both
@pytest.mark.parametrize("value", [{"a": [1, (2, None)]}, lambda: Cage.objects.create(name="a"), Cage.objects.all])
def test_the_new_value_survives_its_own_commit(alias: str, value: Any) -> None:
    """A session, or a row, that was set in a transaction: the second message is for the others."""
    cache: Any = caches[alias]
    with transaction.atomic():
        write()
        cache.set("k", value() if callable(value) else value)
        expected = str(cache.get("k"))
    found = cache.get("k")
    assert found is not None
    assert str(found) == expected


# --------------------------------------------------------------------------------------- which transactions


@both
class TestWhichTransactions:
    def test_of_every_database(self, alias: str, wire: Wire) -> None:
        cache: Any = caches[alias]
        with transaction.atomic(using="other"):
            Cage.objects.using("other").create()
            cache.set("k", "uncommitted")
            transaction.set_rollback(True, using="other")
        assert cache.get("k") is None
        with transaction.atomic(), transaction.atomic(using="other"):
            cache.delete("k")
            wire.messages()
        assert [message.keys for message in wire.messages()] == [{KEY}, {KEY}], "after the commit of each"

    def test_a_database_that_has_not_written_takes_nothing_back(self, alias: str) -> None:
        cache: Any = caches[alias]
        with transaction.atomic():
            with transaction.atomic(using="other"):
                write()  # to the default one
                cache.set("k", "value")
                transaction.set_rollback(True, using="other")
            assert cache.get("k") == "value"
        assert cache.get("k") == "value"

    def test_with_autocommit_off(self, alias: str) -> None:
        cache: Any = caches[alias]
        transaction.set_autocommit(False)
        try:
            write()
            cache.set("k", "uncommitted")
            transaction.rollback()
            assert elsewhere(lambda: cache.get("k")) is None
            write()
            cache.set("k", "committed")
            transaction.commit()
            assert cache.get("k") == "committed"
        finally:
            transaction.rollback()
            transaction.set_autocommit(True)

    def test_savepoints_by_hand(self, alias: str) -> None:
        cache: Any = caches[alias]
        with transaction.atomic():
            write()
            savepoint = transaction.savepoint()
            cache.set("k", "uncommitted")
            transaction.savepoint_rollback(savepoint)
            assert elsewhere(lambda: cache.get("k")) is None
            cache.set("l", "committed")
        assert cache.get("l") == "committed"

    def test_a_commit_that_the_database_refuses(self, alias: str, monkeypatch: pytest.MonkeyPatch) -> None:
        cache: Any = caches[alias]

        def refuse() -> None:
            raise DatabaseError

        def change() -> None:
            with transaction.atomic():
                write()
                cache.set("k", "uncommitted")
                monkeypatch.setattr(connection, "_commit", refuse)

        with pytest.raises(DatabaseError):
            change()
        monkeypatch.undo()
        assert cache.get("k") is None

    def test_a_commit_without_an_answer(self, alias: str, wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
        """It may have happened and it may not: the value is void, and the key is published."""
        cache: Any = caches[alias]

        def lose() -> None:
            raise OperationalError

        def change() -> None:
            with transaction.atomic():
                write()
                cache.set("k", "uncommitted")
                wire.messages()
                monkeypatch.setattr(connection, "_commit", lose)

        with pytest.raises(OperationalError):
            change()
        monkeypatch.undo()
        assert cache.get("k") is None
        assert any(KEY in message.keys for message in wire.messages())

    def test_a_coroutine_belongs_to_the_transaction_that_waits_for_it(self, alias: str) -> None:
        """Though it may run in another thread."""
        cache: Any = caches[alias]

        async def change() -> None:
            await asyncio.gather(cache.aset("k", 1), cache.aset_many({"l": 2}), cache.aadd("m", 3))

        def view() -> None:
            with transaction.atomic():
                write()
                async_to_sync(change)()
                roll_back()

        view()
        assert cache.get_many(["k", "l", "m"]) == {}
        asyncio.run(sync_to_async(view)())
        assert cache.get_many(["k", "l", "m"]) == {}

    @pytest.mark.parametrize("end", ["commit", "rollback"])
    def test_and_to_no_other(self, alias: str, end: str, wire: Wire) -> None:
        """The session of an async view is not concerned by what goes wrong in the transaction of another request."""
        cache: Any = caches[alias]
        with transaction.atomic():
            write()
            elsewhere(lambda: asyncio.run(cache.aset("k", "a session")))
            wire.messages()
            if end == "rollback":
                roll_back()
        assert cache.get("k") == "a session"
        assert [message.keys for message in wire.messages()] == ([set()] if end == "commit" else [])

    def test_of_transactions_by_hand_nobody_knows_who_has_begun_them(self, alias: str) -> None:
        cache: Any = caches[alias]
        transaction.set_autocommit(False)
        try:
            write()
            elsewhere(lambda: asyncio.run(cache.aset("k", "in doubt")))
            transaction.rollback()
        finally:
            transaction.set_autocommit(True)
        assert cache.get("k") is None

    def test_outside_of_any_nothing_is_noted(self, alias: str, wire: Wire) -> None:
        cache: Any = caches[alias]
        cache.set("k", 1)
        wire.messages()
        with transaction.atomic():
            write()
        (message,) = wire.messages()
        assert message.keys == set()
        assert cache.get("k") == 1


@pytest.mark.parametrize("alias", ["one, alone", "two, alone"])
def test_an_alias_may_stay_alone(alias: str, wire: Wire) -> None:
    """With TRANSACTIONS=False changes are as in Django's own caches: at once, and for good."""
    cache: Any = caches[alias]
    with transaction.atomic():
        write()
        cache.set("k", "uncommitted")
        cache.delete("l")
        wire.messages()
        roll_back()
    assert cache.get("k") == "uncommitted"
    with transaction.atomic():
        write()
        cache.delete("k")
        wire.messages()
    (message,) = wire.messages()
    assert message.keys == set()


# --------------------------------------------------------------------------------------- strict writes


@both
class TestWithStrictWrites:
    @pytest.fixture(autouse=True)
    def strict(self, leased: None) -> Iterator[None]:
        setting = {"URL": "memory://", "NAMESPACE": "following", "MAX_STALENESS": 3, "WRITES": "strict"}
        with override_settings(INVALIDATOR=setting):
            assert bus().wait_until_leased(WAIT_S)
            yield
            assert settling.settle(WAIT_S)

    def test_the_new_value_survives(self, alias: str) -> None:
        cache: Any = caches[alias]
        with transaction.atomic():
            write()
            cache.set("k", "committed")
        assert cache.get("k") == "committed"

    def test_the_key_of_a_deleted_value_is_held_before_the_commit(
        self, alias: str, wire: Wire, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A writer that dies right after it leaves no old value on another server."""
        cached_there: list[bool] = []
        commit = connection._commit

        def look() -> None:
            cached_there.append(wire.caches(KEY))
            commit()

        with transaction.atomic():
            write()
            caches[alias].delete("k")
            assert wire.caches(KEY), "the row is the old one, and a reader in between keeps it"
            monkeypatch.setattr(connection, "_commit", look)
        monkeypatch.undo()
        assert cached_there == [False]
        assert wire.caches(KEY)

    def test_a_rollback_takes_the_value_back(self, alias: str) -> None:
        cache: Any = caches[alias]
        with transaction.atomic():
            write()
            cache.set("k", "uncommitted")
            roll_back()
        assert cache.get("k") is None


# --------------------------------------------------------------------------------------- many


@both
class TestTooManyNames:
    @pytest.fixture(autouse=True)
    def few(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(following, "MOST_NAMES", 3)

    def test_are_the_whole_location_at_a_rollback(self, alias: str) -> None:
        cache: Any = caches[alias]
        cache.set("before", 1)
        with transaction.atomic():
            write()
            for number in range(5):
                cache.set(f"k{number}", "uncommitted")
            roll_back()
        assert cache.get_many([f"k{number}" for number in range(5)]) == {}

    def test_and_at_a_commit(self, alias: str, wire: Wire) -> None:
        cache: Any = caches[alias]
        Cage.objects.create(name="old")
        with transaction.atomic():
            Cage.objects.update(name="new")
            cache.delete_many([f"k{number}" for number in range(5)])
            elsewhere(lambda: cache.get_or_set("k0", lambda: Cage.objects.get().name))
            wire.messages()
        assert cache.get_or_set("k0", lambda: Cage.objects.get().name) == "new"
        (message,) = wire.messages()
        assert f"django.cache:{alias}" in message.tags

    def test_what_stands_does_not_fall_with_them(self, alias: str) -> None:
        cache: Any = caches[alias]
        with transaction.atomic():
            for number in range(5):
                cache.set(f"k{number}", "before the first write")
            write()
            roll_back()
        assert len(cache.get_many([f"k{number}" for number in range(5)])) == 5


# --------------------------------------------------------------------------------------- in a TestCase


class TestInATestCase(TestCase):
    """Its blocks are no transaction, and what it stores is not for a second level, which nobody would roll back."""

    databases = ("default", "other")  # the fixtures empty both

    def test_changes_count_at_once(self) -> None:
        for alias in LEVELS:
            cache: Any = caches[alias]
            write()
            cache.set("k", 1)
            assert cache.incr("k") == 2
            assert cache.add("l", 1)
            assert cache.get_or_set("m", lambda: 3) == 3
            assert cache.get_many(["k", "l", "m"]) == {"k": 2, "l": 1, "m": 3}
            invalidate(cache.key_name("l"))
            assert cache.delete("k")
            assert cache.get_many(["k", "l", "m"]) == {"m": 3}
        assert caches["below"]._cache == {}, "nothing was written there"

    def test_nor_is_anything_deleted_there(self) -> None:
        """What lies there may be that of a developer's own server."""
        caches["below"].set(KEY, "somebody's")
        invalidate(KEY)
        bus().clear()
        assert caches["below"].get(KEY) == "somebody's"
        caches["below"].clear()

    def test_the_applications_own_blocks_roll_back(self) -> None:
        for alias in LEVELS:
            cache: Any = caches[alias]
            with transaction.atomic():
                write()
                cache.set("k", "uncommitted")
                roll_back()
            assert cache.get("k") is None
            with transaction.atomic():
                write()
                cache.set("l", "committed")
            assert cache.get("l") == "committed"
