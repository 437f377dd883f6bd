"""coherent_lru_cache: what functools.lru_cache does, and what it does not."""

from __future__ import annotations

import asyncio
import copy
import functools
import inspect
import pickle
import threading
from collections.abc import Iterator
from datetime import UTC, date, datetime
from decimal import Decimal
from enum import IntEnum
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from invalidator.bus import Invalidator
from invalidator.errors import InvalidName, InvalidSetting
from invalidator.loaded import Loaded
from invalidator.lru import UNBOUNDED_MAXSIZE, CacheInfo, coherent_lru_cache
from tests.support import Clock, SilentLink, Thread


@pytest.fixture
def link() -> SilentLink:
    return SilentLink()


@pytest.fixture
def bus(clock: Clock, link: SilentLink) -> Iterator[Invalidator]:
    with Invalidator("memory://", namespace="shop", clock=clock, link=link, close_timeout=0) as bus:
        bus.ledger.prove(clock())
        clock.advance(0.001)
        yield bus


@pytest.fixture
def lru_cache(bus: Invalidator) -> Any:
    return functools.partial(coherent_lru_cache, bus=bus)


class Currency(IntEnum):
    EURO = 1


_hearing_nobody = Invalidator("memory://", namespace="module")


@functools.partial(coherent_lru_cache, bus=_hearing_nobody)
def of_this_module(x: int) -> int:
    return x


class TestAsInFunctools:
    @given(st.data())
    def test_it_counts_and_answers_alike(self, data: st.DataObject) -> None:
        """Any calls of few arguments, with few results: keys are made as functools makes them, typed or not."""
        typed = data.draw(st.booleans())
        value = st.sampled_from([1, 1.0, True, "1", None, (1,), (1.0,), Currency.EURO])
        call = st.tuples(st.lists(value, max_size=2), st.dictionaries(st.sampled_from("ab"), value, max_size=1))
        calls = data.draw(st.lists(call, max_size=30))

        def function(*args: Any, **kwargs: Any) -> Any:
            return args, tuple(kwargs.items())

        with Invalidator("memory://", namespace="any", link=SilentLink(), close_timeout=0) as bus:
            theirs = functools.lru_cache(maxsize=None, typed=typed)(function)
            ours = coherent_lru_cache(maxsize=None, typed=typed, bus=bus)(function)
            for args, kwargs in calls:
                assert repr(ours(*args, **kwargs)) == repr(theirs(*args, **kwargs))
                assert ours.cache_info()[:2] == theirs.cache_info()[:2]
            assert ours.cache_info().currsize == theirs.cache_info().currsize
            ours.cache_clear()
            assert ours.cache_info() == CacheInfo(0, 0, UNBOUNDED_MAXSIZE, 0)

    @pytest.mark.parametrize("typed", [False, True])
    def test_typed(self, lru_cache, typed) -> None:
        @lru_cache(typed=typed)
        def kinds(x: float, y: float = 0) -> tuple[type, type]:
            return type(x), type(y)

        kinds(1, y=1)
        assert kinds(1.0, y=True) == ((float, bool) if typed else (int, int))

    def test_with_and_without_brackets(self, lru_cache) -> None:
        for decorate in (lru_cache, lru_cache(), lru_cache(2), lru_cache(maxsize=2, typed=True)):
            calls = []

            @decorate
            def product(id: int) -> str:
                """A product."""
                calls.append(id)  # noqa: B023 - called in this turn
                return f"product {id}"

            assert [product(1), product(1), product(2)] == ["product 1", "product 1", "product 2"]
            assert calls == [1, 2]
            assert (product.__name__, product.__doc__) == ("product", "A product.")
            assert product.__wrapped__(1) == "product 1"
            assert calls == [1, 2, 1]

    def test_parameters_and_info(self, lru_cache) -> None:
        @lru_cache(maxsize=2, typed=True)
        def double(x: float) -> float:
            return 2 * x

        assert double.cache_parameters() == {"maxsize": 2, "typed": True}
        for x in (1, 1, 1.0, 2, 3):
            double(x)
        assert double.cache_info() == CacheInfo(hits=1, misses=4, maxsize=2, currsize=2)
        assert double.cache_info()._fields == functools.lru_cache(lambda: 1).cache_info()._fields

    def test_none_is_a_high_bound_and_zero_keeps_nothing(self, lru_cache) -> None:
        calls = []

        @lru_cache(maxsize=None)
        def everything(x: int) -> None:
            calls.append(x)

        assert everything.cache_parameters()["maxsize"] is None
        assert everything.cache_info().maxsize == UNBOUNDED_MAXSIZE
        everything(1)
        everything(1)
        assert calls == [1], "None is a result"

        for maxsize in (0, -3):

            @lru_cache(maxsize=maxsize)
            def nothing(x: int) -> None:
                calls.append(x)

            nothing(2)
            nothing(2)
            assert nothing.cache_info() == CacheInfo(0, 2, 0, 0)
            nothing.cache_clear()
            assert nothing.cache_info() == CacheInfo(0, 0, 0, 0)
        assert calls == [1, 2, 2, 2, 2]

    def test_what_cannot_be_hashed_is_refused_before_it_runs(self, lru_cache) -> None:
        @lru_cache
        def never(x: object) -> None:
            raise AssertionError

        with pytest.raises(TypeError, match="unhashable type: 'list'"):
            never([])

    def test_an_exception_is_not_kept(self, lru_cache) -> None:
        calls = []

        @lru_cache
        def fail(x: int) -> None:
            calls.append(x)
            raise KeyError(x)

        for _ in range(2):
            with pytest.raises(KeyError):
                fail(1)
        assert calls == [1, 1]

    def test_a_method_is_cached_by_its_instance(self, lru_cache) -> None:
        class Shop:
            def __init__(self, id: int) -> None:
                self.id = id

            @lru_cache
            def price(self, product: int) -> tuple[int, int]:
                return self.id, product

            @classmethod
            @lru_cache
            def kind(cls) -> str:
                return cls.__name__

            @staticmethod
            @lru_cache
            def tax(x: int) -> int:
                return x

        one, two = Shop(1), Shop(2)
        assert [one.price(7), two.price(7), one.price(7)] == [(1, 7), (2, 7), (1, 7)]
        assert Shop.price.cache_info()[:2] == (1, 2)
        assert (Shop.kind(), Shop.tax(3)) == ("Shop", 3)
        one.price.cache_clear()
        assert Shop.price.cache_info().currsize == 0

    def test_it_may_call_itself(self, lru_cache) -> None:
        @lru_cache(maxsize=None)
        def fibonacci(n: int) -> int:
            return n if n < 2 else fibonacci(n - 1) + fibonacci(n - 2)

        assert fibonacci(60) == 1548008755920
        assert fibonacci.cache_info()[:2] == (58, 61)

    def test_it_is_copied_and_pickled_as_itself(self) -> None:
        for twin in (
            pickle.loads(pickle.dumps(of_this_module)),
            copy.copy(of_this_module),
            copy.deepcopy(of_this_module),
        ):
            assert twin is of_this_module

    def test_a_function_without_a_signature(self, lru_cache) -> None:
        largest = lru_cache(max)
        assert [largest(1, 2), largest(1, 2)] == [2, 2]
        with pytest.raises(InvalidName, match="cannot be named"):
            largest.cache_invalidate(1, 2)
        with pytest.raises(InvalidSetting, match="tags"):
            lru_cache(tags=["max:{x}"])(max)

    @pytest.mark.parametrize("wrong", ["128", 1.5])
    def test_a_wrong_maxsize_is_a_type_error(self, lru_cache, wrong) -> None:
        with pytest.raises(TypeError, match="integer, a callable, or None"):
            lru_cache(wrong)

    @pytest.mark.parametrize("options", [{"tags": "one"}, {"name": 600 * "n"}, {"ttl": "1"}])
    def test_what_cannot_work_is_refused_when_decorating(self, lru_cache, options) -> None:
        with pytest.raises((InvalidName, InvalidSetting)):
            lru_cache(**options)(lambda: None)


class TestWhatFunctoolsDoesNot:
    def test_a_clear_is_published_and_in_force_here_at_once(self, lru_cache, bus, link) -> None:
        @lru_cache(name="rates")
        def rates() -> object:
            return object()

        first = rates()
        assert rates.cache_clear().accepted
        assert link.names_published == ["rates"]
        assert rates.cache_info() == CacheInfo(0, 0, 128, 0)
        assert rates() is not first

    def test_a_clear_that_is_received_voids_all_results(self, lru_cache, bus, clock) -> None:
        """As the listener would stamp it; nobody here has called `cache_clear`."""

        @lru_cache
        def rates(x: int) -> object:
            return object()

        first = rates(1)
        clock.advance(0.001)
        bus.invalidate(tags=[rates.tag])
        assert rates.cache_info().currsize == 0
        assert rates(1) is not first
        assert rates.tag == f"{__name__}.TestWhatFunctoolsDoesNot.{rates.__qualname__.partition('.')[2]}"

    def test_a_result_that_a_clear_overtakes_is_not_kept(self, lru_cache, clock) -> None:
        """The race of functools: computed from the old row, stored after the clear."""
        calls = []

        @lru_cache
        def rates() -> int:
            calls.append(1)
            if len(calls) == 1:
                clock.advance(0.001)
                rates.cache_clear()
                clock.advance(0.001)
            return len(calls)

        assert [rates(), rates(), rates()] == [1, 2, 2]

    def test_threads_that_ask_for_one_call_compute_it_once(self, lru_cache) -> None:
        entered, go_on = threading.Event(), threading.Event()
        calls = []

        @lru_cache
        def slow(x: int) -> int:
            calls.append(x)
            entered.set()
            assert go_on.wait(30)
            return x

        threads = [Thread(lambda: slow(1))]
        assert entered.wait(30)
        threads += [Thread(lambda: slow(1)) for _ in range(3)]
        go_on.set()
        assert [thread.outcome() for thread in threads] == [1] * 4
        assert calls == [1]

    def test_results_end_with_their_ttl(self, lru_cache, clock) -> None:
        @lru_cache(ttl=1)
        def value() -> object:
            return object()

        first = value()
        assert value() is first
        clock.advance(1)
        assert value() is not first

    def test_without_a_lease_a_result_lives_max_staleness(self, lru_cache, bus, clock) -> None:
        @lru_cache
        def value() -> object:
            return object()

        clock.advance(bus.config.max_staleness)  # nothing was proven since
        first = value()
        clock.advance(bus.config.max_staleness / 2)
        assert value() is first
        clock.advance(bus.config.max_staleness / 2)
        assert value() is not first

    def test_tags_are_made_of_the_arguments(self, lru_cache, bus, clock) -> None:
        @lru_cache(tags=["category:{category}"])
        def products(category: int, page: int = 1) -> object:
            return object()

        one, two = products(1), products(category=2)
        clock.advance(0.001)
        bus.invalidate(tags=["category:2"])
        assert products(1) is one
        assert products(category=2) is not two

    def test_the_function_may_decide(self, lru_cache, bus, clock) -> None:
        @lru_cache
        def value() -> Loaded[object]:
            return Loaded(object(), tags=["t"])

        first = value()
        clock.advance(0.001)
        bus.invalidate(tags=["t"])
        assert value() is not first

    def test_an_async_function_stays_one(self, lru_cache) -> None:
        calls = []

        @lru_cache
        async def product(id: int) -> str:
            calls.append(id)
            return f"product {id}"

        @lru_cache(maxsize=0)
        async def uncached() -> int:
            return 1

        async def main() -> list[Any]:
            return [await product(1), await product(1), await uncached()]

        assert asyncio.run(main()) == ["product 1", "product 1", 1]
        assert calls == [1]
        if hasattr(inspect, "markcoroutinefunction"):
            assert inspect.iscoroutinefunction(product)

    def test_a_bus_may_be_asked_for_at_each_call(self, bus) -> None:
        """As Django's, which is another after the settings changed."""
        now = [bus]

        @coherent_lru_cache(bus=lambda: now[0])
        def value() -> object:
            return object()

        first = value()
        assert value() is first
        with Invalidator("memory://", namespace="other", link=SilentLink(), close_timeout=0) as now[0]:
            assert value() is not first
            assert value.cache_info()[:2] == (0, 1)

    def test_another_function_may_invalidate_the_tags(self, lru_cache) -> None:
        called = []

        @lru_cache(invalidate=lambda *tags: called.append(tags), name="f")
        def f(x: int) -> object:
            return object()

        first = f(1)
        assert f.cache_clear() is None
        f.cache_invalidate(1)
        assert called == [("f",), ("f(x=1)", "f(*)")]
        assert f(1) is not first, "here it is gone at once"


class TestOneCall:
    @pytest.fixture
    def f(self, lru_cache) -> Any:
        @lru_cache(name="f")
        def f(x: object = 1, *more: object, **options: object) -> object:
            return object()

        return f

    def test_however_it_is_spelled(self, lru_cache, clock) -> None:
        @lru_cache
        def f(x: object = 1) -> object:
            return object()

        spellings = [lambda: f(1), lambda: f(x=1), f, lambda: f(1.0), lambda: f(True)]
        before = [call() for call in spellings]
        other = f(2)
        clock.advance(0.001)
        f.cache_invalidate(1)
        assert not set(before) & {call() for call in spellings}
        assert f(2) is other

    @pytest.mark.parametrize(
        "value",
        [
            0,
            -1,
            2**70,
            0.5,
            "text",
            "",
            "ünï",
            b"bytes",
            None,
            True,
            date(2026, 1, 2),
            UUID(int=7),
            (),
            (1, ("a", None)),
        ],
    )
    def test_of_plain_arguments(self, f, clock, link, value) -> None:
        first, other = f(value), f("another")
        clock.advance(0.001)
        f.cache_invalidate(value)
        assert f(value) is not first
        assert f("another") is other
        assert all(name.isascii() for name in link.names_published), "what is printable depends on Python's version"

    @pytest.mark.parametrize("equal", [1, 1.0, True, Decimal(1), Currency.EURO, 1 + 0j])
    def test_arguments_that_are_equal_are_one_call(self, f, clock, equal) -> None:
        """A result that is found under 1 may have been computed for any of them."""
        first = f(equal, equal)
        assert f(1, 1) is first
        clock.advance(0.001)
        f.cache_invalidate(1, 1)
        assert f(1, 1) is not first

    @pytest.mark.parametrize(
        "value",
        [
            object(),
            Decimal("0.1"),
            float("nan"),
            float("inf"),
            pytest.param(10**5000, id="huge"),
            datetime(2026, 1, 1, tzinfo=UTC),
            (1, object()),
        ],
    )
    def test_of_other_arguments_is_refused(self, f, value) -> None:
        """They are cached all the same."""
        assert f(value) is f(value)
        with pytest.raises(InvalidName, match=r"f: a call .* cannot be named .* Use cache_clear"):
            f.cache_invalidate(value)

    def test_of_variable_keywords(self, f, clock) -> None:
        """In any order, as whoever calls it may write them."""
        first, other = f(1, color="red", size=2), f(1, color="red", size=3)
        clock.advance(0.001)
        f.cache_invalidate(1, size=2, color="red")
        assert f(1, color="red", size=2) is not first
        assert f(1, color="red", size=3) is other
        with pytest.raises(InvalidName, match="cannot be named"):
            f.cache_invalidate(1, size=object())

    def test_long_arguments_are_hashed(self, f, clock, link) -> None:
        first, other = f(1000 * "a"), f(1000 * "b")
        clock.advance(0.001)
        f.cache_invalidate(1000 * "a")
        assert f(1000 * "a") is not first
        assert f(1000 * "b") is other

    def test_of_a_function_with_a_long_name(self, lru_cache, clock) -> None:
        @lru_cache(name=512 * "n")
        def f(x: int) -> object:
            return object()

        first = f(1)
        clock.advance(0.001)
        f.cache_invalidate(1)
        assert f(1) is not first

    def test_a_wrong_call_cannot_be_named(self, lru_cache) -> None:
        @lru_cache
        def f(x: int) -> None: ...

        with pytest.raises(InvalidName, match="cannot be named"):
            f.cache_invalidate(1, 2)
        with pytest.raises(TypeError, match="positional argument"):
            f(1, 2)


def test_functions_of_one_name_have_results_of_their_own() -> None:
    """A clear of one empties the other, since they have one tag: needless, and never wrong."""
    with Invalidator("memory://", namespace="shop") as bus:

        def counter(of: str) -> Any:
            @coherent_lru_cache(bus=bus)
            def count(number: int) -> str:
                return f"{number} {of}"

            return count

        cats, dogs = counter("cats"), counter("dogs")
        assert [cats(1), dogs(1), cats(1), dogs(1)] == ["1 cats", "1 dogs"] * 2
        cats.cache_clear()
        assert [cats(1), dogs(1)] == ["1 cats", "1 dogs"]


def test_a_partial_is_named_by_its_function() -> None:
    with Invalidator("memory://", namespace="shop") as bus:
        assert coherent_lru_cache(bus=bus)(functools.partial(pow, 2)).tag == "builtins.pow"


def test_an_option_that_is_not_known_is_refused_with_the_one_that_was_meant() -> None:
    with pytest.raises(TypeError, match=r"coherent_lru_cache has no option 'max_size': did you mean maxsize\?"):
        coherent_lru_cache(bus=lambda: None, max_size=5)  # type: ignore[call-overload]
    with pytest.raises(InvalidSetting, match=r"ttl must be .*, not '5': did you mean 5\?"):
        coherent_lru_cache(bus=lambda: None, ttl="5")  # type: ignore[call-overload]
