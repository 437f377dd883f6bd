"""Every kind of write that Django knows is published, and none costs a query more than without this app."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.apps import apps
from django.contrib.auth.models import User
from django.contrib.contenttypes.models import ContentType
from django.core import serializers
from django.core.management import call_command
from django.core.management.color import no_style
from django.db import close_old_connections, connection, migrations, models, transaction
from django.db.migrations.state import ProjectState
from django.db.models import F, Model
from django.db.models.signals import m2m_changed, post_delete, post_save, pre_delete, pre_save
from django.http import HttpRequest, HttpResponse
from django.test import Client
from django.test.utils import CaptureQueriesContext, override_settings
from django.urls import path

from django_integration import patching

from ..conftest import Wire
from ..zoo.models import Animal, Aquarium, Building, Cage, Crate, Duty, Food, Keeper, Label, Note, Pet, Photo

pytestmark = pytest.mark.usefixtures("db", "zoo")


@pytest.fixture
def zoo(db: None) -> None:
    """One row of each, and what links them; each has the primary key 1."""
    ContentType.objects.clear_cache()  # the tables were emptied behind its back
    cage, food = Cage.objects.create(pk=1, name="a"), Food.objects.create(pk=1)
    animal = Animal.objects.create(pk=1, cage=cage)
    animal.foods.add(food)
    Note.objects.create(pk=1, cage=cage)
    Photo.objects.create(pk=1, cage=cage)
    Aquarium.objects.create(pk=1, id=1, name="shark")
    Duty.objects.create(pk=1, keeper=Keeper.objects.create(pk=1), cage=cage)
    crate = Crate.objects.create(pk=1)
    crate.labels.create(pk=1)
    for model in (Cage, Food, Animal, Keeper):
        model._default_manager.create(pk=2)
    Label.objects.create(pk=2, labelled=Cage.objects.get(pk=2))
    for text in connection.ops.sequence_reset_sql(no_style(), [Duty, Animal.foods.through]):
        execute(text)  # PostgreSQL counts on its own, and would begin with 1


def get(model: type[Model]) -> Any:
    """The first row."""
    return model._default_manager.get(pk=1)


def tags(*rows: str) -> set[str]:
    """What `tags("cage:1")` is: the row and its table."""
    return {tag for row in rows for tag in (f"zoo.{row.partition(':')[0]}", f"zoo.{row}")}


def clear(links: Any) -> None:
    links.clear()


def save(row: Model, **values: object) -> None:
    for name, value in values.items():
        setattr(row, name, value)
    row.save()


LINK = ("animal_foods:*", "animal:1")
WRITES: dict[str, tuple[Callable[[], object], set[str]]] = {
    "save": (lambda: get(Cage).save(), tags("cage:1")),
    "save of some columns": (lambda: get(Cage).save(update_fields=["name"]), tags("cage:1")),
    "save of loaded columns": (lambda: Animal.objects.only("weight").get(pk=1).save(), tags("animal:1")),
    "save of an expression": (lambda: save(get(Animal), weight=F("weight") + 1), tags("animal:1")),
    "create": (lambda: Cage.objects.create(pk=7), tags("cage:7")),
    "get_or_create, created": (lambda: Cage.objects.get_or_create(pk=7), tags("cage:7")),
    "get_or_create, got": (lambda: Cage.objects.get_or_create(pk=1), set()),
    "update_or_create, created": (lambda: Cage.objects.update_or_create({"name": "b"}, pk=7), tags("cage:7")),
    "update_or_create, updated": (lambda: Cage.objects.update_or_create({"name": "b"}, pk=1), tags("cage:1")),
    "in_bulk": (lambda: Cage.objects.in_bulk([1]), set()),
    "update": (lambda: Cage.objects.filter(pk=1).update(name="b"), tags("cage:1")),
    "update of all": (lambda: Cage.objects.update(name="b"), tags("cage:*")),
    "update by an expression": (lambda: Animal.objects.update(weight=F("weight") + 1), tags("animal:*")),
    "update by another table": (lambda: Note.objects.filter(cage__name="a").update(text="b"), tags("note:*")),
    "bulk_create": (lambda: Cage.objects.bulk_create([Cage(pk=7), Cage(pk=8)]), tags("cage:7", "cage:8")),
    "bulk_update": (lambda: Cage.objects.bulk_update([Cage(pk=1), Cage(pk=2)], ["name"]), tags("cage:1", "cage:2")),
    "delete": (lambda: get(Cage).delete(), tags("cage:1", "animal:1", "note:*", "photo:*", "duty:*")),
    "delete of a query": (lambda: Food.objects.filter(pk=2).delete(), tags("food:2")),
    "fast delete": (lambda: Note.objects.all().delete(), tags("note:*")),
    "raw delete": (lambda: Note.objects.all()._raw_delete("default"), tags("note:*")),
    "links, added": (lambda: get(Animal).foods.add(2), tags(*LINK, "food:2")),
    "links, added again": (lambda: get(Animal).foods.add(1), set()),
    "links, created": (lambda: get(Animal).foods.create(pk=7), tags(*LINK, "food:7")),
    "links, removed": (lambda: get(Animal).foods.remove(1), tags(*LINK, "food:1")),
    "links, set": (lambda: get(Animal).foods.set([2]), tags(*LINK, "food:1", "food:2")),
    "links, cleared": (lambda: clear(get(Animal).foods), tags(*LINK, "food:*")),
    "links from the other side": (
        lambda: get(Food).animal_set.set([2]),
        tags("animal_foods:*", "food:1", "animal:1", "animal:2"),
    ),
    "links with columns": (
        lambda: get(Keeper).cages.add(2, through_defaults={"day": 3}),
        tags("keeper:1", "cage:2"),
    ),
    "links with columns, cleared": (lambda: clear(get(Keeper).cages), tags("keeper:1", "cage:*", "duty:*")),
    "a row of links": (lambda: get(Duty).delete(), tags("duty:1", "keeper:1", "cage:1")),
    "reverse, added": (lambda: get(Cage).animal_set.add(Animal.objects.get(pk=2)), tags("animal:2")),
    "reverse, created": (lambda: get(Cage).animal_set.create(pk=7), tags("animal:7")),
    "reverse, removed": (lambda: get(Cage).animal_set.remove(get(Animal)), tags("animal:1")),
    "reverse, set": (lambda: get(Cage).animal_set.set(Animal.objects.filter(pk=2)), tags("animal:1", "animal:2")),
    "reverse, cleared": (lambda: clear(get(Cage).animal_set), tags("animal:*")),
    "a child": (lambda: get(Aquarium).save(), tags("aquarium:1", "building:1")),
    "a child's parent": (lambda: get(Building).save(), tags("aquarium:1", "building:1")),
    "a child, updated": (
        lambda: Aquarium.objects.filter(pk=1).update(name="b", litres=2),
        tags("aquarium:1", "building:1"),
    ),
    "a child, deleted": (lambda: get(Aquarium).delete(), tags("aquarium:1", "building:1")),
    "a proxy": (lambda: get(Pet).save(), tags("animal:1")),
    "a proxy, updated": (lambda: Pet.objects.filter(pk=1).update(weight=2), tags("animal:1")),
    "generic, created": (lambda: get(Crate).labels.create(pk=7), tags("label:7")),
    "generic, added": (lambda: get(Crate).labels.add(Label.objects.get(pk=2)), tags("label:2")),
    "generic, cleared": (lambda: clear(get(Crate).labels), tags("label:*")),
    "generic, deleted along": (lambda: get(Crate).delete(), tags("crate:1", "label:*")),
    "SQL": (lambda: execute("UPDATE zoo_cage SET name = 'b'"), tags("cage:*")),
}


def execute(text: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(text)


def told(wire: Wire) -> set[str]:
    return set().union(*(message.tags for message in wire.messages()))


@pytest.mark.parametrize(("write", "expected"), WRITES.values(), ids=WRITES.keys())
def test_a_write_is_published(wire: Wire, write: Callable[[], object], expected: set[str]) -> None:
    write()
    messages = wire.messages()
    assert expected <= set().union(*(message.tags for message in messages))
    assert bool(messages) == bool(expected)
    assert not any(message.everything for message in messages)


@pytest.mark.parametrize("write", [write for write, _ in WRITES.values()], ids=WRITES.keys())
def test_a_write_in_a_transaction_is_one_message_or_none(wire: Wire, write: Callable[[], object]) -> None:
    with transaction.atomic():
        write()
        transaction.set_rollback(True)
    assert wire.messages() == []
    with transaction.atomic():
        write()
        assert wire.messages() == []
    assert len(wire.messages()) <= 1


@pytest.fixture
def without_us() -> Callable[[pytest.MonkeyPatch], None]:
    """Takes the app's hands off Django, until the patch is undone."""

    def take_off(patch: pytest.MonkeyPatch) -> None:
        for (owner, name), original in patching.originals.items():
            patch.setattr(owner, name, original)
        for signal in (pre_save, post_save, pre_delete, post_delete, m2m_changed):
            patch.setattr(signal, "receivers", [])
            signal.sender_receivers_cache.clear()

    return take_off


@pytest.mark.parametrize("write", [write for write, _ in WRITES.values()], ids=WRITES.keys())
def test_a_write_takes_as_many_queries_as_without_us(
    write: Callable[[], object], without_us: Callable[[pytest.MonkeyPatch], None]
) -> None:
    def queries() -> list[str]:
        with transaction.atomic():
            with CaptureQueriesContext(connection) as captured:
                write()
            transaction.set_rollback(True)
        return [query["sql"].split()[0] for query in captured]

    with pytest.MonkeyPatch.context() as patch:
        without_us(patch)
        alone = queries()
    for signal in (pre_save, post_save, pre_delete, post_delete, m2m_changed):
        signal.sender_receivers_cache.clear()
    assert queries() == alone


# --------------------------------------------------------------------------------------- around the writes


def test_fixtures_publish_what_they_load(wire: Wire, tmp_path: Path) -> None:
    fixture = tmp_path / "zoo.json"
    fixture.write_text(serializers.serialize("json", [get(Cage), get(Animal), get(Aquarium)]))
    call_command("loaddata", str(fixture), verbosity=0)
    assert wire.message().tags == tags("cage:1", "animal:1", "aquarium:1", "building:1")


def test_the_admin_publishes_edits_and_bulk_actions(wire: Wire) -> None:
    client = Client()
    client.force_login(User.objects.create_superuser("ann"))
    wire.messages()
    client.post("/admin/zoo/cage/1/change/", {"name": "edited"})
    assert Cage.objects.get(pk=1).name == "edited"
    assert wire.message().tags == tags("cage:1"), "and nothing of the log entry"
    chosen = {"action": "delete_selected", "_selected_action": ["1"], "post": "yes"}
    client.post("/admin/zoo/note/", chosen)
    assert not Note.objects.exists()
    assert tags("note:1") <= told(wire) or tags("note:*") <= told(wire)


def test_migrations_publish_what_they_run(wire: Wire) -> None:
    def forwards(state: Any, editor: object) -> None:
        cage = state.get_model("zoo", "Cage")
        cage.objects.filter(pk=1).update(name="migrated")
        cage.objects.create(pk=7)

    class Change(migrations.Migration):
        operations = [migrations.RunPython(forwards), migrations.RunSQL("UPDATE zoo_food SET name = 'b'")]  # noqa: RUF012

    state = ProjectState.from_apps(apps)
    with connection.schema_editor() as editor:
        Change("0002", "zoo").apply(state, editor)
    assert tags("cage:1", "cage:7", "cage:*", "food:*") <= told(wire)


def test_changing_a_table_publishes_nothing(wire: Wire) -> None:
    """On SQLite, Django copies its rows for that."""
    column = models.IntegerField(default=0)
    column.set_attributes_from_name("legs")
    with connection.schema_editor() as editor:
        editor.add_field(Keeper, column)
    with connection.schema_editor() as editor:
        editor.remove_field(Keeper, column)
    assert not {tag for tag in told(wire) if not tag.startswith("zoo.keeper")}


def rename(request: HttpRequest) -> HttpResponse:
    Cage.objects.filter(pk=1).update(name="b")
    Food.objects.create(pk=7)
    if "fail" in request.GET:
        raise LookupError
    return HttpResponse()


async def arename(request: HttpRequest) -> HttpResponse:
    await Cage.objects.filter(pk=1).aupdate(name="b")
    await Food.objects.acreate(pk=7)
    return HttpResponse()


urlpatterns = [path("rename/", rename), path("arename/", transaction.non_atomic_requests(arename))]


@override_settings(ROOT_URLCONF=__name__)
def test_a_request_in_a_transaction_is_one_message(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(connection.settings_dict, "ATOMIC_REQUESTS", True)
    Client().get("/rename/")
    assert wire.message().tags == tags("cage:1", "food:7")
    Client(raise_request_exception=False).get("/rename/?fail=1")
    assert wire.messages() == []


@override_settings(ROOT_URLCONF=__name__)
def test_an_async_view_publishes_what_it_writes(wire: Wire) -> None:
    Client().get("/arename/")
    assert told(wire) == tags("cage:1", "food:7")


def test_a_durable_block_is_one_message(wire: Wire) -> None:
    with transaction.atomic(durable=True):
        Cage.objects.filter(pk=1).update(name="b")
        Note.objects.all().delete()
    assert wire.message().tags == tags("cage:1", "note:*")


def test_a_rolled_back_savepoint_takes_its_updates_along(wire: Wire) -> None:
    with transaction.atomic():
        Cage.objects.filter(pk=1).update(name="b")
        with transaction.atomic():
            Cage.objects.filter(pk=2).update(name="b")
            execute("DELETE FROM zoo_note")
            transaction.set_rollback(True)
        Food.objects.filter(pk=1).update(name="b")
    assert wire.message().tags == tags("cage:1", "food:1")


def test_with_autocommit_off_updates_wait_for_the_commit(wire: Wire, autocommit_off: None) -> None:
    Cage.objects.filter(pk=1).update(name="b")
    execute("DELETE FROM zoo_note")
    assert wire.messages() == []
    transaction.commit()
    assert wire.message().tags == tags("cage:1", "note:*")


def test_a_worker_whose_connections_are_reset_between_tasks_publishes_every_task(
    wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "close_at", 0.0)
    for name in ("b", "c"):
        Cage.objects.filter(pk=1).update(name=name)
        before = connection.connection
        connection.close_at = 0.0
        close_old_connections()
        assert connection.connection is not before
        assert wire.message().tags == tags("cage:1")
