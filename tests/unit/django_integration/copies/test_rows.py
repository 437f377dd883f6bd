"""Each reader has rows of their own, with what their loader has loaded, and nothing that somebody followed later."""

import pickle
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from django import forms
from django.apps.registry import Apps
from django.core.files.base import ContentFile
from django.db import connection, models, transaction
from django.db.models import F, prefetch_related_objects
from django.test.utils import CaptureQueriesContext
from django.utils.functional import cached_property
from rest_framework.utils.serializer_helpers import ReturnDict, ReturnList

from django_integration import cached
from invalidator.extending import hand_out, keep

from ..zoo.models import Animal, Aquarium, Building, Cage, Crate, Food, Label, Pet, Seat

pytestmark = pytest.mark.usefixtures("db")

elsewhere = Apps()
"""Models without tables, which are in no registry of the project: as in a migration."""


class Document(models.Model):
    data = models.JSONField(default=dict)
    file = models.FileField(default="")
    picture = models.ImageField(default="", width_field="width", height_field="height")
    width = models.IntegerField(default=0)
    height = models.IntegerField(default=0)
    raw = models.BinaryField(default=b"")

    class Meta:
        apps = elsewhere
        app_label = "elsewhere"

    def __str__(self) -> str:
        return "document"

    @cached_property
    def words(self) -> list[str]:
        return ["a"]


class Odd(models.Model):
    """Does all that a model may do, and that must not be done again for a clone."""

    __slots__ = ("slot",)
    name = models.CharField(max_length=9)

    class Meta:
        apps = elsewhere
        app_label = "elsewhere"

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.before = dict(vars(self))
        self.before.pop("_state")

    def __str__(self) -> str:
        return self.name

    def __reduce__(self) -> Any:
        raise AssertionError("no row is copied by its class")

    def __getstate__(self) -> Any:
        raise AssertionError("no row is copied by its class")

    def __setattr__(self, name: str, value: object) -> None:
        assert name != "__dict__"
        super().__setattr__(name, value)


def clone(value: Any) -> Any:
    kept = keep(value)
    hand_out(kept)
    return hand_out(kept)


def queries(function: Any) -> int:
    with CaptureQueriesContext(connection) as caught:
        function()
    return len(caught.captured_queries)


def fresh(name: str = "a") -> Animal:
    cage = Cage.objects.create(name="cage")
    return Animal.objects.get(pk=Animal.objects.create(name=name, cage=cage).pk)


class TestColumns:
    def test_a_clone_is_the_same_row_and_another_object(self) -> None:
        row = fresh()
        mine = clone(row)
        assert mine is not row
        assert type(mine) is Animal
        assert mine == row
        assert hash(mine) == hash(row)
        assert (mine.name, mine.cage_id, mine._state.db, mine._state.adding) == ("a", row.cage_id, "default", False)
        assert mine._state is not row._state

    def test_a_clone_can_be_saved_deleted_pickled_and_read_again(self) -> None:
        row = fresh()
        kept = keep(row)
        mine = hand_out(kept)
        mine.name = "b"
        mine.save()
        assert pickle.loads(pickle.dumps(mine)).name == "b"
        mine.refresh_from_db()
        mine.delete()
        assert mine.pk is None
        assert (hand_out(kept).pk, hand_out(kept).name) == (row.pk, "a")

    def test_annotations_and_attributes_are_kept(self) -> None:
        pk = fresh().pk
        row = Animal.objects.annotate(double=F("weight") * 2).get(pk=pk)
        row.note = ["x"]
        mine = clone(row)
        assert (mine.double, mine.note) == (0, ["x"])
        assert mine.note is not row.note

    def test_a_deferred_column_is_deferred_for_each_reader(self) -> None:
        pk = fresh().pk
        kept = keep(Animal.objects.only("pk").get(pk=pk))
        for _ in range(2):
            mine = hand_out(kept)
            assert "name" in mine.get_deferred_fields()
            assert queries(lambda: mine.name) == 1  # noqa: B023

    def test_values_that_can_be_changed_in_place_are_the_readers_own(self) -> None:
        kept = keep(Document(pk=1, data={"tags": ["a"]}))
        hand_out(kept).data["tags"].append("b")
        assert hand_out(kept).data == {"tags": ["a"]}

    def test_a_cached_property_that_the_loader_has_asked_for_is_cloned(self) -> None:
        row = Document(pk=1)
        row.words.append("b")
        kept = keep(row)
        hand_out(kept).words.append("c")
        assert hand_out(kept).words == ["a", "b"]

    def test_a_binary_column_as_some_databases_give_it(self) -> None:
        assert bytes(clone(Document(pk=1, raw=memoryview(b"ab"))).raw) == b"ab"

    def test_proxies_children_and_composite_keys(self) -> None:
        fresh()
        tank = Aquarium.objects.create(name="tank", litres=3)
        seat = Seat.objects.create(row=1, number=2)
        assert type(clone(Pet.objects.get())) is Pet
        assert (clone(tank).name, clone(tank).litres, clone(tank).building_ptr_id) == ("tank", 3, tank.pk)
        assert clone(seat).pk == (1, 2)

    def test_a_new_row_stays_one(self) -> None:
        mine = clone(Animal(name="new"))
        assert mine.pk is None
        assert mine._state.adding


class TestCodeOfTheModel:
    def test_none_of_it_runs(self) -> None:
        row = Odd(pk=1, name="a")
        row.slot = ["s"]
        mine = clone([row])[0]
        assert type(mine) is Odd
        assert (mine.name, mine.slot, mine.before) == ("a", ["s"], {"id": 1, "name": "a"})
        assert mine.slot is not row.slot

    def test_no_signal_is_sent(self) -> None:
        row = fresh()
        met: list[object] = []

        def note(**_: object) -> None:
            met.append(1)

        models.signals.post_init.connect(note)
        try:
            clone(row)
        finally:
            models.signals.post_init.disconnect(note)
        assert not met


class TestFiles:
    @pytest.mark.parametrize("name", ["file", "picture"])
    def test_a_file_points_back_at_the_clone(self, name) -> None:
        row = Document(pk=1, width=1, height=1, **{name: "a.txt"})
        assert getattr(row, name).instance is row
        mine = clone(row)
        assert getattr(mine, name).name == "a.txt"
        assert getattr(mine, name).instance is mine

    def test_a_file_without_its_row(self) -> None:
        row = Document(pk=1, file="a.txt")
        file, mine = clone([row.file, row])
        assert file.name == "a.txt"
        assert file.instance is mine
        assert file.storage is row.file.storage

    def test_an_open_file_is_its_readers_own(self) -> None:
        row = Document(pk=1, file="a.txt")
        with Path(__file__).open("rb") as file:
            row.file._file = file
            kept = keep(row)
        assert hand_out(kept).file.closed
        assert "_file" not in vars(hand_out(kept).file)

    def test_a_file_that_is_not_saved_is_not_lost(self) -> None:
        row = Document(pk=1)
        row.file = ContentFile(b"", name="b.txt")
        assert row.file.name == "b.txt"
        assert clone(row).file.name == "b.txt"


class TestRelations:
    def test_what_the_loader_has_loaded_is_cloned_with_the_row(self) -> None:
        pk = fresh().pk
        row = Animal.objects.select_related("cage").get(pk=pk)
        kept = keep(row)
        mine = hand_out(kept)
        assert queries(lambda: mine.cage.name) == 0
        assert mine.cage is not row.cage
        mine.cage.name = "changed"
        assert hand_out(kept).cage.name == "cage"

    def test_what_a_reader_follows_is_the_readers_own_and_fresh(self) -> None:
        row = fresh()
        kept = keep(row)
        assert hand_out(kept).cage.name == "cage"
        Cage.objects.update(name="new")
        assert hand_out(kept).cage.name == "new"

    def test_rows_that_share_a_related_row_share_its_clone(self) -> None:
        cage = fresh().cage
        Animal.objects.create(name="b", cage=cage)
        one, two = clone(list(Animal.objects.select_related("cage")))
        assert one.cage is not two.cage, "as the database gave them"
        for animal in (rows := list(Animal.objects.all())):
            animal.cage = cage
        one, two = clone(rows)
        assert one.cage is two.cage is not cage

    def test_prefetched_rows_lead_back_to_the_clone(self) -> None:
        fresh()
        kept = keep(Cage.objects.prefetch_related("animal_set").get())
        cage = hand_out(kept)

        def look() -> None:
            assert [animal.name for animal in cage.animal_set.all()] == ["a"]
            assert cage.animal_set.all()[0].cage is cage

        assert queries(look) == 0
        cage.animal_set.all()[0].name = "changed"
        assert hand_out(kept).animal_set.all()[0].name == "a"

    def test_a_prefetched_query_can_be_refined_by_every_reader(self) -> None:
        """Django puts off its filter, and applies it in place."""
        fresh()
        kept = keep(Cage.objects.prefetch_related("animal_set").get())
        for _ in range(3):
            found = hand_out(kept).animal_set.filter(name="a")
            assert str(found.query).count('"cage_id"' if connection.vendor != "mysql" else "`cage_id`") == str(
                Cage.objects.get().animal_set.filter(name="a").query
            ).count('"cage_id"' if connection.vendor != "mysql" else "`cage_id`")
            assert len(found) == 1

    def test_many_to_many_and_writes_to_it(self) -> None:
        row = fresh()
        row.foods.add(Food.objects.create(name="hay"))
        kept = keep(Animal.objects.prefetch_related("foods").get())
        mine = hand_out(kept)
        assert [food.name for food in mine.foods.all()] == ["hay"]
        mine.foods.add(Food.objects.create(name="oats"))
        assert [food.name for food in hand_out(kept).foods.all()] == ["hay"]
        assert {food.name for food in mine.foods.all()} == {"hay", "oats"}

    def test_what_a_reader_prefetches_is_the_readers_own(self) -> None:
        row = fresh()
        kept = keep(row)
        mine = hand_out(kept)
        prefetch_related_objects([mine], "foods", "cage")
        row.foods.add(Food.objects.create(name="hay"))
        assert list(mine.foods.all()) == []
        assert [food.name for food in hand_out(kept).foods.all()] == ["hay"]

    def test_a_generic_relation_both_ways(self) -> None:
        crate = Crate.objects.create()
        Label.objects.create(text="x", labelled=crate)
        label = Label.objects.get()
        assert label.labelled == crate
        kept = keep(label)
        assert queries(lambda: hand_out(kept).labelled) == 0
        assert hand_out(kept).labelled is not label.labelled
        mine = clone(Crate.objects.prefetch_related("labels").get())
        assert queries(lambda: list(mine.labels.all())) == 0

    def test_a_child_and_its_parent(self) -> None:
        Aquarium.objects.create(name="tank")
        parent = Building.objects.select_related("aquarium").get()
        mine = clone(parent)
        assert mine.aquarium is not parent.aquarium
        assert mine.aquarium.building_ptr is mine

    def test_a_relation_that_leads_nowhere_is_remembered(self) -> None:
        Building.objects.create(name="plain")
        parent = Building.objects.select_related("aquarium").get()

        def look() -> None:
            with suppress(Aquarium.DoesNotExist):
                mine.aquarium  # noqa: B018

        mine = clone(parent)
        assert queries(look) == 0


if hasattr(models, "FETCH_PEERS"):  # Django 6.1

    class TestPeers:
        def test_clones_fetch_for_each_other(self) -> None:
            """A row that keeps the peers of its master fetches for them, and finds nothing for itself."""
            for name in "abc":
                fresh(name)
            kept = keep(list(Animal.objects.fetch_mode(models.FETCH_PEERS)[:2]))
            one, two = hand_out(kept)
            assert queries(lambda: (one.cage.name, two.cage.name)) == 1
            again, _ = hand_out(kept)
            Cage.objects.update(name="new")
            assert again.cage.name == "new"

        def test_no_weak_reference_is_copied(self, monkeypatch) -> None:
            monkeypatch.setattr("invalidator.copying.keeping._OPAQUE", {"clone": None})
            fresh()
            assert keep(list(Animal.objects.fetch_mode(models.FETCH_PEERS))) is not None

        def test_a_row_alone_fetches_for_itself(self) -> None:
            fresh()
            mine = clone(Animal.objects.fetch_mode(models.FETCH_PEERS)[0])
            assert mine.cage.name == "cage"


class AnimalForm(forms.ModelForm):  # type: ignore[type-arg]
    class Meta:
        model = Animal
        fields = ("name", "weight")


@cached(ttl=300)
def animal(pk: int) -> Animal:
    return Animal.objects.get(pk=pk)


@cached(ttl=300)
def animals() -> list[Animal]:
    return list(Animal.objects.order_by("pk"))


class TestInACachedFunction:
    """How Django is written."""

    def test_a_form_that_is_not_valid(self) -> None:
        pk = fresh().pk
        for _ in range(2):  # the one who loads, and one who hits
            assert not AnimalForm({"name": "typed", "weight": "none"}, instance=animal(pk)).is_valid()
            assert animal(pk).name == "a"

    def test_a_save_that_is_rolled_back(self) -> None:
        pk = fresh().pk
        animal(pk)
        with suppress(ZeroDivisionError), transaction.atomic():
            mine = animal(pk)
            mine.weight = 99
            mine.save()
            raise ZeroDivisionError
        assert animal(pk).weight == 0

    def test_what_is_done_to_a_list(self) -> None:
        fresh("a")
        fresh("b")
        for _ in range(2):
            mine = animals()
            mine.sort(key=lambda row: row.name, reverse=True)
            mine[0].note = "seen"
            mine.pop()
            assert [row.name for row in animals()] == ["a", "b"]
            assert not hasattr(animals()[1], "note")

    def test_the_one_who_loads_keeps_his_own_and_the_loader_has_no_master(self) -> None:
        """A function may keep what it returns, and change it later."""
        mine: list[list[int]] = [[1]]
        function = cached(key="mine")(lambda: mine[0])
        assert function() is mine[0]
        mine[0].append(2)
        assert function() == [1]
        assert function() is not function()

    def test_the_data_of_a_serializer(self) -> None:
        """A list of dicts that leads back to its serializer. Readers get plain ones, as by pickle."""
        row = fresh()
        data = ReturnList([ReturnDict({"id": row.pk, "tags": ["a"]}, serializer=object())], serializer=object())
        function = cached(key="data")(lambda: data)
        function()
        function()[0]["tags"].append("b")
        assert function() == [{"id": row.pk, "tags": ["a"]}]
        assert type(function()) is list

    def test_a_formset_over_a_cached_list(self) -> None:
        """It writes into each instance, and saves what has changed."""
        fresh("a")
        fresh("b")
        animals()
        factory = forms.modelformset_factory(Animal, fields=("name", "weight"), extra=0)
        sent = {"form-TOTAL_FORMS": "2", "form-INITIAL_FORMS": "2"}
        for number, row in enumerate(animals()):
            sent |= {f"form-{number}-id": str(row.pk), f"form-{number}-name": "typed", f"form-{number}-weight": "no"}
        formset = factory(sent, queryset=keep_in(Animal.objects.order_by("pk"), animals()))
        assert not formset.is_valid()
        assert [row.name for row in animals()] == ["a", "b"]

    def test_a_row_that_is_deleted_by_a_reader_who_rolls_back(self) -> None:
        pk = fresh().pk
        animal(pk)
        with suppress(ZeroDivisionError), transaction.atomic():
            animal(pk).delete()
            raise ZeroDivisionError
        assert animal(pk).pk == pk


def keep_in(rows: Any, cached: list[Any]) -> Any:
    """A query set that has been evaluated to these rows."""
    rows._result_cache = cached
    return rows
