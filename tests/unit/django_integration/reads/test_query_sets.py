"""Query sets as arguments: what tells them apart, and what a function is given of them."""

import asyncio
import functools
import sys
import types
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import pytest
from django.contrib.contenttypes.prefetch import GenericPrefetch
from django.db import models
from django.db.models import (
    Count,
    DecimalField,
    Exists,
    ExpressionWrapper,
    F,
    FloatField,
    OuterRef,
    Prefetch,
    QuerySet,
    Subquery,
)
from django.db.models.query import ModelIterable
from django.db.models.sql import Query
from django.template import Context, Engine
from django.utils.functional import SimpleLazyObject, cached_property

from django_integration import cached
from django_integration.reads.default_cache import default_cache
from invalidator import InvalidName

from ..zoo.models import Animal, Cage, Crate, Food, Keeper, Label, Note

pytestmark = pytest.mark.usefixtures("db")


@pytest.fixture(autouse=True)
def leased() -> Iterator[None]:
    """What a test loads is leased from the beginning."""
    assert default_cache().bus.wait_until_leased(20)
    yield
    default_cache().bus.clear()


@cached
def of(thing: Any) -> Any:
    """Returns what it was called with."""
    return thing


class Translated(QuerySet[Animal]):
    """Has a state of its own, and hands it to its copies, as packages do."""

    language = "en"
    options: Any = None

    def lang(self, language: str, options: Any = None) -> "Translated":
        chosen = self._chain()  # type: ignore[attr-defined]
        chosen.language, chosen.options = language, options
        return chosen  # type: ignore[no-any-return]

    def _clone(self) -> "Translated":
        clone = super()._clone()  # type: ignore[misc]
        clone.language, clone.options = self.language, self.options
        return clone  # type: ignore[no-any-return]

    def names(self) -> list[str]:
        return [f"{self.language}:{animal.name}" for animal in self]


class Forgetful(QuerySet[Animal]):
    """Has a state that its copies do not get."""

    language = "en"


class Counting(QuerySet[Animal]):
    """Keeps what it has computed."""

    @cached_property
    def mine(self) -> object:
        return object()

    @functools.cached_property
    def also_mine(self) -> object:
        return object()


class Asked(Query):
    """A query with a state of its own."""


class Extra(Prefetch):  # type: ignore[type-arg]
    """A lookup with a state of its own."""


def keys_of(*things: Any) -> list[str]:
    return [of.key(thing) for thing in things]


def all_differ(*things: Any) -> bool:
    return len(set(keys_of(*things))) == len(things)


class TestState:
    """Two query sets that differ in what is not Django's are two arguments."""

    def test_each_gives_its_own_result(self) -> None:
        @cached
        def names(animals: Translated) -> list[str]:
            return animals.names()

        Animal.objects.create(name="ape")
        rows = Translated(Animal)
        assert [names(rows), names(rows.lang("nl")), names(rows.lang("en"))] == [["en:ape"], ["nl:ape"], ["en:ape"]]

    def test_a_state_that_copies_do_not_get_reaches_the_function(self) -> None:
        """It would without a cache."""

        @cached
        def language(animals: Forgetful) -> str:
            return animals.language

        rows = Forgetful(Animal)
        rows.language = "nl"
        assert (language(rows), language(Forgetful(Animal))) == ("nl", "en")

    @pytest.mark.parametrize(
        "values",
        [
            (1, "1", None, True, 1.0),
            ({"a": 1}, {"a": 2}, {"b": 1}, {}),
            ([1, 2], [2, 1], (1, 2), {1, 2}, frozenset({1, 3})),
            ({"a": [{"b": (1,)}]}, {"a": [{"b": (2,)}]}),
            (Cage, Animal, Cage(pk=1), Cage(pk=2), Animal(pk=1)),
            (Cage.objects.filter(pk=1), Cage.objects.filter(pk=2)),
            (len, max, all_differ, str, functools.partial(max, 1), functools.partial(max, 2)),
        ],
    )
    def test_states_of_every_kind(self, values: tuple[Any, ...]) -> None:
        rows = [Translated(Animal).lang("en", value) for value in values]
        assert all_differ(*rows)
        assert keys_of(*rows) == keys_of(*[one.all() for one in rows])

    def test_equal_states_make_one_key_however_they_are_written(self) -> None:
        one, other = {"a": 1, "b": {2, 3}}, {"b": {3, 2}, "a": 1}
        rows = Translated(Animal)
        assert of.key(rows.lang("en", one)) == of.key(rows.lang("en", other))

    @pytest.mark.parametrize("value", [object(), [object()], {"a": object()}, iter(())])
    def test_what_has_no_text_is_refused_by_the_name_of_the_attribute(self, value: Any) -> None:
        with pytest.raises(InvalidName, match=r"thing: the attribute 'options' of .*Translated has a .*cached\(key="):
            of(Translated(Animal).lang("en", value))

    def test_an_attribute_that_somebody_sets_on_djangos_own(self) -> None:
        rows = Animal.objects.all()
        vars(rows)["_tenant"] = "a"
        other = Animal.objects.all()
        vars(other)["_tenant"] = "b"
        assert all_differ(rows, other, Animal.objects.all())

    def test_what_a_class_keeps_of_what_it_has_computed_is_no_state(self) -> None:
        rows = Counting(Animal)
        key = of.key(rows)
        assert rows.mine is not rows.also_mine
        assert of.key(rows) == key
        assert "mine" not in vars(of(rows))

    def test_a_query_of_a_class_of_its_own(self) -> None:
        rows = [Animal.objects.all() for _ in range(4)]
        assert of.key(rows[0]) == of.key(rows[1])
        for one, language in zip(rows[1:], ("en", "nl", object()), strict=True):
            one.query = one.query.chain(Asked)
            vars(one.query)["language"] = language
        assert all_differ(*rows)
        names = [cached(lambda animals: vars(animals.query).get("language"))(one) for one in rows[:3]]
        assert names == [None, "en", "nl"]

    def test_queries_of_two_classes(self) -> None:
        rows, other = Animal.objects.all(), Animal.objects.all()
        other.query = other.query.chain(Asked)
        assert all_differ(rows, other)

    def test_a_lookup_of_a_class_of_its_own(self) -> None:
        lookups = [Prefetch("foods"), Extra("foods"), Extra("foods"), Extra("foods")]
        lookups[2].language, lookups[3].language = "en", "nl"  # type: ignore[attr-defined]
        assert all_differ(*[Animal.objects.prefetch_related(lookup) for lookup in lookups])
        lookups[3].language = object()  # type: ignore[attr-defined]
        with pytest.raises(InvalidName, match=r"Extra 'foods'"):
            of.key(Animal.objects.prefetch_related(lookups[3]))

    def test_the_state_of_a_query_set_in_a_lookup(self) -> None:
        rows = Translated(Animal)
        assert all_differ(
            *[
                Cage.objects.prefetch_related(Prefetch("animal_set", rows.lang(language), to_attr="all"))
                for language in ("en", "nl")
            ]
        )

    def test_classes_of_one_name_are_told_apart(self) -> None:
        def make(language: str) -> Any:
            class Local(QuerySet[Animal]):
                tongue = language

            class Rows(ModelIterable):  # type: ignore[type-arg]
                tongue = language

            rows = Animal.objects.all()
            rows._iterable_class = Rows  # type: ignore[attr-defined]
            return Local(Animal), rows

        (one, with_one), (other, with_other) = make("en"), make("nl")
        assert all_differ(one, other, with_one, with_other)
        assert of.key(one) == of.key(one.all())

    def test_a_class_of_a_module_that_was_loaded_again(self, monkeypatch: pytest.MonkeyPatch) -> None:
        keys = []
        for language in ("en", "nl"):
            module = types.ModuleType("shop.again")
            monkeypatch.setitem(sys.modules, "shop.again", module)
            code = f"class Rows(QuerySet):\n    tongue = {language!r}"
            module.__dict__["QuerySet"] = QuerySet
            exec(code, module.__dict__)
            keys.append(of.key(module.Rows(Animal)))
        assert len(set(keys)) == 2

    def test_an_iterable_that_is_made_with_arguments(self) -> None:
        rows = [Animal.objects.all() for _ in range(2)]
        for number, one in enumerate(rows):
            one._iterable_class = functools.partial(ModelIterable, chunk_size=number)  # type: ignore[attr-defined]
        assert all_differ(*rows)

    def test_one_sql_of_which_django_makes_other_values(self) -> None:
        def weighed(field: Any) -> QuerySet[Any]:
            return Animal.objects.annotate(half=ExpressionWrapper(F("weight") * 2, output_field=field)).values("half")

        @cached
        def halves(rows: QuerySet[Any]) -> list[str]:
            return [type(row["half"]).__name__ for row in rows]

        Animal.objects.create(weight=3)
        assert halves(weighed(FloatField())) == ["float"]
        assert halves(weighed(DecimalField(max_digits=9, decimal_places=1))) == ["Decimal"]
        assert all_differ(*[weighed(DecimalField(max_digits=9, decimal_places=places)) for places in (1, 2)])

    def test_fetch_modes(self) -> None:
        """Of Django 6.1."""
        modes = [getattr(models, name) for name in ("FETCH_ONE", "FETCH_PEERS", "RAISE") if hasattr(models, name)]
        rows: Any = Animal.objects
        assert all_differ(*[rows.fetch_mode(mode) for mode in modes])

    def test_subqueries_and_unions_and_aggregates(self) -> None:
        cages = Cage.objects.filter(pk=OuterRef("cage"))
        rows = Animal.objects.all()
        assert all_differ(
            rows,
            rows.annotate(n=Count("foods")),
            rows.annotate(n=Subquery(cages.values("name")[:1])),
            rows.filter(Exists(cages)),
            rows.filter(Exists(cages.filter(name="a"))),
            rows.union(Animal.objects.filter(name="a")),
            rows.union(Animal.objects.filter(name="b")),
            rows.union(Animal.objects.filter(name="b"), all=True),
            rows.distinct(),
        )


class Pair(NamedTuple):
    rows: Any
    number: int


def name_of_cage(rows: Any) -> list[str]:
    return [f"{row.cage.name}/{row.name}" for row in rows]


class TestRowsInMemory:
    """A query set of a related manager carries the row that it was made from, as its caller has it."""

    @pytest.fixture
    def cage(self) -> Cage:
        cage = Cage.objects.create(name="old")
        Animal.objects.create(name="ape", cage=cage)
        Animal.objects.create(name="bee", cage=cage)
        return cage

    @pytest.mark.parametrize(
        "rows_of",
        [
            lambda cage: cage.animal_set.order_by("pk"),
            lambda cage: cage.animal_set.order_by("pk").all(),
            lambda cage: cage.animal_set.filter(name__gt="").order_by("pk")[:5],
            lambda cage: cage.animal_set.select_related(None).order_by("pk"),
            lambda cage: SimpleLazyObject(lambda: cage.animal_set.order_by("pk")),
        ],
    )
    def test_the_function_sees_what_the_database_has(self, cage: Cage, rows_of: Callable[[Cage], Any]) -> None:
        names = cached(name_of_cage)
        cage.name = "never saved"
        rows = rows_of(cage)
        assert names(rows) == ["old/ape", "old/bee"]
        assert name_of_cage(rows) == ["never saved/ape", "never saved/bee"], "the caller's own is as it was"
        cage.name = "new"
        cage.save()
        assert names(rows_of(Cage.objects.get())) == ["new/ape", "new/bee"]
        Cage.objects.update(name="newer")
        assert names(rows_of(Cage.objects.get())) == ["newer/ape", "newer/bee"]

    def test_one_that_was_evaluated(self, cage: Cage) -> None:
        rows = cage.animal_set.order_by("pk")
        for row in rows:
            row.name = "mine"
        assert cached(name_of_cage)(rows) == ["old/ape", "old/bee"]

    @pytest.mark.parametrize("put", [lambda rows: (rows, 1), lambda rows: ((1, (rows,)),), lambda rows: Pair(rows, 1)])
    def test_inside_of_tuples(self, cage: Cage, put: Callable[[Any], Any]) -> None:
        @cached
        def names(thing: Any) -> list[str]:
            while not isinstance(thing, QuerySet):
                thing = next(item for item in thing if item != 1)
            return name_of_cage(thing)

        cage.name = "never saved"
        assert names(put(cage.animal_set.order_by("pk"))) == ["old/ape", "old/bee"]

    @pytest.mark.parametrize(
        "put", [lambda it: [it], lambda it: {"a": it}, lambda it: {it: it}, lambda it: ([{"a": (it,)}],)]
    )
    def test_inside_of_containers_under_a_key_of_ones_own(self, cage: Cage, put: Callable[[Any], Any]) -> None:
        @cached(key="names:{number}")
        def names(number: int, thing: Any) -> Any:
            return thing

        cage.name = "never saved"
        assert "never saved" not in str(names(1, put(cage)))
        rows = cage.animal_set.order_by("pk")
        found = names(2, [rows, {"b": rows}])
        assert name_of_cage(found[0]) == name_of_cage(found[1]["b"]) == ["old/ape", "old/bee"]

    def test_a_named_tuple_stays_one(self, cage: Cage) -> None:
        assert isinstance(of(Pair(cage, 1)), Pair)

    def test_a_manager_of_a_row_under_a_key_of_ones_own(self, cage: Cage) -> None:
        @cached(key="names:{number}")
        def names(number: int, animals: Any) -> Any:
            return animals.instance.name, name_of_cage(animals.order_by("pk"))

        cage.name = "never saved"
        assert names(1, cage.animal_set) == ("old", ["old/ape", "old/bee"])
        Cage.objects.update(name="new")
        assert names(1, cage.animal_set) == ("new", ["new/ape", "new/bee"])

    def test_a_manager_is_refused_with_the_repair(self, cage: Cage) -> None:
        with pytest.raises(InvalidName, match=r"thing: a manager .* \.all\(\)"):
            of(cage.animal_set)
        with pytest.raises(InvalidName, match=r"\.all\(\)"):
            of(Animal.objects)

    @pytest.mark.parametrize("wrap", [lambda rows: rows, lambda rows: rows.prefetch_related("foods")])
    def test_in_a_prefetch(self, cage: Cage, wrap: Callable[[Any], Any]) -> None:
        @cached
        def names(cages: Any) -> list[str]:
            return [name for each in cages for name in name_of_cage(each.shown)]

        def rows_of(cage: Cage) -> Any:
            lookup = Prefetch("animal_set", wrap(cage.animal_set.order_by("pk")), to_attr="shown")
            return Cage.objects.prefetch_related(lookup)

        inner = Cage.objects.get()
        inner.name = "never saved"
        expected = ["old/ape", "old/bee"]
        assert names(rows_of(inner)) == expected

    def test_a_relation_to_other_rows_in_a_prefetch(self, cage: Cage) -> None:
        """The rows that the prefetch sets itself are recorded; those that its query set brings along are not."""

        @cached
        def names(foods: Any) -> list[str]:
            return [row.cage.name for food in foods for row in food.shown]

        food = Food.objects.create()
        for animal in Animal.objects.all():
            animal.foods.add(food)

        def rows() -> Any:
            return Food.objects.prefetch_related(Prefetch("animal_set", cage.animal_set.all(), to_attr="shown"))

        cage.name = "never saved"
        assert names(rows()) == ["old", "old"]
        Cage.objects.update(name="new")
        assert names(rows()) == ["new", "new"]

    def test_in_a_prefetch_inside_of_a_prefetch(self, cage: Cage) -> None:
        @cached
        def names(keepers: Any) -> list[str]:
            return [row.cage.name for keeper in keepers for one in keeper.cages.all() for row in one.shown]

        keeper = Keeper.objects.create()
        keeper.cages.add(cage)
        inner = Prefetch("animal_set", cage.animal_set.order_by("pk"), to_attr="shown")
        rows = Keeper.objects.prefetch_related(Prefetch("cages", Cage.objects.prefetch_related(inner)))
        cage.name = "never saved"
        assert names(rows) == ["old", "old"]

    def test_in_a_prefetch_of_rows_of_any_model(self, cage: Cage) -> None:
        @cached
        def names(labels: Any) -> list[str]:
            return [label.labelled.cage.name for label in labels]

        Label.objects.create(labelled=cage.animal_set.first())

        def rows() -> Any:
            return Label.objects.prefetch_related(GenericPrefetch("labelled", [cage.animal_set.all()]))

        cage.name = "never saved"
        assert names(rows()) == ["old"]
        Cage.objects.update(name="new")
        assert names(rows()) == ["new"]

    def test_the_caller_s_lookup_stays_as_it_was(self, cage: Cage) -> None:
        rows = cage.animal_set.all()
        lookup = Prefetch("animal_set", rows, to_attr="shown")
        of(Cage.objects.prefetch_related(lookup))
        assert lookup.queryset is rows
        assert cage in rows._known_related_objects[Animal._meta.get_field("cage")].values()  # type: ignore[attr-defined]

    def test_other_managers_of_rows(self, cage: Cage) -> None:
        """Many-to-many and generic ones: their query sets know the row, too, as a hint for routers."""

        @cached
        def hinted(rows: Any) -> tuple[int, str]:
            return rows.count(), getattr(rows._hints.get("instance"), "name", "")

        animal = Animal.objects.get(name="ape")
        animal.foods.add(Food.objects.create(name="fig"))
        animal.name = "never saved"
        assert hinted(animal.foods.all()) == (1, "ape")
        Animal.objects.filter(pk=animal.pk).update(name="new")
        assert hinted(animal.foods.all()) == (1, "new")
        crate = Crate.objects.create()
        Label.objects.create(labelled=crate)
        assert hinted(crate.labels.all()) == (1, "")

    def test_the_database_that_the_row_came_from(self) -> None:
        """A router is asked with the row: the copy, which does not have it, stays with the answer."""
        elsewhere = Cage.objects.using("other").create(name="other")
        Note.objects.using("other").create(cage=elsewhere, text="there")

        @cached
        def texts(notes: Any) -> list[str]:
            return [note.text for note in notes]

        assert texts(elsewhere.note_set.all()) == ["there"]
        assert of.key(elsewhere.note_set.all()).endswith("@other)")
        assert of(elsewhere.note_set.all())._db == "other", "and need not read the row for it"

    def test_nested_calls(self, cage: Cage) -> None:
        inner = cached(name_of_cage)

        @cached
        def outer(one: Cage) -> list[str]:
            one.name = "changed in the loader"
            return inner(one.animal_set.order_by("pk"))

        assert outer(cage) == ["old/ape", "old/bee"]
        Cage.objects.update(name="new")
        assert outer(cage) == ["new/ape", "new/bee"]

    def test_values(self, cage: Cage) -> None:
        cage.name = "never saved"
        rows = cage.animal_set.order_by("pk").values_list("cage__name", "name")
        assert cached(list)(rows) == [("old", "ape"), ("old", "bee")]

    def test_rows_in_the_state_of_a_class(self, cage: Cage) -> None:
        @cached
        def name(rows: Translated) -> str:
            return str(rows.options.name)

        cage.name = "never saved"
        assert name(Translated(Animal).lang("en", cage)) == "old"
        Cage.objects.update(name="new")
        assert name(Translated(Animal).lang("en", cage)) == "new"

    def test_coroutines(self, cage: Cage) -> None:
        @cached
        async def names(rows: Any) -> list[str]:
            return [row.cage.name async for row in rows.select_related("cage")]

        cage.name = "never saved"
        assert asyncio.run(names(cage.animal_set.all())) == ["old", "old"]

    def test_a_part_of_a_template(self, cage: Cage) -> None:
        text = (
            '{% load invalidator %}{% cached "x" 300 animals pair %}{% for row in animals %}{{ row.cage.name }} '
            "{% endfor %}{{ pair.0.name }}{% endcached %}"
        )
        template = Engine(libraries={"invalidator": "django_integration.templatetags.invalidator"}).from_string(text)
        cage.name = "never saved"
        assert template.render(Context({"animals": cage.animal_set.all(), "pair": (cage, 1)})) == "old old old"
        Cage.objects.update(name="new")
        assert template.render(Context({"animals": cage.animal_set.all(), "pair": (cage, 1)})) == "new new new"

    def test_untracked_functions_get_what_they_are_given(self, cage: Cage) -> None:
        cage.name = "mine"
        assert cached(track=False)(name_of_cage)(cage.animal_set.order_by("pk")) == ["mine/ape", "mine/bee"]
