"""Reading inside a transaction: past the cache for what it has written, and no newer than it began."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.core.cache import caches
from django.db import connection, connections, transaction
from django.test import override_settings

from django_integration import bus, cache, coherent_lru_cache, invalidate, row_tags, slow_path
from django_integration.reads.default_cache import default_cache
from django_integration.transactions import view
from invalidator import Loaded
from tests.support import Thread

from ..conftest import WAIT_S
from ..sessions import Session, isolation
from ..zoo.models import Cage, Food

pytestmark = pytest.mark.usefixtures("db", "leased")

OURS = "django_integration.backend.NearCacheBackend"
CACHES = {
    "default": {"BACKEND": OURS, "LOCATION": "transactions"},
    "over": {"BACKEND": OURS, "LOCATION": "over", "OPTIONS": {"L2": "l2"}, "KEY_PREFIX": "over"},
    "l2": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache", "LOCATION": "transactions.l2"},
}


@pytest.fixture
def leased() -> Iterator[None]:
    """What a test loads is leased from the beginning."""
    with override_settings(CACHES=CACHES):
        assert bus().wait_until_leased(WAIT_S)
        default_cache().evict("cage", "food", "page")
        default_cache()._misses.forget()
        for alias in CACHES:
            caches[alias].clear()
        yield


def name_of(cage: Cage) -> Any:
    """The name, from the cache."""
    return cache.get_or_set("cage", lambda: Cage.objects.get(pk=cage.pk).name, tags=row_tags(cage))


def roll_back() -> None:
    transaction.set_rollback(True)


def test_a_transaction_reads_what_it_has_written(subtests: pytest.Subtests) -> None:
    cage = Cage.objects.create(name="old")
    assert name_of(cage) == "old"
    with transaction.atomic():
        assert name_of(cage) == "old"
        cage.name = "new"
        cage.save()
        assert name_of(cage) == "new"
        assert cache.get("cage") is None
        assert Thread(lambda: cache.get("cage")).outcome() == "old", "it is not committed"
        roll_back()
    assert cache.get("cage") == "old", "nothing has changed"


def test_what_a_transaction_did_not_touch_it_reads_from_the_cache_and_stores(wire) -> None:
    cage, food = Cage.objects.create(name="cage"), Food.objects.create(name="food")
    name_of(cage)
    with transaction.atomic():
        food.save()
        assert cache.get("cage") == "cage"
        assert cache.set("page", "of cages", tags=["zoo.cage"])
        assert Thread(lambda: cache.get("page")).outcome() == "of cages"
    assert cache.get("page") == "of cages"
    with transaction.atomic():
        food.save()
        assert cache.set("page", "of cages, says the application", tags=["zoo.cage"])
        roll_back()
    assert cache.get("page") is None, "nobody has seen of what it was made"


def test_uncommitted_data_is_never_stored() -> None:
    cage = Cage.objects.create(name="old")
    with transaction.atomic():
        Cage.objects.filter(pk=cage.pk)  # not yet
        cage.name = "never"
        cage.save()
        name_of(cage)
        assert cache.set("page", "untagged: it may hold anything") is False
        assert caches["default"].get("page") is None
        caches["default"].set("page", "computed after a miss")
        assert caches["default"].get_or_set("page", lambda: "computed") == "computed"
        roll_back()
    assert name_of(cage) == "old"
    assert cache.get("page") is None
    assert caches["default"].get("page") is None


def test_a_loader_that_writes_stores_nothing_uncommitted() -> None:
    def load() -> str:
        return Cage.objects.get_or_create(name="made by the loader")[0].name

    with transaction.atomic():
        assert cache.get_or_set("cage", load, tags=["zoo.cage"]) == "made by the loader"
        roll_back()
    assert cache.get("cage") is None


def test_names_of_a_rolled_back_savepoint_are_read_from_the_cache_again() -> None:
    cage = Cage.objects.create(name="old")
    name_of(cage)
    with transaction.atomic():
        with transaction.atomic():
            cage.save()
            assert cache.get("cage") is None
            roll_back()
        assert cache.get("cage") == "old"
    assert not slow_path.reasons


def test_keys_and_everything_are_read_past_too() -> None:
    cache.set("page", 1, tags=["t"])
    with transaction.atomic():
        invalidate("page")
        assert cache.get("page") is None
        roll_back()
    with transaction.atomic():
        invalidate(*[f"k{number}" for number in range(100_001)])
        assert cache.get("page") is None
        roll_back()
    assert cache.get("page") == 1


def test_what_was_made_from_something_touched_is_read_past_too() -> None:
    part = default_cache().load_entry("part", lambda: 1, tags=["zoo.cage"])
    default_cache().load_entry("page", lambda: Loaded(2, made_from=[part]))
    assert cache.get("page") == 2
    with transaction.atomic():
        Food.objects.create()
        assert cache.get("page") == 2
        Cage.objects.create()
        assert cache.get("page") is None
        roll_back()
    assert cache.get("page") == 2


def test_what_a_transaction_goes_on_to_write_is_read_past_from_then_on() -> None:
    cache.set_many({"page": 1, "food": 2}, tags=["t"])
    with transaction.atomic():
        for key in ("page", "food"):
            assert cache.get(key)
            invalidate(key)
            assert cache.get(key) is None
        roll_back()


def test_what_became_unknown_rows_is_read_past_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """Too many names of one transaction become fewer and coarser ones."""
    cage = Cage.objects.create()
    name_of(cage)
    cache.set("food", "another row", tags=row_tags(Food, 10**6))
    monkeypatch.setattr("django_integration.names.names.MAX_NAMES", 40)
    with transaction.atomic():
        Food.objects.create()
        assert cache.get("food") == "another row"
        for _ in range(40):
            Food.objects.create()
            cache.get("food")
        assert cache.get("food") is None
        assert cache.get("cage") is not None
        roll_back()


def test_after_the_commit_everything_is_as_ever() -> None:
    cage = Cage.objects.create(name="old")
    name_of(cage)
    with transaction.atomic():
        cage.name = "new"
        cage.save()
    assert not slow_path.reasons
    assert [name_of(cage), cache.get("cage")] == ["new", "new"]


def test_with_autocommit_off_a_transaction_lasts_until_the_commit() -> None:
    cage = Cage.objects.create(name="old")
    name_of(cage)
    connection.set_autocommit(False)
    try:
        cage.name = "new"
        cage.save()
        assert [name_of(cage), cache.get("cage")] == ["new", None]
        connection.commit()
        assert [name_of(cage), cache.get("cage")] == ["new", "new"]
        connection.rollback()
    finally:
        connection.set_autocommit(True)


def test_each_database_has_transactions_of_its_own() -> None:
    cache.set("page", 1, tags=["zoo.cage"])
    with transaction.atomic(using="other"):
        Cage(name="new").save(using="other")
        assert cache.get("page") is None
        transaction.set_rollback(True, using="other")
    assert cache.get("page") == 1


# ------------------------------------------------------------------------- the age of what a transaction sees


def test_a_load_is_dated_by_the_beginning_of_its_transaction() -> None:
    """With snapshot isolation, a row that was changed since then is read as it was."""
    with transaction.atomic():
        invalidate_elsewhere("page")
        assert cache.get_or_set("page", lambda: "old", tags=["t"]) == "old"
        assert cache.set("food", "old", tags=["elsewhere"]) is False
        assert caches["default"].get_or_set("page", lambda: "old") == "old"
    assert cache.get("page") is None
    assert caches["default"].get("page") is None


def test_a_nested_block_belongs_to_the_transaction_around_it() -> None:
    with transaction.atomic():
        invalidate_elsewhere("page")
        with transaction.atomic():
            cache.get_or_set("page", lambda: "old", tags=["t"])
    assert cache.get("page") is None


def test_the_next_transaction_begins_anew() -> None:
    connection.set_autocommit(False)
    try:
        invalidate_elsewhere("page")
        assert cache.set("page", "old", tags=["t"]) is False
        connection.commit()
        assert cache.set("page", "new", tags=["t"]) is True
        invalidate_elsewhere("page")
        assert cache.set("page", "old", tags=["t"]) is False
        connection.rollback()
        assert cache.set("page", "new", tags=["t"]) is True
    finally:
        connection.set_autocommit(True)


def test_without_a_transaction_a_load_is_dated_now() -> None:
    before = bus().clock()
    assert default_cache().as_of() >= before
    with transaction.atomic():
        assert default_cache().as_of() >= before


def test_a_connection_of_which_nobody_knows_when_it_began_is_as_old_as_can_be() -> None:
    with transaction.atomic():
        del connections["default"]._invalidator_began
        assert default_cache().as_of() == 0


def invalidate_elsewhere(key: str) -> None:
    """Another thread, which is in no transaction, has committed and published."""
    Thread(lambda: bus().invalidate(key, caches["default"].key_name(key), tags=["elsewhere"])).outcome()


# ------------------------------------------------------------------------------------------- two connections


def test_nobody_reads_what_another_connection_has_not_committed(session: Session) -> None:
    cage = Cage.objects.create(name="old")
    with transaction.atomic():
        cage.name = "new"
        cage.save()
        assert [name_of(cage), session.run(lambda: name_of(cage))] == ["new", "old"]
        assert [name_of(cage), session.run(lambda: cache.get("cage"))] == ["new", "old"], "each goes on so"
    assert [cache.get("cage"), name_of(cage), session.run(lambda: cache.get("cage"))] == [None, "new", "new"]


def test_what_was_rolled_back_was_never_there(session: Session) -> None:
    cage = Cage.objects.create(name="old")
    with transaction.atomic():
        cage.name = "new"
        cage.save()
        assert name_of(cage) == "new"
        roll_back()
    assert [session.run(lambda: cache.get("cage")), session.run(lambda: name_of(cage)), name_of(cage)] == [
        None,
        "old",
        "old",
    ]


def change(cage: Cage, name: str = "new") -> None:
    """As a request does that another process serves."""
    changed = Cage.objects.get(pk=cage.pk)
    changed.name = name
    changed.save()


def test_an_old_row_that_a_snapshot_still_shows_is_not_kept(session: Session) -> None:
    cage = Cage.objects.create(name="old")
    with isolation("repeatable read"):
        with transaction.atomic():
            Cage.objects.count()  # the first statement, by which the snapshot is taken
            session.run(lambda: change(cage))
            assert name_of(cage) == "old", "that is what snapshot isolation is"
            assert session.run(lambda: cache.get("cage")) is None
            assert session.run(lambda: name_of(cage)) == "new"
            assert name_of(cage) == "new", "what others have read since then is no worse"
        assert name_of(cage) == "new"


def test_an_old_row_that_a_read_in_progress_still_shows_is_not_kept(session: Session) -> None:
    """On SQLite all reads of a connection are as old as the oldest of them that is not at its end."""
    cage = Cage.objects.create(name="old")
    Cage.objects.create()
    for _ in Cage.objects.iterator(chunk_size=1):
        session.run(lambda: change(cage, "new"))
        name_of(cage)
        break
    assert name_of(cage) == "new"
    with connection.cursor() as cursor:
        cursor.execute("SELECT id FROM zoo_cage")
        cursor.fetchone()
        session.run(lambda: change(cage, "newer"))
        name_of(cage)
    assert name_of(cage) == "newer"


def test_a_snapshot_may_be_asked_for_in_sql(session: Session) -> None:
    """Only PostgreSQL takes this inside a transaction. SQLite always has one snapshot, MariaDB takes it before."""
    cage = Cage.objects.create(name="old")
    text = "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ"
    with connection.cursor() as cursor:
        if connection.vendor == "mysql":
            cursor.execute(text)
        with transaction.atomic():
            if connection.vendor == "postgresql":
                cursor.execute(text)
            Cage.objects.count()
            session.run(lambda: change(cage))
            assert name_of(cage) == "old"
    assert cache.get("cage") is None
    assert name_of(cage) == "new"


# ----------------------------------------------------------------------------- what a cached function has read


@coherent_lru_cache
def rate(currency: str) -> float:
    return 1.5


def test_what_was_made_of_a_cached_call_falls_with_it() -> None:
    for _ in range(2):  # the second time it is a hit
        assert cache.get_or_set("page", lambda: rate("EUR")) == 1.5
        rate.cache_clear()
        assert cache.get("page") is None


@pytest.mark.parametrize("alias", ["default", "over"])
def test_what_was_made_of_a_value_in_a_cache_backend_falls_with_it(alias: str) -> None:
    backend: Any = caches[alias]
    reads = {
        "get": lambda: backend.get("part"),
        "get_many": lambda: backend.get_many(["part"]).get("part"),
        "in": lambda: backend.get("part") if "part" in backend else None,
        "get_or_set": lambda: backend.get_or_set("part", lambda: 2),
    }
    for what, read in reads.items():
        for near in (True, False):
            backend.set("part", 1)
            if not near:  # in the second level only, if there is one
                default_cache().bus.ledger.flush(bus().clock())
            read()
            seen = cache.get_or_set("page", read)
            assert cache.get("page") == seen, what
            backend.set("part", 3)
            assert cache.get("page") is None, what
            cache.get_or_set("page", read)
            backend.delete("part")
            assert cache.get("page") is None, what


def test_what_was_made_of_there_being_nothing_falls_when_there_is_something() -> None:
    backend: Any = caches["default"]
    cache.get_or_set("page", lambda: backend.get("part", "nothing"))
    assert cache.get("page") == "nothing"
    invalidate(backend.key_name("part"))
    assert cache.get("page") is None
    cache.get_or_set("page", lambda: cache.get("food", "nothing"))
    invalidate("food")
    assert cache.get("page") is None


def test_who_is_not_tracked_depends_on_nothing() -> None:
    cache.get_or_set("page", lambda: rate("EUR"), track=False)
    rate.cache_clear()
    assert cache.get("page") == 1.5
    assert not slow_path.reasons


# --------------------------------------------------------------------------------------- the cache backend


@pytest.mark.parametrize("alias", ["default", "over"])
def test_a_key_that_the_transaction_invalidates_is_read_from_nowhere(alias: str) -> None:
    backend: Any = caches[alias]
    backend.set_many({"page": "old", "other": "value"})
    with transaction.atomic():
        invalidate(backend.key_name("page"))
        assert [backend.get("page"), backend.get_many(["page", "other"])] == [None, {"other": "value"}]
        assert [backend.has_key("page"), backend.has_key("other")] == [False, True]
        assert backend.get_or_set("page", lambda: "new") == "new"
        roll_back()
    assert backend.get("page") == "old"


def test_a_second_level_gets_no_uncommitted_fill() -> None:
    over: Any = caches["over"]
    with transaction.atomic():
        Cage.objects.create()
        over.get("page")
        over.set("page", "computed")
        over.get_or_set("other", lambda: "computed")
        roll_back()
    assert caches["l2"]._cache == {}
    assert over.get_many(["page", "other"]) == {}


@pytest.mark.parametrize("alias", ["default", "over"])
def test_an_add_is_a_change(alias: str, wire) -> None:
    """A session's new key is looked for and then added, by a request that has written other things."""
    backend: Any = caches[alias]
    wire.messages()
    with transaction.atomic():
        Cage.objects.create()
        assert "session" not in backend
        assert backend.add("session", "data") is True
        assert backend.add("session", "other data") is False
        assert "asession" not in backend
        assert len(wire.messages()) == 1
    assert backend.get("session") == "data"
    with transaction.atomic():
        Cage.objects.create()
        assert backend.add("another", "data") is True
        roll_back()
    assert backend.get("another") is None, "it may be made of what is never committed"


def test_a_coroutine_that_a_transaction_waits_for_keeps_its_uncommitted_data() -> None:
    """It runs in another thread than its queries, which come back to the transaction's."""

    async def load() -> str:
        return (await Cage.objects.aget(name="uncommitted")).name

    async def read() -> str:
        return await cache.aget_or_set("cage", load, tags=["zoo.cage"])

    with transaction.atomic():
        Cage.objects.create(name="uncommitted")
        assert async_to_sync(read)() == "uncommitted"
        roll_back()
    assert cache.get("cage") is None


def test_a_coroutine_that_a_transaction_waits_for_sees_no_newer_than_that() -> None:
    async def read() -> str:
        return await cache.aget_or_set("page", old, tags=["t"])

    async def old() -> str:
        return "old"

    with transaction.atomic():
        invalidate_elsewhere("page")
        assert async_to_sync(read)() == "old"
    assert cache.get("page") is None


def test_nothing_is_asked_where_nobody_has_written() -> None:
    assert not slow_path.reasons
    assert not view.has_written()
    with transaction.atomic():
        assert not view.has_written()
        Cage.objects.create()
        assert view.has_written()
        assert not Thread(view.has_written).outcome(), "another thread"
    assert not view.has_written()
