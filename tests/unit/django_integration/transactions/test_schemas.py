"""
SQL that chooses a schema: which statements, when the database is asked, and on PostgreSQL and MariaDB, a real schema
for each tenant.
"""

import asyncio
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Self

import pytest
from django.db import connection, connections, transaction

from django_integration import cache, cached, coherent_lru_cache
from django_integration.reads import context, default_cache
from django_integration.transactions import progress
from django_integration.transactions import schemas as module
from django_integration.transactions.schemas import Schemas, schemas

from ..sessions import Session
from ..zoo.models import Cage

pytestmark = pytest.mark.usefixtures("db")


class Driver:
    """A driver's connection on which a schema can be chosen."""

    def __init__(self) -> None:
        self.schema = "public"
        self.questions = 0

    def cursor(self) -> "Driver":
        return self

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None: ...

    def execute(self, sql: str) -> None:
        self.questions += 1
        if self.schema == "broken":
            raise ValueError

    def fetchone(self) -> tuple[str]:
        return (self.schema,)


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A connection of this thread, the only one."""
    fake = SimpleNamespace(
        alias="default", vendor="postgresql", connection=Driver(), in_atomic_block=False, autocommit=True
    )
    monkeypatch.setattr(module, "connections", SimpleNamespace(all=lambda **_: [fake]))
    monkeypatch.setattr(module, "known", {fake.alias: fake}.values())
    return fake


@pytest.mark.parametrize(
    ("vendor", "text", "may"),
    [
        ("postgresql", "SET search_path = one, public", True),
        ("postgresql", "set local SEARCH_PATH to one", True),
        ("postgresql", "SELECT set_config('search_path', %s, false)", True),
        ("postgresql", "SET SCHEMA 'one'", True),
        ("postgresql", "SET SESSION AUTHORIZATION one", True),
        ("postgresql", "SET LOCAL ROLE one", True),
        ("postgresql", "RESET ALL", True),
        ("postgresql", "DISCARD ALL", True),
        ("postgresql", "SET statement_timeout = 5", False),
        ("postgresql", "USE one", False),
        ("mysql", "USE one", True),
        ("mysql", "SELECT 1; use one", True),
        ("mysql", "SELECT * FROM t USE INDEX (i)", False),
        ("oracle", "ALTER SESSION SET CURRENT_SCHEMA = one", True),
        ("sqlite", "SET search_path = one", False),
    ],
)
def test_statements_that_may_choose(vendor: str, text: str, may: bool) -> None:
    assert Schemas().may_choose(SimpleNamespace(vendor=vendor), text) is may  # type: ignore[arg-type]


class TestAsking:
    """The database is asked once after each statement that may have chosen another schema."""

    def test_nobody_is_asked_before_the_first(self, fake: SimpleNamespace) -> None:
        found = Schemas()
        assert (found.here(), found.are_chosen, fake.connection.questions) == ("", False, 0)

    def test_once_after_each(self, fake: SimpleNamespace) -> None:
        found, firsts = Schemas(), []
        found.on_first.append(lambda: firsts.append(1))
        for name in ("one", "two"):
            fake.connection.schema = name
            found.chosen(fake)
            assert found.here() == found.here() == f"default=('{name}',) "
        assert (fake.connection.questions, firsts) == (2, [1])

    def test_a_new_session_begins_with_none(self, fake: SimpleNamespace) -> None:
        found = Schemas()
        found.chosen(fake)
        fake.connection = Driver()
        assert found.here() == ""
        assert fake.connection.questions == 0

    def test_again_after_the_end_of_a_transaction_in_which_it_was_chosen(
        self, fake: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        found = Schemas()
        fake.in_atomic_block, fake.connection.schema = True, "one"
        found.chosen(fake)
        assert found.here() == found.here() == "default=('one',) "
        fake.connection.schema = "savepoint"
        found.ended(fake)
        assert found.here() == "default=('savepoint',) "
        fake.in_atomic_block, fake.connection.schema = False, "public"
        progress.note_beginning(fake)  # type: ignore[arg-type]
        assert found.here() == found.here() == "default=('public',) "
        assert fake.connection.questions == 3

    def test_not_again_if_it_was_chosen_outside_of_transactions(self, fake: SimpleNamespace) -> None:
        found = Schemas()
        found.chosen(fake)
        assert found.here() == "default=('public',) "
        progress.note_beginning(fake)  # type: ignore[arg-type]
        found.ended(fake)
        assert found.here() == "default=('public',) "
        assert fake.connection.questions == 1

    def test_what_cannot_be_told_is_equal_to_nothing(self, fake: SimpleNamespace) -> None:
        found = Schemas()
        fake.connection.schema = "broken"
        found.chosen(fake)
        assert found.here() != found.here()
        fake.connection.schema = "one"
        assert found.here() == found.here() == "default=('one',) "

    def test_a_coroutine_may_use_any_connection(self, fake: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
        async def here() -> str:
            return found.here()

        found = Schemas()
        assert asyncio.run(here()) == ""
        found.chosen(fake)
        assert asyncio.run(here()) != asyncio.run(here()), "nobody has asked yet, and it must not"
        found.here()
        assert asyncio.run(here()) == "default=('public',) "
        other = SimpleNamespace(connection=Driver())
        monkeypatch.setattr(module, "known", [fake, other])
        assert asyncio.run(here()) != asyncio.run(here())
        assert fake.connection.questions == 1

    def test_a_coroutine_whose_tenant_somebody_else_knows(self, fake: SimpleNamespace) -> None:
        async def here() -> str:
            return found.here_in_threads()

        found = Schemas()
        found.chosen(fake)
        assert asyncio.run(here()) == ""
        assert found.here_in_threads() == "default=('public',) "


def names() -> list[str]:
    """As any function that is cached."""
    return [cage.name for cage in Cage.objects.order_by("pk")]


def run(sql: str, *parameters: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(sql, parameters or None)


CHOOSE = {"postgresql": "SET search_path = {}, public", "mysql": "USE {}"}


if connection.vendor in CHOOSE:

    @pytest.fixture
    def choose() -> Iterator[Callable[[str], None]]:
        """A schema for each of two tenants, with a cage in each; returns what chooses one."""
        assert default_cache.default_cache().bus.wait_until_leased(20)
        kind = "SCHEMA" if connection.vendor == "postgresql" else "DATABASE"
        like = "(LIKE public.zoo_cage INCLUDING ALL)" if connection.vendor == "postgresql" else "LIKE zoo_cage"
        original = "public" if connection.vendor == "postgresql" else connection.settings_dict["NAME"]
        for tenant in ("one", "two"):
            run(f"CREATE {kind} {tenant}")
            run(f"CREATE TABLE {tenant}.zoo_cage {like}")
            run(f"INSERT INTO {tenant}.zoo_cage (id, name) VALUES (1, 'cage of {tenant}')")
        yield lambda tenant: run(CHOOSE[connection.vendor].format(tenant))
        run(CHOOSE[connection.vendor].format(original))
        for tenant in ("one", "two"):
            run(f"DROP {kind} {tenant}" + (" CASCADE" if connection.vendor == "postgresql" else ""))
        schemas.are_chosen = False
        del connections["default"].__dict__[module._STATE]
        context.context.begin()
        default_cache._face_again()
        default_cache.default_cache().bus.clear()

    class TestASchemaForEachTenant:
        def test_each_is_served_its_own(self, choose: Callable[[str], None]) -> None:
            calls: list[str] = []

            @cached
            def loaded() -> list[str]:
                calls.append("load")
                return names()

            lru = coherent_lru_cache(names)
            for _ in range(3):
                for tenant in ("one", "two"):
                    choose(tenant)
                    assert loaded() == cache.get_or_set("cages", names) == lru() == [f"cage of {tenant}"]
            assert len(calls) == 2

        def test_a_write_of_one_voids_the_same_row_of_the_other(self, choose: Callable[[str], None]) -> None:
            """Names know no schema: a load too many, and never a stale value."""
            loaded = cached(names)
            for tenant in ("one", "two"):
                choose(tenant)
                assert loaded() == [f"cage of {tenant}"]
            Cage.objects.filter(pk=1).update(name="new")
            assert loaded() == ["new"]
            assert len(cache.peek_all(loaded.key())) == 1
            choose("one")
            assert loaded() == ["cage of one"]

        def test_other_connections_have_their_own(self, choose: Callable[[str], None], session: Session) -> None:
            loaded = cached(names)
            choose("one")
            assert loaded() == ["cage of one"]
            assert session.run(loaded) == []
            assert session.run(lambda: (choose("two"), loaded())[1]) == ["cage of two"]
            assert loaded() == ["cage of one"]

        def test_reads_ask_nothing_after_the_first(
            self, choose: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
        ) -> None:
            asked: list[object] = []
            ask = module._ask
            monkeypatch.setattr(module, "_ask", lambda of: (asked.append(of), ask(of))[1])
            loaded = cached(names)
            choose("one")
            for _ in range(3):
                with transaction.atomic():
                    assert loaded() == ["cage of one"]
            assert len(asked) == 1


if connection.vendor == "postgresql":

    class TestTransactionsOfPostgreSQL:
        @pytest.mark.parametrize("sql", ["SET LOCAL search_path = {}", "SET search_path = {}"])
        def test_what_a_transaction_has_chosen_ends_with_it(self, choose: Callable[[str], None], sql: str) -> None:
            loaded = cached(names)
            choose("one")
            assert loaded() == ["cage of one"]
            with transaction.atomic():
                run(sql.format("two"))
                assert loaded() == ["cage of two"]
                transaction.set_rollback(True)
            assert loaded() == ["cage of one"]

        def test_what_a_savepoint_has_chosen_ends_with_it(self, choose: Callable[[str], None]) -> None:
            loaded = cached(names)
            choose("one")
            with transaction.atomic():
                with transaction.atomic():
                    run("SELECT set_config('search_path', %s, false)", "two")
                    assert loaded() == ["cage of two"]
                    transaction.set_rollback(True)
                assert loaded() == ["cage of one"]
                by_hand = transaction.savepoint()
                choose("two")
                assert loaded() == ["cage of two"]
                transaction.savepoint_rollback(by_hand)
                assert loaded() == ["cage of one"]

        def test_what_is_committed_stays(self, choose: Callable[[str], None]) -> None:
            loaded = cached(names)
            with transaction.atomic():
                choose("two")
            assert loaded() == ["cage of two"]

        def test_resetting(self, choose: Callable[[str], None]) -> None:
            loaded = cached(names)
            choose("one")
            assert loaded() == ["cage of one"]
            run("RESET search_path")
            assert loaded() == []
