"""@cached: from a function and its arguments to a key, tags and a load."""

import asyncio
import functools
import inspect
import math
from collections.abc import Iterator
from datetime import timedelta

import pytest

from invalidator.bus import Invalidator
from invalidator.decorator import CachedFunction, Front, cached_function
from invalidator.errors import InvalidName, InvalidSetting
from invalidator.loaded import Loaded
from invalidator.names import tag
from invalidator.near_cache import NearCache
from tests.support import Clock, SilentLink


@pytest.fixture
def cache(clock: Clock) -> Iterator[NearCache]:
    with Invalidator("memory://", namespace="shop", clock=clock, link=SilentLink(), close_timeout=0) as bus:
        bus.ledger.prove(clock())
        yield NearCache(bus)


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
        class Other:
            def get(self, key: str, default: object) -> int:
                return 11

        front = Front(lambda: cache)
        product = CachedFunction(lambda id: id, lambda: cache, None, (), "product:{id}", front=front)
        assert product(1) == 1
        front.cache = Other()
        assert product(1) == 11
        front.forget()
        assert product(1) == 1

    def test_decorating_starts_nothing(self) -> None:
        """The cache is asked for at each call: a module is imported before the settings are read."""

        def not_yet() -> None:
            raise AssertionError("asked too early")

        def product(id: int) -> None: ...

        assert cached_function(product, not_yet, ttl=None, tags=(), key=None).key(1)


class TestWithoutParentheses:
    def test_a_function(self, cache) -> None:
        calls = []

        @cache.cached
        def product(id: int) -> str:
            """A product."""
            calls.append(id)
            return f"product {id}"

        assert [product(1), product(id=1)] == ["product 1"] * 2
        assert calls == [1]
        assert product.__doc__ == "A product."
        product.invalidate(1)
        product(1)
        assert calls == [1, 1]

    def test_an_async_function(self, cache) -> None:
        @cache.cached
        async def product(id: int) -> int:
            return id

        assert asyncio.run(product(1)) == 1
        assert product.key(1) in cache

    def test_static_methods_whichever_decorator_comes_first(self, cache) -> None:
        class Shop:
            @staticmethod
            @cache.cached
            def one(id: int) -> int:
                return id

            @cache.cached
            @staticmethod
            def other(id: int) -> int:
                return id

        assert [Shop.one(1), Shop().one(2), Shop.other(3), Shop().other(4)] == [1, 2, 3, 4]
        assert Shop().other.key(4) in cache

    def test_methods_of_classes_whichever_decorator_comes_first(self, cache) -> None:
        class Shop:
            name = "a"

            @classmethod
            @cache.cached(key="one:{id}")
            def one(cls, id: int) -> tuple[str, int]:
                return cls.name, id

            @cache.cached(key="other:{cls.name}:{id}")
            @classmethod
            def other(cls, id: int) -> tuple[str, int]:
                return cls.name, id

        class Branch(Shop):
            name = "b"

        assert (Shop.one(1), Shop().one(2)) == (("a", 1), ("a", 2))
        assert (Shop.other(1), Shop().other(1), Branch.other(1)) == (("a", 1), ("a", 1), ("b", 1))
        assert Branch.other.key(1) == "other:b:1"

    def test_a_partial_and_an_object_that_can_be_called(self, cache) -> None:
        def add(a: int, b: int) -> int:
            return a + b

        class Adder:
            def __init__(self, a: int) -> None:
                self.a = a

            def __call__(self, b: int) -> int:
                return self.a + b

        class Later(Adder):
            async def __call__(self, b: int) -> int:  # type: ignore[override]
                return self.a + b

        made = [cache.cached(functools.partial(add, 1)), cache.cached(functools.partial(add, 2))]
        made += [cache.cached(Adder(10)), cache.cached(Adder(20))]
        assert [function(1) for function in made * 2] == [2, 3, 11, 21] * 2
        assert made[1].key(1) == made[0].key(1) == f"{__name__}.{add.__qualname__}@1(b=1)"
        assert asyncio.run(cache.cached(Later(30))(1)) == 31

    @pytest.mark.parametrize(
        ("given", "message"),
        [
            (300, r"did you mean cached\(ttl=300\)"),
            ("product:{pk}", r"did you mean cached\(key='product:\{pk\}'\)"),
            (["prices"], r"did you mean cached\(tags=\['prices'\]\)"),
            (property(lambda self: 1), "write @property above"),
        ],
    )
    def test_what_is_no_function_is_refused_with_a_repair(self, cache, given, message) -> None:
        with pytest.raises(TypeError, match=message):
            cache.cached(given)

    def test_what_a_decorator_is_given_must_be_a_function(self, cache) -> None:
        with pytest.raises(TypeError, match="cached decorates functions, not int"):
            cache.cached(ttl=1)(7)


class TestOptions:
    """A wrong one is refused where it is written, and not at the first call, in production."""

    @pytest.mark.parametrize(
        ("ttl", "message"),
        [
            (-1, "for no end write None"),
            (math.inf, "for no end write None"),
            ("5", r"did you mean 5\?"),
            ("soon", "seconds, 0 or more, not 'soon'$"),
            ("-5", "not '-5'$"),
            (timedelta(minutes=5), r"did you mean 300\?"),
            (math.nan, "not nan"),
            (True, "not True"),
        ],
    )
    def test_a_ttl(self, cache, ttl, message) -> None:
        with pytest.raises(InvalidSetting, match=message):
            cache.cached(ttl=ttl)

    @pytest.mark.parametrize("key", [7, "", ["product:{pk}"], b"product"])
    def test_a_key(self, cache, key) -> None:
        with pytest.raises(InvalidSetting, match=r'key must be a template such as "product:\{pk\}"'):
            cache.cached(key=key)

    @pytest.mark.parametrize("version", [1.5, None, (1,)])
    def test_a_version(self, cache, version) -> None:
        with pytest.raises(InvalidSetting, match="version must be a whole number or a string"):
            cache.cached(version=version)

    @pytest.mark.parametrize("tags", [7, [7], ["a", None], [""], None, tag("t")])
    def test_tags(self, cache, tags) -> None:
        with pytest.raises(InvalidName, match="tag"):
            cache.cached(tags=tags)

    @pytest.mark.parametrize(
        ("name", "message"),
        [
            ("tll", r"cached has no option 'tll': did you mean ttl\?"),
            ("size", "its options are ttl, tags, key, version"),
        ],
    )
    def test_an_unknown_option(self, cache, name, message) -> None:
        with pytest.raises(TypeError, match=message):
            cache.cached(**{name: 5})

    def test_options_are_looked_at_by_whoever_makes_a_cached_function(self, cache) -> None:
        with pytest.raises(InvalidSetting, match="ttl"):
            CachedFunction(lambda id: id, lambda: cache, -1, (), None)
