"""Rows are recorded by primary key, as the loader takes them."""

from collections.abc import Iterator

import pytest
from django.db.models.functions import Lower

from django_integration.dependencies.recorder import MAX_NAMES, Recorder, recording
from django_integration.dependencies.rows import RelatedRecorder, RowRecorder, record_known
from tests.unit.django_integration.zoo.models import Animal, Cage, Duty, Note

from .conftest import tags_of

pytestmark = pytest.mark.usefixtures("db")


def test_rows_that_the_loader_does_not_take_are_not_named(ape: Animal) -> None:
    Animal.objects.create(weight=7)
    tags = tags_of(lambda: next(Animal.objects.filter(weight=7).order_by("pk").iterator(chunk_size=1)))
    assert {tag for tag in tags if ":" in tag} == {"zoo.animal:*", f"zoo.animal:{ape.pk}"}


def test_many_rows_are_the_table() -> None:
    Cage.objects.bulk_create([Cage(name="x") for _ in range(MAX_NAMES + 1)])
    Note.objects.bulk_create([Note(text="x", cage=cage) for cage in Cage.objects.all()])
    first = Cage.objects.first()
    assert tags_of(lambda: list(Cage.objects.filter(pk__lte=0) or Note.objects.filter(cage=first))) >= {"zoo.cage"}
    Note.objects.update(cage=first)
    assert tags_of(lambda: list(Note.objects.filter(cage=first))) == {"zoo.note"}


def test_rows_are_named_as_they_come_from_a_cursor_in_chunks() -> None:
    cages = [Cage.objects.create(name="x") for _ in range(5)]
    Note.objects.bulk_create([Note(cage=cages[0]) for _ in range(5)])
    tags = tags_of(lambda: list(Note.objects.filter(cage=cages[0]).iterator(chunk_size=2)))
    assert len([tag for tag in tags if tag.startswith("zoo.note:")]) == 6  # and ":*"


def test_a_loader_that_stops_in_the_middle_depends_on_the_order_of_rows() -> None:
    """Another row may come first tomorrow, and a save with `update_fields` publishes no value by which it was found."""
    cage = Cage.objects.create()
    first = Note.objects.create(cage=cage, text="a")
    Note.objects.create(cage=cage, text="b")
    rows = Note.objects.filter(cage=cage).order_by("text")
    all_rows, sliced = tags_of(lambda: list(rows.all())), tags_of(lambda: rows.all()[0])
    assert tags_of(lambda: list(rows.iterator())) == all_rows
    assert tags_of(lambda: next(rows.iterator())) == sliced >= {f"zoo.note:{first.pk}", "zoo.note[text=*]"}
    assert tags_of(lambda: next(rows.order_by(Lower("text")).iterator())) == {"zoo.note"}
    assert tags_of(lambda: next(rows.order_by("cage__name").iterator())) == {"zoo.note", "zoo.cage"}

    kept: list[Iterator[Note]] = []

    def read_one() -> None:
        kept.append(rows.iterator())
        next(kept[0])

    assert tags_of(read_one) == sliced, "also if somebody may go on with it"
    recorder, outer = Recorder(), Recorder()
    with recording(recorder):
        next(rows.iterator())
    recorder.add_to(outer)
    assert set(outer.tags()) == sliced


def test_a_row_from_outside_whose_related_manager_is_read_is_named() -> None:
    """Django gives it to each row, without a query: what is shown of it changes when it is saved."""
    cage = Cage.objects.create(name="old")
    note = Note.objects.create(cage=cage, text="a")
    tags = tags_of(lambda: [row.cage.name for row in cage.note_set.all()])
    assert {tag for tag in tags if ":" in tag} == {
        *("zoo.cage:*", f"zoo.cage:{cage.pk}"),
        *("zoo.note:*", f"zoo.note:{note.pk}"),
    }


def test_one_whose_key_has_no_text_is_its_table() -> None:
    recorder = Recorder()
    record_known(recorder, {"field": {1: Cage(pk=object())}})
    assert recorder.tags() == ["zoo.cage"]


@pytest.mark.parametrize("pk", [None, {}, "x"])
def test_a_row_whose_key_is_none_is_the_table(pk: object) -> None:
    """A view may have no key at all; so what a query returns is not all that can be there."""
    recorder = Recorder()
    recording = RowRecorder(recorder, Cage, [], Cage.objects.all().query)
    assert not recording.record(Cage(pk=pk))
    assert recorder.tags() == ["zoo.cage"]


def test_a_relation_whose_key_is_none_is_the_table() -> None:
    recorder = Recorder()
    animal = Animal()
    animal.cage_id = {}  # type: ignore[assignment]
    related = RelatedRecorder(Animal._meta.get_field("cage"), [])
    RowRecorder(recorder, None, [related], Animal.objects.all().query).record(animal)
    assert recorder.tags() == ["zoo.cage"]


def test_who_gives_up_reads_the_tables() -> None:
    recorder = Recorder()
    related = RelatedRecorder(Duty._meta.get_field("keeper"), [])
    related = RelatedRecorder(Animal._meta.get_field("cage"), [related])
    RowRecorder(recorder, Animal, [related], Animal.objects.all().query).give_up()
    assert set(recorder.tags()) == {"zoo.animal", "zoo.cage", "zoo.keeper"}
