"""What would be read later is evaluated inside the load, refused, or warned of."""

import argparse
import asyncio
import collections
import functools
import itertools
import types
import warnings
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import pytest
from django.core import paginator as paginators
from django.core.paginator import Paginator
from django.db import connection
from django.db.models import QuerySet
from django.forms import CharField, Form, ModelChoiceField, formset_factory, modelformset_factory
from django.http import HttpResponse, StreamingHttpResponse
from django.template import Context, engines
from django.template.response import SimpleTemplateResponse
from django.utils.functional import SimpleLazyObject
from django.utils.translation import gettext_lazy
from rest_framework.response import Response
from rest_framework.serializers import ModelSerializer

from django_integration import UnknownReads, cache, cached
from django_integration.dependencies import recorder as recorders
from django_integration.dependencies import results
from django_integration.dependencies.results import unread
from django_integration.reads.default_cache import default_cache
from invalidator import Loaded
from tests.unit.django_integration.zoo.models import Animal, Cage

pytestmark = pytest.mark.usefixtures("db")


@pytest.fixture(autouse=True)
def no_warning_was_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recorders, "_warned", set())


@dataclass
class Box:
    rows: Any
    more: Any = None


@dataclass(frozen=True, slots=True)
class Sealed:
    rows: Any
    unset: Any = field(init=False)


class Thing:
    """An object of the application's own, with hidden attributes."""

    def __init__(self, rows: Any) -> None:
        self._rows = rows


class Slotted:
    __slots__ = ("__rows", "unset")

    def __init__(self, rows: Any) -> None:
        self.__rows = rows


class Both(Slotted):
    def __init__(self, rows: Any) -> None:
        super().__init__(1)
        self.rows = rows


class Pair(NamedTuple):
    name: str
    rows: Any


class Named(list[Any]):
    rows: Any = None


class Keyed(dict[Any, Any]):
    def values(self) -> Any:
        raise AssertionError


def evaluate(result: Any) -> int:
    """Evaluate everything in *result*. Returns how many things that were."""
    count = 0
    for each in unread(result):
        each()
        count += 1
    return count


def rows() -> QuerySet[Cage]:
    return Cage.objects.order_by("pk")


def _named(rows: Any) -> Named:
    named = Named()
    named.rows = rows
    return named


def _animal(rows: Any) -> Animal:
    animal = Animal()
    animal.rows = rows  # type: ignore[attr-defined]
    return animal


def _cage_of(rows: Any) -> Animal:
    cage = Cage()
    cage.rows = rows  # type: ignore[attr-defined]
    return Animal(cage=cage)


def _prefetched(rows: Any) -> Animal:
    animal = Animal()
    animal._prefetched_objects_cache = {"foods": rows}  # type: ignore[attr-defined]
    return animal


HOLDERS: dict[str, Callable[[Any], Any]] = {
    "itself": lambda rows: rows,
    "a value with a TTL": Loaded,
    "a list": lambda rows: [1, rows],
    "a tuple": lambda rows: (1, (rows,)),
    "a named tuple": lambda rows: Pair("a", rows),
    "a set": lambda rows: {rows, 1},
    "a frozen set": lambda rows: frozenset([rows]),
    "a dictionary": lambda rows: {"a": {"b": rows}},
    "a key of a dictionary": lambda rows: {rows: 1},
    "a dictionary with values of its own": lambda rows: Keyed(a=rows),
    "a default dictionary": lambda rows: collections.defaultdict(list, a=rows),
    "an ordered dictionary": lambda rows: collections.OrderedDict(a=rows),
    "a chain of dictionaries": lambda rows: collections.ChainMap({}, {"a": rows}),
    "a user's dictionary": lambda rows: collections.UserDict(a=rows),
    "a user's list": lambda rows: collections.UserList([rows]),
    "a list with attributes": _named,
    "a deque": lambda rows: collections.deque([rows]),
    "the values of a dictionary": lambda rows: {"a": rows}.values(),
    "the items of a dictionary": lambda rows: {"a": rows}.items(),
    "the keys of a dictionary": lambda rows: {rows: "a"}.keys(),
    "a read-only dictionary": lambda rows: types.MappingProxyType({"a": rows}),
    "a name space": lambda rows: types.SimpleNamespace(rows=rows),
    "arguments": lambda rows: argparse.Namespace(rows=rows),
    "a dataclass": Box,
    "a dataclass in a dataclass": lambda rows: Box(1, [Box(rows)]),
    "a frozen dataclass with slots": Sealed,
    "an object": Thing,
    "an object with slots": Slotted,
    "an object with both": Both,
    "a partial": lambda rows: functools.partial(print, 1, rows),
    "a partial, by name": lambda rows: functools.partial(print, file=rows),
    "a partial of a partial": lambda rows: functools.partial(functools.partial(print, rows), 1),
    "a lazy object": lambda rows: SimpleLazyObject(lambda: rows),
    "an attribute of a row": _animal,
    "an attribute of a row that a row has followed": _cage_of,
    "what was prefetched": _prefetched,
    "a row in a list": lambda rows: [_animal(1), _animal(rows)],
    "a context of a template": lambda rows: Context({"rows": rows}),
    "a page of a list": lambda rows: Paginator([rows], 1).page(1),
}


@pytest.mark.parametrize("holder", HOLDERS.values(), ids=HOLDERS.keys())
def test_a_query_set_is_evaluated_wherever_it_is(holder: Callable[[Any], Any]) -> None:
    Cage.objects.create()
    held = rows()
    result = holder(held)
    assert evaluate(result) >= 1
    assert held._result_cache is not None
    assert [type(row) for row in held] == [Cage]


def test_a_raw_query_set_too() -> None:
    held = Cage.objects.raw("SELECT * FROM zoo_cage")
    evaluate([held])
    assert held._result_cache is not None


def test_a_query_set_that_counts_when_it_is_asked_for_its_length_is_evaluated() -> None:
    class Counting(QuerySet[Any]):
        def __len__(self) -> int:
            return self.count()

    held = Counting(Cage)
    evaluate(held)
    assert held._result_cache is not None


def test_the_rows_of_a_query_set_are_looked_into() -> None:
    Cage.objects.create()
    held = rows()
    inner = Animal.objects.all()
    held[0:]._fetch_all()
    for cage in held:
        cage.animals = inner  # type: ignore[attr-defined]
    evaluate(held)
    assert inner._result_cache is not None


def test_what_comes_out_of_an_evaluation_is_looked_into() -> None:
    inner = rows()
    evaluate(SimpleLazyObject(lambda: [SimpleLazyObject(lambda: inner)]))
    assert inner._result_cache is not None


def test_what_is_in_itself_is_no_trap() -> None:
    held = rows()
    box = Box(held)
    box.more = [box, {"box": box}]
    assert evaluate(box) == 1


def test_what_is_there_twice_is_evaluated_once() -> None:
    held = rows()
    assert evaluate([held, {"a": held}]) == 1


class TestPages:
    def test_a_page_has_its_rows_and_its_numbers(self) -> None:
        for _ in range(3):
            Cage.objects.create()
        page = Paginator(rows(), 2).page(1)
        page.paginator.__dict__.pop("count")
        evaluate(page)
        with connection.execute_wrapper(_no_query):
            assert len(list(page)) == 2
            assert (page.has_next(), page.paginator.count, page.paginator.num_pages) == (True, 3, 2)
            assert list(page.paginator.page_range) == [1, 2]

    def test_the_rows_of_other_pages_are_not_read(self) -> None:
        page = Paginator(rows(), 2).page(1)
        evaluate({"page": page, "paginator": page.paginator})
        evaluate({"paginator": page.paginator, "page": page})
        assert page.paginator.object_list._result_cache is None

    def test_a_paginator_alone_has_all_its_rows(self) -> None:
        Cage.objects.create()
        paginator = Paginator(rows(), 2)
        evaluate(paginator)
        with connection.execute_wrapper(_no_query):
            assert len(list(paginator.page(1))) == 1

    def test_a_page_of_somebodys_own_is_looked_into(self) -> None:
        class Own(paginators.Page):
            extra: Any

        page = Own([], 1, Paginator([], 1))
        page.extra = rows()
        evaluate(page)
        assert page.extra._result_cache is not None

    def test_a_paginator_that_counts_asynchronously_has_counted(self) -> None:
        """As Django's own of 6.0 and later does."""

        class Async(Paginator):
            counted = 0

            async def anum_pages(self) -> int:
                self.counted += await self.object_list.acount() + 1
                return 1

        page = paginators.Page([], 1, Async(rows(), 2))
        evaluate(page)
        assert page.paginator.counted == 1


def _no_query(*args: object) -> None:
    raise AssertionError(args)


class TestResponses:
    def test_a_response_is_rendered(self) -> None:
        response = SimpleTemplateResponse(engines["django"].from_string("{{ rows|length }}"), {"rows": rows()})
        evaluate(response)
        with connection.execute_wrapper(_no_query):
            assert response.content == b"0"

    def test_one_that_was_is_left_alone(self) -> None:
        response = SimpleTemplateResponse(engines["django"].from_string("x")).render()
        assert evaluate(response) == 0
        assert evaluate(HttpResponse("x")) == 0

    def test_an_error_of_the_template_is_the_loaders(self) -> None:
        with pytest.raises(ZeroDivisionError):
            evaluate(SimpleTemplateResponse(engines["django"].from_string("{{ f }}"), {"f": lambda: 1 // 0}))


class Serializer(ModelSerializer[Cage]):
    class Meta:
        model = Cage
        fields = ("name",)


class Choosing(Form):
    cage = ModelChoiceField(Cage.objects.all())


class Writing(Form):
    text = CharField()


async def _later() -> int:
    return 1


def _closed(coroutine: Any) -> Any:
    coroutine.close()
    return coroutine


REFUSED: dict[str, tuple[Callable[[], Any], str]] = {
    "a generator": (lambda: (row for row in rows()), "return a list of it"),
    "an iterator": (lambda: iter([1]), "return a list of it"),
    "a map": (lambda: map(str, [1]), "return a list of it"),
    "a filter": (lambda: filter(None, [1]), "return a list of it"),
    "a zip": (lambda: zip([1], [2], strict=True), "return a list of it"),
    "itertools": (lambda: itertools.chain([1]), "return a list of it"),
    "rows one by one": (lambda: rows().iterator(), "return a list of it"),
    "rows one by one, asynchronously": (lambda: rows().aiterator(), "return a list of it"),
    "a cursor": (connection.cursor, "return a list of it"),
    "a coroutine": (lambda: _closed(_later()), "await it"),
    "a weak reference": (lambda: weakref.ref(Thing), "return that itself"),
    "a weak proxy": (lambda: weakref.proxy(Thing), "return that itself"),
    "a weak dictionary": (weakref.WeakValueDictionary, "return that itself"),
    "a manager": (lambda: Cage.objects, "return a list of its rows"),
    "a related manager": (lambda: Cage(pk=1).animal_set, "return a list of its rows"),
    "a manager of links": (lambda: Animal(pk=1).foods, "return a list of its rows"),
    "choices of a form": (lambda: Choosing().fields["cage"].choices, "return a list of its rows"),
    "a form": (Choosing, r"return what it renders: str\(form\)"),
    "a set of forms": (modelformset_factory(Cage, fields=["name"]), "return what it renders"),
    "a response in parts": (lambda: StreamingHttpResponse([b""]), "return an HttpResponse"),
    "a response of an API": (lambda: Response({}), "return its data"),
    "a serializer": (lambda: Serializer(rows(), many=True), "return its data"),
}


class TestRefused:
    @pytest.mark.parametrize(("make", "remedy"), REFUSED.values(), ids=REFUSED.keys())
    def test_it_is_named_with_its_place_and_a_remedy(self, make: Callable[[], Any], remedy: str) -> None:
        with pytest.raises(TypeError, match=f"must not return an? .*: .*{remedy}"):
            evaluate(make())
        with pytest.raises(TypeError, match=rf"\(at \['a'\]\[1\].rows\): .*{remedy}"):
            evaluate({"a": [1, Box(make())]})

    @pytest.mark.parametrize("make", [made for made, _ in REFUSED.values()], ids=REFUSED.keys())
    def test_hidden_in_an_object_it_is_warned_of_once(self, make: Callable[[], Any]) -> None:
        with pytest.warns(UnknownReads, match=r"at ._rows, there is an? "):
            evaluate(Thing(make()))
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            evaluate(Thing(make()))

    def test_through_the_cache_the_caller_sees_it(self) -> None:
        with pytest.raises(TypeError, match=r"\(at .rows\)"):
            cache.get_or_set("a", lambda: Box(map(str, [1])))
        assert "a" not in cache


NOT_READ_LATER: list[Callable[[], Any]] = [
    lambda: gettext_lazy("name"),
    lambda: [gettext_lazy("name")],
    lambda: Serializer(Cage(name="a")).data,
    lambda: Serializer([Cage(name="a")], many=True).data,
    Writing,
    formset_factory(Writing),
    lambda: [Cage, print, len, Cage().save, argparse],
    lambda: Box(types.SimpleNamespace(a=1)),
    lambda: SimpleLazyObject(lambda: 1) and 1,
    object,
    lambda: Cage(name="a"),
    lambda: [Animal(cage=Cage())],
    argparse.ArgumentParser,
]


@pytest.mark.parametrize("make", NOT_READ_LATER)
def test_everything_else_is_left_alone(make: Callable[[], Any]) -> None:
    with warnings.catch_warnings(), connection.execute_wrapper(_no_query):
        warnings.simplefilter("error")
        assert evaluate(make()) == 0


def test_a_serializer_that_was_read_is_left_alone() -> None:
    serializer = Serializer(rows(), many=True)
    assert serializer.data == []
    assert evaluate(serializer) == 0


def test_an_object_with_a_mind_of_its_own_is_not_asked() -> None:
    """Neither by attributes nor by its class: it might read from the database."""

    class Own:
        def __getattribute__(self, name: str) -> Any:
            raise AssertionError(name)

    assert evaluate([Own()]) == 0


def test_there_is_an_end_to_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(results, "MAX_LOOKED_INTO", 10)
    with pytest.warns(UnknownReads, match="not all of them were looked into"):
        evaluate([Box(1) for _ in range(20)])


def test_many_plain_items_are_not_looked_at_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(results, "MAX_LOOKED_INTO", 3)
    assert evaluate([1, "a", None, 2.0] * 1000) == 0
    assert evaluate([Cage(name="a") for _ in range(1000)]) == 0


class TestThroughTheCache:
    @pytest.fixture(autouse=True)
    def leased(self) -> Iterator[None]:
        assert default_cache().bus.wait_until_leased(20)
        yield
        default_cache().bus.clear()

    @pytest.mark.parametrize(
        ("load", "read"),
        [
            (lambda: Box(rows()), lambda box: box.rows),
            (lambda: Paginator(rows(), 10).page(1), list),
            (lambda: collections.deque([rows()]), lambda found: found[0]),
            (lambda: _animal(rows()), lambda animal: animal.rows),
            (lambda: SimpleLazyObject(rows), list),
        ],
    )
    @pytest.mark.parametrize("track", [True, False])
    def test_readers_find_no_more_than_was_loaded(self, load: Any, read: Any, track: bool) -> None:
        Cage.objects.create(name="old")
        function = cached(key="a", track=track)(load)
        function()
        Cage.objects.update(name="new")
        if not track:
            function.invalidate()
        assert [cage.name for cage in read(function())] == ["new"]

    def test_also_asynchronously(self) -> None:
        async def load() -> Any:
            return Box([rows()], SimpleLazyObject(Cage.objects.count))

        box = asyncio.run(cache.aget_or_set("a", load))
        assert box.rows[0]._result_cache is not None
        entry = default_cache().peek("a")
        assert entry is not None
        assert "zoo.cage" in entry.tags
