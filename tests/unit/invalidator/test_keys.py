"""From a call of a function to its key; and that no two functions share one."""

import pickle
from collections.abc import Iterator
from datetime import date, datetime, timedelta
from decimal import Decimal
from enum import Enum
from typing import Any
from uuid import UUID

import pytest

from invalidator import decorator, keys
from invalidator.bus import Invalidator
from invalidator.errors import InvalidName
from invalidator.near_cache import NearCache
from tests.support import Clock, SilentLink


@pytest.fixture
def cache(clock: Clock) -> Iterator[NearCache]:
    with Invalidator("memory://", namespace="shop", clock=clock, link=SilentLink(), close_timeout=0) as bus:
        bus.ledger.prove(clock())
        yield NearCache(bus)


class Color(Enum):
    RED = 1


class TestKeys:
    def test_a_template(self, cache) -> None:
        @cache.cached(key="product:{id}:{lang}")
        def product(id: int, lang: str = "en") -> None: ...

        assert product.key(7) == product.key(id=7, lang="en") == "product:7:en"

    def test_a_template_that_names_no_argument_is_refused_where_it_is_written(self, cache) -> None:
        for options in ({"key": "product:{pk}"}, {"tags": ["product:{pk}"]}):
            with pytest.raises(InvalidName, match=r"product: the template 'product:\{pk\}' names 'pk'"):

                @cache.cached(**options)
                def product(id: int) -> None: ...

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
        assert keys.plain_key("f", {"text": "é \u0378 \U0001fae9 \\"}) == r"f@1(text='\xe9 \u0378 \U0001fae9 \\')"

    @pytest.mark.parametrize("text", ["é" * 190, "😀" * 150, "\ud800"])
    def test_any_text_makes_a_key_that_is_one(self, cache, text) -> None:
        """The limit is in bytes."""

        def f(id: str) -> str:
            return id

        f.__module__, f.__qualname__ = "m", "f"
        product = cache.cached()(f)
        assert product(text) == text
        assert product.key(text) in cache


def make_counter(cache: NearCache, of: str, **options: Any) -> Any:
    @cache.cached(**options)
    def count(number: int = 0) -> str:
        return f"{number} {of}"

    return count


class TestSharingNothing:
    """Two functions never share a value, whatever they are called."""

    @pytest.mark.parametrize(
        "options", [{}, {"key": "count"}, {"key": "count:{number}"}, {"key": lambda number=0: "c"}]
    )
    def test_functions_of_a_factory(self, cache, options) -> None:
        cats, dogs = (make_counter(cache, of, **options) for of in ("cats", "dogs"))
        assert [cats(), dogs(), cats(), dogs()] == ["0 cats", "0 dogs"] * 2
        assert cats.key() == dogs.key()

    def test_functions_of_one_code_whose_cells_change(self, cache) -> None:
        made = []
        for of in ("cats", "dogs"):
            made.append(cache.cached(lambda of=of: of))
            made.append(cache.cached(lambda: of))  # noqa: B023 - the mistake that people make
        assert [function() for function in made] == ["cats", "dogs", "dogs", "dogs"]

    def test_lambdas(self, cache) -> None:
        cats, dogs = cache.cached(lambda: "cats"), cache.cached(lambda: "dogs")
        assert [cats(), dogs(), cats(), dogs()] == ["cats", "dogs"] * 2

    def test_methods_of_classes_of_a_factory(self, cache) -> None:
        def make(of: str) -> Any:
            class Counter:
                @cache.cached(key="count:{number}")
                def count(self, number: int) -> str:
                    return f"{number} {of}"

            return Counter()

        cats, dogs = make("cats"), make("dogs")
        assert [cats.count(1), dogs.count(1), cats.count(1)] == ["1 cats", "1 dogs", "1 cats"]

    def test_a_method_of_two_classes_whose_objects_have_one_key(self, cache) -> None:
        """As the rows of two models that share an abstract one."""

        class Priced:
            pk = 1

            @cache.cached(key="price:{self.pk}")
            def price(self) -> str:
                return type(self).__name__

        class Book(Priced): ...

        class Film(Priced): ...

        assert [Book().price(), Film().price(), Book().price()] == ["Book", "Film", "Book"]
        Film().price.invalidate()
        assert "price:1" not in cache

    def test_a_module_that_is_loaded_again(self, cache) -> None:
        """Or a cell of a notebook that is run again, with other code."""
        made = []
        for code in ("return 'old'", "return 'new'"):
            module: dict[str, Any] = {"cached": cache.cached, "__name__": "shop.again"}
            exec(f"@cached\ndef price(pk): {code}", module)
            made.append(module["price"])
        assert [function(1) for function in made * 2] == ["old", "new"] * 2
        assert {function.key(1) for function in made} == {"shop.again.price@1(pk=1)"}

    def test_one_function_decorated_twice(self, cache, clock) -> None:
        """The second one's results would live as long as the first one's."""

        def now() -> int:
            return clock()

        short, long = cache.cached(ttl=1)(now), cache.cached(ttl=100)(now)
        first = long()
        assert short() == first
        clock.advance(1)
        assert (short() == first, long() == first) == (False, True)

    def test_a_function_and_what_is_set_under_its_key(self, cache) -> None:
        @cache.cached(key="product:{pk}")
        def product(pk: int) -> str:
            return "loaded"

        cache.set("product:1", "set")
        assert product(1) == "loaded"
        assert cache.get("product:1") == "set"
        cache.invalidate("product:1")
        assert cache.get("product:1") is None

    @pytest.mark.parametrize(
        ("one", "other"),
        [(("1:2", "3"), ("1", "2:3")), ((1, 2), ("1", 2)), ((True, 1), ("True", 1)), ((1, ":"), ("1:", ""))],
    )
    def test_arguments_of_which_a_template_makes_one_text(self, cache, one, other) -> None:
        @cache.cached(key="page:{a}:{b}")
        def page(a: Any, b: Any) -> Any:
            return a, b

        for _ in range(2):
            assert (page(*one), page(*other)) == (one, other)
            assert page(a=one[0], b=one[1]) == one

    def test_the_text_that_people_write_voids_all_that_have_it(self, cache) -> None:
        functions = [make_counter(cache, of, key="count:{number}") for of in ("cats", "dogs")]
        others = [make_counter(cache, of) for of in ("cats", "dogs")]
        for function in functions + others:
            function(1)
        assert len(cache.peek_all("count:1")) == len(cache.peek_all(others[0].key(1))) == 2
        cache.invalidate("count:1")
        assert cache.peek_all("count:1") == []
        assert "count:1" not in cache
        others[1].invalidate(1)
        assert cache.peek_all(others[0].key(1)) == []

    def test_functions_made_again_and_again_are_warned_of(self, cache, monkeypatch, caplog) -> None:
        """A function made in a view finds nothing of what it has cached in the last request."""
        monkeypatch.setattr(keys, "AGAIN_AND_AGAIN", 3)
        monkeypatch.setattr(keys, "_decorated", {})
        for _ in range(5):
            make_counter(cache, "cats")
        (record,) = caplog.records
        assert "make_counter.<locals>.count@1 was decorated 3 times" in record.getMessage()

    def test_the_memory_of_names_is_bounded(self, cache, monkeypatch) -> None:
        monkeypatch.setattr(keys, "MOST_NAMES", 0)
        made = []
        for of in ("cats", "dogs"):
            function = make_counter(cache, of).__wrapped__
            function.__qualname__ = "a_name_of_its_own"
            made.append(cache.cached(function))
        assert f"{__name__}.a_name_of_its_own@1" not in keys._decorated
        assert [function() for function in made * 2] == ["0 cats", "0 dogs"] * 2

    def test_enumerations_of_one_name_and_two_modules(self, cache) -> None:
        other = Enum("Color", {"RED": 1}, module="elsewhere", qualname="Color")

        @cache.cached
        def product(color: Enum) -> Enum:
            return color

        assert (product(Color.RED), product(other.RED)) == (Color.RED, other.RED)
