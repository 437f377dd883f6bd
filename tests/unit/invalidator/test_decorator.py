"""@cached: from a function and its arguments to a key, tags and a load."""

import asyncio
import inspect
import pickle
from collections.abc import Iterator
from datetime import date, datetime, timedelta
from decimal import Decimal
from enum import Enum
from typing import Any
from uuid import UUID

import pytest

from invalidator import decorator
from invalidator.bus import Invalidator
from invalidator.decorator import CachedFunction, Front, cached_function
from invalidator.errors import InvalidName
from invalidator.loaded import Loaded
from invalidator.near_cache import NearCache
from tests.support import Clock, SilentLink


@pytest.fixture
def cache(clock: Clock) -> Iterator[NearCache]:
    with Invalidator("memory://", namespace="shop", clock=clock, link=SilentLink(), close_timeout=0) as bus:
        bus.ledger.prove(clock())
        yield NearCache(bus)


class Color(Enum):
    RED = 1


class TestCalling:
    def test_it_runs_once_per_arguments(self, cache) -> None:
        calls = []

        @cache.cached()
        def product(id: int) -> str:
            calls.append(id)
            return f"product {id}"

        assert [product(1), product(1), product(2)] == ["product 1", "product 1", "product 2"]
        assert calls == [1, 2]

    def test_it_runs_once_for_one_call_however_spelled(self, cache) -> None:
        """f(1), f(id=1) and a default of 1 are one key."""
        calls = []

        @cache.cached()
        def product(id: int = 1, *, full: bool = False) -> None:
            calls.append((id, full))

        product(1)
        product(id=1)
        product()
        product(1, full=False)
        product(full=False, id=1)
        assert calls == [(1, False)]
        product(1, full=True)
        assert calls == [(1, False), (1, True)]

    @pytest.mark.parametrize(
        "call", [lambda f: f(), lambda f: f(1, 2, 3), lambda f: f(1, nonsense=2), lambda f: f(1, id=1)]
    )
    def test_a_wrong_call_is_the_functions_own_error(self, cache, call) -> None:
        @cache.cached()
        def product(id: int, more: int = 0) -> None:
            raise AssertionError

        with pytest.raises(TypeError, match="argument"):
            call(product)

    def test_variable_arguments(self, cache) -> None:
        calls = []

        @cache.cached()
        def many(*ids: int) -> None:
            calls.append(ids)

        many(1, 2)
        many(1, 2)
        many(12)
        assert calls == [(1, 2), (12,)]

    def test_variable_keywords_need_a_key(self, cache) -> None:
        """And are told so."""

        @cache.cached()
        def many(**filters: str) -> None:
            raise AssertionError

        with pytest.raises(InvalidName, match="filters"):
            many(color="red")

    def test_an_async_function_stays_one(self, cache) -> None:
        calls = []

        @cache.cached()
        async def product(id: int) -> str:
            calls.append(id)
            return f"product {id}"

        async def main() -> list[str]:
            return [await product(1), await product(id=1)]

        assert asyncio.run(main()) == ["product 1"] * 2
        assert calls == [1]
        if hasattr(inspect, "markcoroutinefunction"):
            assert inspect.iscoroutinefunction(product)

    def test_a_method(self, cache) -> None:
        """Its key must be given: `self` has no text that is the same everywhere."""

        class Shop:
            def __init__(self, id: int) -> None:
                self.id = id

            @cache.cached(key="shop:{self.id}:{product}", tags=["shop:{self.id}"])
            def price(self, product: int) -> tuple[int, int]:
                """What it costs."""
                return self.id, product

        assert (Shop(1).price(7), Shop(2).price(7)) == ((1, 7), (2, 7))
        assert Shop(1).price.key(7) == "shop:1:7"
        assert "shop:1:7" in cache
        Shop(1).price.invalidate(7)
        assert "shop:1:7" not in cache
        assert "shop:2:7" in cache
        assert Shop(1).price.__wrapped__(9) == (1, 9)
        assert Shop.price.__doc__ == "What it costs."

    def test_a_method_without_a_key_is_refused_with_a_repair(self, cache) -> None:
        class Shop:
            @cache.cached()
            def price(self) -> None:
                pass

        with pytest.raises(InvalidName, match=r"give cached\(key=…\) a template"):
            Shop().price()

    def test_the_function_itself_always_loads(self, cache) -> None:
        calls = []

        @cache.cached()
        def product(id: int) -> None:
            """A product."""
            calls.append(id)

        product.__wrapped__(1)
        product.__wrapped__(1)
        assert calls == [1, 1]
        assert (product.__name__, product.__doc__) == ("product", "A product.")

    def test_a_loader_may_decide(self, cache, clock) -> None:
        @cache.cached()
        def product(id: int) -> Loaded[str]:
            return Loaded("value", ttl=1, tags=["t"])

        assert product(1) == "value"
        assert cache.peek(product.key(1)).tags == ("t",)

    def test_a_ttl(self, cache, clock) -> None:
        @cache.cached(ttl=1)
        def product(id: int) -> int:
            return clock()

        first = product(1)
        clock.advance(1)
        assert product(1) != first


class TestKeys:
    def test_a_template(self, cache) -> None:
        @cache.cached(key="product:{id}:{lang}")
        def product(id: int, lang: str = "en") -> None: ...

        assert product.key(7) == product.key(id=7, lang="en") == "product:7:en"

    def test_a_template_that_names_no_argument_is_refused(self, cache) -> None:
        @cache.cached(key="product:{pk}")
        def product(id: int) -> None: ...

        with pytest.raises((InvalidName, KeyError), match="pk"):
            product(7)

    def test_a_function(self, cache) -> None:
        @cache.cached(key=lambda id, **options: f"p{id}")
        def product(id: int, lang: str = "en") -> None: ...

        assert product.key(7, lang="de") == "p7"

    @pytest.mark.parametrize(
        "value",
        [
            "text",
            b"bytes",
            7,
            1.5,
            None,
            True,
            Decimal("1.50"),
            date(2024, 2, 29),
            datetime(2024, 2, 29, 12),  # noqa: DTZ001
            timedelta(1),
            UUID(int=7),
            Color.RED,
            (1, ("a", None)),
        ],
    )
    def test_plain_values_make_a_key_that_is_the_same_everywhere(self, cache, value) -> None:
        @cache.cached()
        def product(id: Any) -> None: ...

        key = product.key(value)
        assert key == product.key(pickle.loads(pickle.dumps(value)))
        assert " at 0x" not in key
        product(value)
        assert key in cache

    def test_values_that_differ_make_different_keys(self, cache) -> None:
        @cache.cached()
        def product(id: Any = None, other: Any = None) -> None: ...

        values = [1, "1", 1.5, True, None, b"1", (1,), ("1",), ((1,),), Decimal(1), "1, other=2", ("a", "b"), ("a, b",)]
        keys = {product.key(value) for value in values} | {product.key(1, 2), product.key(2, 1)}
        assert len(keys) == len(values) + 2

    def test_functions_of_different_names_make_different_keys(self, cache) -> None:
        def make() -> Any:
            @cache.cached()
            def inner(id: int) -> None: ...

            return inner

        @cache.cached()
        def other(id: int) -> None: ...

        assert make().key(1) == make().key(1) != other.key(1)

    @pytest.mark.parametrize("value", [object(), [1], {"a": 1}, {1}, lambda: 1, (1, [2]), type("Model", (), {})()])
    def test_anything_else_is_refused_with_the_repair(self, cache, value) -> None:
        """The text of an object may hold an address: no other server would ever invalidate that key."""

        @cache.cached()
        def product(thing: Any) -> None:
            raise AssertionError("must not be loaded")

        with pytest.raises(InvalidName, match=r"product:\{thing.pk\}"):
            product(value)

    def test_a_subclass_that_shows_two_values_as_one_makes_two_keys(self, cache) -> None:
        """One would be served for the other."""

        class Sly(str):
            __slots__ = ()

            def __repr__(self) -> str:
                return "same"

        class Price(Decimal):
            __slots__ = ()

            def __repr__(self) -> str:
                return f"{self:.0f}"

        @cache.cached()
        def product(id: Any) -> None: ...

        keys = {product.key(value) for value in (Sly("a"), Sly("b"), Price("1.1"), Price("1.2"))}
        assert len(keys) == 4

    def test_a_key_has_the_functions_name_and_version(self, cache) -> None:
        def f(id: int, lang: str = "en") -> None: ...

        f.__module__, f.__qualname__ = "shop.pages", "product"
        assert cache.cached()(f).key(7) == "shop.pages.product@1(id=7, lang='en')"
        assert cache.cached(version="b")(f).key(7) == "shop.pages.product@b(id=7, lang='en')"
        assert "@b" in cache.cached(version="b")(f).key(7, "x" * 500)

    def test_equal_arguments_of_other_types_have_keys_of_their_own(self, cache) -> None:
        """Also the second time, when the key is kept."""

        @cache.cached()
        def product(id: Any, other: Any = None) -> str:
            return f"{id!r} {other!r}"

        for _ in range(2):
            for value in (1, True, 1.0, Decimal(1), Decimal("1.0"), 0.0, -0.0, "a", b"a", b"1"):
                assert product(value) == f"{value!r} None"
                assert product("x", value) == f"'x' {value!r}"

    def test_keys_are_kept_within_bounds(self, cache, monkeypatch) -> None:
        monkeypatch.setattr(decorator, "_KEYS_KEPT", 10)

        @cache.cached()
        def product(id: Any) -> Any:
            return id

        for number in range(25):
            assert product(number) == number
        product("x" * 1000)
        product(1.5)
        kept = product._keys_by_kind
        assert 0 < len(kept[int]) <= 10
        assert not any(keys for kind, keys in kept.items() if kind is not int)

    def test_keys_of_several_arguments_are_kept_within_bounds(self, cache, monkeypatch) -> None:
        monkeypatch.setattr(decorator, "_KEYS_KEPT", 10)

        @cache.cached()
        def product(id: Any, language: str) -> Any:
            return id

        for number in range(25):
            assert product(number, "en") == number
        product(1.5, "en")
        assert 0 < len(product._keys) <= 10
        assert {kinds for _, kinds in product._keys} == {(int, str)}

    def test_a_key_that_a_function_makes_is_made_each_time(self, cache) -> None:
        """It may look at more than its arguments."""
        language = ["en"]

        @cache.cached(key=lambda id: f"{id}:{language[0]}")
        def product(id: int) -> str:
            return language[0]

        assert product(1) == "en"
        language[0] = "de"
        assert product(1) == "de"

    def test_others_may_describe_their_values(self, cache) -> None:
        class Thing:
            pass

        def describe(value: object) -> str | None:
            return "<thing>" if isinstance(value, Thing) else None

        def f(id: Any) -> None: ...

        f.__module__, f.__qualname__ = "m", "f"
        product = decorator.CachedFunction(f, lambda: cache, None, (), None, 1, describe)
        assert product.key((1, Thing())) == "m.f@1(id=(1, <thing>))"
        with pytest.raises(InvalidName, match="id="):
            product.key([1])

    def test_a_long_key_is_hashed(self, cache) -> None:
        @cache.cached()
        def product(id: str) -> str:
            return id

        one, two = "x" * 5000 + "1", "x" * 5000 + "2"
        assert product.key(one) != product.key(two)
        assert len(product.key(one).encode()) <= 512
        assert (product(one), product(two)) == (one, two)

    def test_a_key_is_spelled_alike_by_every_version_of_python(self) -> None:
        """What `repr` escapes depends on the Unicode that a Python knows."""
        assert decorator.plain_key("f", {"text": "é \u0378 \U0001fae9 \\"}) == r"f@1(text='\xe9 \u0378 \U0001fae9 \\')"

    @pytest.mark.parametrize("text", ["é" * 190, "😀" * 150, "\ud800"])
    def test_any_text_makes_a_key_that_is_one(self, cache, text) -> None:
        """The limit is in bytes."""

        def f(id: str) -> str:
            return id

        f.__module__, f.__qualname__ = "m", "f"
        product = cache.cached()(f)
        assert product(text) == text
        assert product.key(text) in cache


class TestTags:
    def test_templates(self, cache) -> None:
        @cache.cached(tags=["category:{category}", "products"])
        def product(id: int, category: int = 3) -> int:
            return id

        product(1)
        assert cache.peek(product.key(1)).tags == ("category:3", "products")
        cache.invalidate(tags=["category:3"])
        assert product.key(1) not in cache

    def test_a_function(self, cache) -> None:
        @cache.cached(tags=lambda id: [f"t{id}"])
        def product(id: int) -> int:
            return id

        product(1)
        assert cache.peek(product.key(1)).tags == ("t1",)

    def test_a_lone_string_is_refused_where_it_is_written(self, cache) -> None:
        with pytest.raises(InvalidName, match="for one tag write"):
            cache.cached(tags="prices")

    def test_an_iterable_that_can_be_read_once_lasts(self, cache) -> None:
        @cache.cached(tags=(tag for tag in ["t"]))
        def product(id: int) -> int:
            return id

        product(1)
        product(2)
        assert cache.peek(product.key(2)).tags == ("t",)


class TestInvalidating:
    def test_it_invalidates_what_these_arguments_gave(self, cache) -> None:
        @cache.cached()
        def product(id: int) -> int:
            return id

        product(1)
        product(2)
        assert product.invalidate(id=1).accepted
        assert product.key(1) not in cache
        assert product.key(2) in cache

    def test_a_hit_reads_the_cache_that_is_in_front(self, cache) -> None:
        front = Front(lambda: cache)
        product = CachedFunction(lambda id: id, lambda: cache, None, (), "product:{id}", front=front)
        assert product(1) == 1
        front.cache = {"product:1": 11}
        assert product(1) == 11
        front.forget()
        assert product(1) == 1

    def test_decorating_starts_nothing(self) -> None:
        """The cache is asked for at each call: a module is imported before the settings are read."""

        def not_yet() -> None:
            raise AssertionError("asked too early")

        @cached_function(not_yet, ttl=None, tags=(), key=None)
        def product(id: int) -> None: ...

        assert product.key(1)
