"""KEY_CONTEXT: what an answer depends on besides its arguments."""

import asyncio
import threading
from collections.abc import Iterator
from contextvars import ContextVar
from types import SimpleNamespace
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.db import connections, transaction
from django.template import Context as TemplateContext
from django.template import Engine
from django.test import override_settings
from django.utils import timezone, translation

from django_integration import bus, cache, cached, coherent_lru_cache, invalidate
from django_integration.monitoring.explain import explain
from django_integration.reads import context
from django_integration.reads.default_cache import default_cache
from django_integration.transactions import schemas as schemas_module
from django_integration.transactions.schemas import schemas
from invalidator import InvalidName

from ..zoo.models import Animal, Cage

pytestmark = pytest.mark.usefixtures("db")

GOOD = {"URL": "memory://", "NAMESPACE": "tests-of-contexts", "MAX_STALENESS": 30}

tenant: ContextVar[Any] = ContextVar("tenant", default="a")


def current_tenant() -> Any:
    """Named by the settings."""
    return tenant.get()


@cached
def cached_tenant() -> Any:
    """As one that finds the tenant in the database."""
    return tenant.get()


def failing() -> str:
    raise LookupError("no tenant")


@pytest.fixture
def of_tenants() -> Iterator[None]:
    """Values belong to tenants, of which "a" is in force."""
    with key_context(f"{__name__}.current_tenant"):
        yield


class key_context(override_settings):  # noqa: N801 - used as a function is
    """Inside the block KEY_CONTEXT is so."""

    def __init__(self, *names: Any) -> None:
        super().__init__(INVALIDATOR={**GOOD, "KEY_CONTEXT": names})

    def enable(self) -> None:
        super().enable()
        tenant.set("a")
        assert bus().wait_until_leased(20)


class TestTenants:
    pytestmark = pytest.mark.usefixtures("of_tenants")

    def test_a_function_has_a_value_for_each(self) -> None:
        calls: list[str] = []

        @cached
        def menu(number: int = 0) -> str:
            calls.append(tenant.get())
            return f"{number} of {tenant.get()}"

        for _ in range(2):
            for name in ("a", "b"):
                tenant.set(name)
                assert menu() == menu(0) == f"0 of {name}"
        assert calls == ["a", "b"]

    def test_its_key_is_the_name_of_them_all(self) -> None:
        @cached(key="menu:{number}")
        def menu(number: int) -> str:
            return str(tenant.get())

        for name in ("a", "b"):
            tenant.set(name)
            menu(1)
        assert menu.key(1) == "menu:1"
        assert len(cache.peek_all("menu:1")) == 2
        assert explain("menu:1")["entry"]["variants"] == 2  # type: ignore[index]
        menu.invalidate(1)
        assert cache.peek_all("menu:1") == []
        menu(1)
        assert cache.evict("menu:1") == 1

    def test_a_row_voids_the_values_of_all(self) -> None:
        """Whose row it is cannot be told by its name: a value too many costs a load."""

        @cached
        def names() -> list[str]:
            return [f"{cage.name} of {tenant.get()}" for cage in Cage.objects.all()]

        Cage.objects.create(name="old")
        for name in ("a", "b"):
            tenant.set(name)
            assert names() == [f"old of {name}"]
        Cage.objects.update(name="new")
        for name in ("a", "b"):
            tenant.set(name)
            assert names() == [f"new of {name}"]

    def test_get_or_set_and_all_that_reads_and_stores_by_key(self) -> None:
        assert cache.get_or_set("menu", lambda: "of a") == "of a"
        assert cache.get("menu") == "of a"
        assert cache.set("other", 1)
        assert cache.set_many({"more": 2}) == []
        assert cache.get_many(["menu", "other", "more", "none"]) == {"menu": "of a", "other": 1, "more": 2}
        assert "menu" in cache
        assert cache.peek("menu").value == cache.get_entry("menu").value == "of a"  # type: ignore[union-attr]
        tenant.set("b")
        assert cache.get("menu") is None
        assert "menu" not in cache
        assert cache.peek("menu") is cache.get_entry("menu") is None
        assert cache.get_many(["menu", "other"]) == {}
        assert cache.load_entry("menu", lambda: "of b").value == cache.get("menu") == "of b"
        tenant.set("a")
        assert cache.get("menu") == "of a"
        cache.invalidate("menu", "other", "more")
        assert cache.get_many(["menu", "other", "more"]) == {}
        assert default_cache().peek_all("menu") == []

    def test_what_is_set_in_a_transaction_that_is_rolled_back_falls_by_its_name(self) -> None:
        """Variants are no names: no other process could read them."""
        with transaction.atomic():
            Cage.objects.create()
            cache.set("menu", 1, tags=["mine"])
            transaction.set_rollback(True)
        assert cache.get("menu") is None

    def test_coroutines_each_in_its_own(self) -> None:
        @cached
        async def menu() -> str:
            await asyncio.sleep(0)
            return str(tenant.get())

        async def of(name: str) -> list[str]:
            tenant.set(name)

            async def load() -> str:
                return str(tenant.get())

            entry = await cache.aload_entry("entry", load)
            return [await menu(), await cache.aget_or_set("menu", load), await menu(), entry.value]

        async def both() -> list[list[str]]:
            return list(await asyncio.gather(of("a"), of("b")))

        assert asyncio.run(both()) == [["a"] * 4, ["b"] * 4]

    def test_a_load_is_shared_within_one_only(self) -> None:
        begun, go = threading.Event(), threading.Event()

        @cached
        def menu() -> str:
            if tenant.get() == "a":
                begun.set()
                assert go.wait(20)
            return str(tenant.get())

        thread = threading.Thread(target=menu)
        thread.start()
        assert begun.wait(20)
        tenant.set("b")
        assert menu() == "b"
        go.set()
        thread.join()

    def test_a_part_of_a_template(self) -> None:
        text = '{% load invalidator %}{% cached "menu" 300 %}{{ value }}{% endcached %}'
        template = Engine(libraries={"invalidator": "django_integration.templatetags.invalidator"}).from_string(text)
        for _ in range(2):
            for name in ("a", "b"):
                tenant.set(name)
                assert template.render(TemplateContext({"value": name})) == name

    def test_functions_with_a_cache_of_their_own(self) -> None:
        @coherent_lru_cache
        def menu(number: int) -> str:
            return f"{number} of {tenant.get()}"

        for _ in range(2):
            for name in ("a", "b"):
                tenant.set(name)
                assert menu(1) == f"1 of {name}"
        assert menu.cache_info().currsize == 2
        menu.cache_invalidate(1)
        assert menu.cache_info().currsize == 0

    def test_a_function_is_found_by_its_key_in_the_context_of_the_caller(self) -> None:
        @cached(key="menu:{number}")
        def menu(number: int) -> str:
            return str(tenant.get())

        for name in ("a", "b"):
            tenant.set(name)
            menu(1)
            assert cache.get(menu.key(1)) == name

    @pytest.mark.parametrize("values", [(1, "1", True, 1.0, None, ("a", 1), ("a", "1"), "a', 'b")])
    def test_values_that_are_equal_and_not_the_same(self, values: tuple[Any, ...]) -> None:
        @cached
        def which() -> Any:
            return tenant.get()

        for _ in range(2):
            for value in values:
                tenant.set(value)
                assert (which(), type(which())) == (value, type(value))

    def test_a_row(self) -> None:
        tenant.set(Cage.objects.create(name="a"))
        assert cache.get_or_set("menu", lambda: 1) == 1
        tenant.set(Cage.objects.get())
        assert cache.get("menu") == 1
        tenant.set(Cage.objects.create(name="b"))
        assert cache.get("menu") is None

    def test_what_has_no_text_is_an_error_that_names_the_setting(self) -> None:
        tenant.set(object())
        with pytest.raises(InvalidName, match=r"KEY_CONTEXT.* returned object"):
            cache.get("menu")

    def test_texts_are_kept_within_bounds(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(context, "MOST_TEXTS", 3)
        for number in range(10):
            tenant.set(str(number))
            assert cache.get_or_set("menu", tenant.get) == str(number)


class TestWhatCanBeNamed:
    def test_without_a_context_a_key_is_itself(self) -> None:
        with key_context():
            assert context.context.part is None
            assert context.in_context("menu") == "menu"

    def test_the_language(self) -> None:
        @cached
        def greeting() -> str | None:
            return translation.get_language()

        with key_context("language"):
            for language in ("en", "nl", "en", None):
                with translation.override(language):
                    assert greeting() == language

    def test_the_time_zone(self) -> None:
        @cached
        def zone() -> str:
            return timezone.get_current_timezone_name()

        with key_context("timezone"):
            for name in ("UTC", "Europe/Amsterdam", "Asia/Tokyo", "UTC"):
                with timezone.override(name):
                    assert zone() == name

    def test_the_schema_of_a_package_for_tenants(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """They keep it on their connection."""
        with key_context("schema"):
            for name in ("one", "two", "one"):
                monkeypatch.setattr(connections["default"], "schema_name", name, raising=False)
                assert cache.get_or_set("menu", lambda name=name: name) == name

    def test_a_package_for_tenants_needs_no_setting(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(connections["default"], "schema_name", "one", raising=False)
        with key_context():
            for name in ("one", "two", "one"):
                monkeypatch.setattr(connections["default"], "schema_name", name)
                assert cache.get_or_set("menu", lambda name=name: name) == name

    def test_coroutines_of_tenants_share_nothing_unless_all_connections_are_at_one(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The connection of the event loop's thread is not the one that their queries will use."""

        async def read() -> Any:
            return cache.set("menu", 1), cache.get("menu")

        there = SimpleNamespace(alias="default", schema_name="one")
        monkeypatch.setattr(context, "known", [there, there, SimpleNamespace(alias="other")])
        with key_context("schema"):
            assert asyncio.run(read()) == (True, 1)
            monkeypatch.setattr(context, "known", [there, SimpleNamespace(alias="default", schema_name="two")])
            assert asyncio.run(read()) == (True, None)

    def test_the_database_that_a_router_chooses(self) -> None:
        @cached
        def names() -> list[str]:
            return [cage.name for cage in Cage.objects.all()]

        Cage.objects.create(name="here")
        Cage.objects.using("other").create(name="there")
        with key_context("database"), override_settings(DATABASE_ROUTERS=[Router()]):
            for _ in range(2):
                for alias, name in (("default", "here"), ("other", "there")):
                    tenant.set(alias)
                    assert names() == [name]

    def test_several_and_a_function_itself(self) -> None:
        with key_context("language", current_tenant):
            values = set()
            for language in ("en", "nl"):
                for name in ("a", "b"):
                    tenant.set(name)
                    with translation.override(language):
                        values.add(cache.get_or_set("menu", lambda pair=(language, name): pair))
            assert len(values) == 4

    def test_a_method_of_a_variable(self) -> None:
        """Of a `ContextVar`, for one."""
        with key_context(f"{__name__}.tenant.get"):
            assert cache.get_or_set("menu", lambda: 1) == 1
            tenant.set("b")
            assert cache.get("menu") is None

    def test_one_alone(self) -> None:
        with override_settings(INVALIDATOR={**GOOD, "KEY_CONTEXT": "language"}):
            with translation.override("nl"):
                assert cache.get_or_set("menu", lambda: "nl") == "nl"
            with translation.override("en"):
                assert cache.get("menu") is None

    def test_a_function_that_is_cached_itself(self) -> None:
        """It is asked for the context of its own key."""
        with key_context(cached_tenant):
            assert cache.get_or_set("menu", lambda: 1) == 1
            tenant.set("b")
            assert cache.get("menu") == 1, "the tenant that was cached"
            cached_tenant.invalidate()
            assert cache.get("menu") is None

    @pytest.mark.parametrize(
        ("names", "is_shared"),
        [((), False), (("language", "timezone"), False), ((f"{__name__}.current_tenant",), True)],
    )
    def test_coroutines_after_sql_has_chosen_a_schema(
        self, monkeypatch: pytest.MonkeyPatch, names: tuple[str, ...], is_shared: bool
    ) -> None:
        """Which connection they will use is not known, so a function has to tell the tenants."""

        async def read() -> Any:
            return cache.get("menu"), cache.set("menu", 1), cache.get("menu")

        monkeypatch.setattr(schemas, "are_chosen", True)
        monkeypatch.setattr(schemas_module, "known", ["one", "two"])
        monkeypatch.setattr(schemas_module, "_known_schema_of", lambda connection: connection)
        with key_context(*names):
            assert asyncio.run(read())[2] == (1 if is_shared else None)

    def test_an_error_of_a_function_is_the_callers(self) -> None:
        """Nobody may be served what is another tenant's."""
        with key_context(failing), pytest.raises(LookupError, match="no tenant"):
            cache.get_or_set("menu", lambda: 1)

    def test_what_cannot_be_imported_is_an_error_of_each_read(self) -> None:
        """And of no write."""
        with override_settings(INVALIDATOR={**GOOD, "KEY_CONTEXT": "nowhere.current"}):
            Cage.objects.create()
            invalidate("menu")
            for _ in range(2):
                with pytest.raises(ImproperlyConfigured, match=r"KEY_CONTEXT.* names 'nowhere.current'"):
                    cache.get("menu")

    def test_it_ends_with_the_settings(self) -> None:
        with key_context("language"):
            assert cache.get_or_set("menu", lambda: 1) == 1
        assert cache.get("menu") is None
        assert context.context.part is None


class Router:
    """A database for each tenant."""

    def db_for_read(self, model: type, **hints: Any) -> str | None:
        return str(tenant.get()) if model in (Cage, Animal) else None
