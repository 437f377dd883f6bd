"""Rows, query sets and models as arguments of cached functions."""

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from django.contrib.contenttypes.prefetch import GenericPrefetch
from django.db.models import Prefetch, QuerySet
from django.utils.functional import SimpleLazyObject

from django_integration import cached
from django_integration.reads.default_cache import default_cache
from invalidator import InvalidName

from ..zoo.models import Animal, Cage, Chip, Label, Pet, Seat, Word

pytestmark = pytest.mark.usefixtures("db")


class Shouting(QuerySet[Animal]):
    """Gives the same rows, and may be asked for something else."""


@pytest.fixture(autouse=True)
def leased() -> Iterator[None]:
    """What a test loads is leased from the beginning."""
    assert default_cache().bus.wait_until_leased(20)
    yield
    default_cache().bus.clear()


@cached()
def of(thing: Any) -> Any:
    """Returns what it was called with."""
    return thing


class TestKeys:
    def test_a_row_is_its_model_and_key_whatever_it_holds(self) -> None:
        cage = Cage.objects.create(name="a")
        assert of.key(cage) == f"{__name__}.of@1(thing=zoo.Cage:{cage.pk})"
        assert of.key(cage) == of.key(Cage(pk=cage.pk, name="b")) == of.key(thing=SimpleLazyObject(lambda: cage))

    def test_rows_of_other_models_and_databases_are_others(self) -> None:
        keys = {of.key(Cage(pk=1)), of.key(Animal(pk=1)), of.key(Pet(pk=1)), of.key(1), of.key(Cage), of.key(Animal)}
        elsewhere = Cage.objects.using("other").create(pk=1)
        keys.add(of.key(elsewhere))
        assert len(keys) == 7
        assert of.key(elsewhere).endswith("zoo.Cage:1@other)")

    def test_any_primary_key_will_do(self) -> None:
        keys = {of.key(Word(text="a" * 600)), of.key(Word(text="é")), of.key(Seat(row=1, number=2)), of.key(Chip())}
        assert len(keys) == 4

    def test_a_row_that_was_never_saved_is_refused_by_the_arguments_name(self) -> None:
        with pytest.raises(InvalidName, match=r"thing: a zoo.Cage that was never saved"):
            of(Cage())

    def test_a_query_set_is_its_query(self) -> None:
        rows = Cage.objects.filter(name="a")
        assert of.key(rows) == of.key(Cage.objects.filter(name="a")) == of.key(rows.all())
        list(rows)
        assert of.key(rows) == of.key(rows.all())
        assert of.key(rows).startswith(f"{__name__}.of@1(thing=QuerySet(zoo.Cage ")

    def test_query_sets_that_give_something_else_are_others(self) -> None:
        rows = Animal.objects.all()
        others = [
            rows,
            rows.filter(name="a"),
            rows.filter(name="b"),
            rows.filter(weight=1),
            rows.filter(weight="1").exclude(pk=1),
            rows.none(),
            rows.only("pk"),
            rows.values("pk"),
            rows.values_list("pk"),
            rows.values_list("pk", flat=True),
            rows[:5],
            rows.using("other"),
            rows.select_related("cage"),
            rows.prefetch_related("cage"),
            rows.prefetch_related("foods"),
            rows.prefetch_related(Prefetch("foods", to_attr="a")),
            rows.prefetch_related(Prefetch("foods", to_attr="b")),
            rows.prefetch_related(Prefetch("cage", Cage.objects.filter(name="a"))),
            rows.prefetch_related(Prefetch("cage", Cage.objects.filter(name="b"))),
            Pet.objects.all(),
            rows.reverse(),  # whose first() is another
            Label.objects.prefetch_related(GenericPrefetch("labelled", [Cage.objects.filter(name="a")])),
            Label.objects.prefetch_related(GenericPrefetch("labelled", [Cage.objects.filter(name="b")])),
            Shouting(Animal),
        ]
        assert len({of.key(other) for other in others}) == len(others)

    @pytest.mark.parametrize("value", [[1], {"a": 1}, {1}, object()])
    def test_what_has_no_text_is_refused_by_its_name(self, value: object) -> None:
        with pytest.raises(InvalidName, match="thing="):
            of(value)


class TestReadAnew:
    def test_a_function_is_called_with_the_row_as_it_is_now(self) -> None:
        """The caller may have read it before it was changed, or changed it himself: the result is for everybody."""
        old = Cage.objects.create(name="old")
        Cage.objects.get(pk=old.pk).save()
        newer = Cage.objects.get(pk=old.pk)
        newer.name = "new"
        newer.save()
        old.name = "mine"
        assert of(old).name == "new"
        assert of.key(old) == of.key(newer)

    def test_the_result_falls_with_the_row(self) -> None:
        cage = Cage.objects.create(name="old")
        assert of(cage).name == "old"
        cage.name = "new"
        cage.save()
        assert of(cage).name == "new"

    def test_rows_in_tuples_and_behind_wrappers_and_of_other_databases(self) -> None:
        cage = Cage.objects.create(name="a")
        other = Cage.objects.using("other").create(name="b")
        cage.name = other.name = "mine"
        a, (b, one) = of((SimpleLazyObject(lambda: cage), (other, 1)))
        assert (a.name, b.name, one) == ("a", "b", 1)
        assert of(thing=(other,))[0].name == "b"

    def test_a_query_set_is_asked_anew(self) -> None:
        rows = Cage.objects.all()
        assert list(rows) == []
        Cage.objects.create()
        assert len(of(rows)) == 1
        Cage.objects.create()
        assert len(of(rows)) == 2

    def test_a_row_that_is_gone_is_the_callers_alone(self) -> None:
        cage = Cage.objects.create(name="old")
        Cage.objects.filter(pk=cage.pk).delete()
        assert of(cage) is cage
        assert of.key(cage) not in default_cache()

    def test_async_functions(self) -> None:
        @cached()
        async def name(cage: Cage) -> str:
            return cage.name

        cage = Cage.objects.create(name="old")
        cage.name = "mine"
        assert asyncio.run(name(cage)) == "old"
        gone = Cage(pk=99, name="gone")
        assert asyncio.run(name(gone)) == "gone"
        assert name.key(gone) not in default_cache()

    def test_untracked_functions_get_what_they_are_given(self) -> None:
        @cached(track=False)
        def same(thing: Any) -> Any:
            return thing

        cage = Cage.objects.create()
        assert same(cage) is cage
