"""What a person writes on a command line, and what is meant by it."""

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from django_integration.management.commands._targets import ModelTarget, entry_names, read, stale_names
from invalidator import InvalidName

from ...zoo.models import Animal, Aquarium, Cage, Pet, Seat, Ticket

UUID = "6f9619ff-8b86-d011-b42d-00c04fc964ff"


def stale(*texts: str) -> tuple[dict[str, tuple[set[str], set[str]]], list[str]]:
    notes: list[str] = []
    by_alias = stale_names(texts, notes.append)
    return {alias: (set(names.keys), set(names.tags)) for alias, names in by_alias.items()}, notes


@pytest.mark.parametrize("text", ["product:42", ":1:product:42", "zoo", "a.b.c", "zoo.Cage 1", "1.5", "cage-1.x"])
def test_anything_else_is_a_key(text: str) -> None:
    assert read(text) == text


@pytest.mark.parametrize(
    ("text", "model", "pk"),
    [
        ("zoo.Cage", Cage, None),
        ("zoo.cage:42", Cage, 42),
        ("zoo.Pet:42", Pet, 42),
        ("zoo.Aquarium:42", Aquarium, 42),
        ("zoo.Seat:7,8", Seat, (7, 8)),
    ],
)
def test_a_model_and_a_row(text: str, model: type, pk: object) -> None:
    assert read(text) == ModelTarget(text, model, pk)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "must not be empty"),
        ("zoo.Kage", "did you mean zoo.Cage?"),
        ("zoo.Kage:42", "--key zoo.Kage:42"),
        ("shop.Product:42", "there is no model shop.Product"),
        ("zoo.Cage:", "write zoo.Cage:ID"),
        ("zoo.Cage:first", "must be an integer"),
        ("zoo.Cage:first", "For all rows write zoo.Cage"),
        ("zoo.Chip:42", "not a valid UUID"),
        ("zoo.Seat:7", "write zoo.Seat:ROW,NUMBER"),
        ("zoo.Seat:7,8,9", "must be an integer"),
    ],
)
def test_what_can_mean_nothing_is_named_with_what_would_be_right(text: str, said: str) -> None:
    with pytest.raises(InvalidName) as error:
        read(text)
    assert said in str(error.value)


def test_the_names_of_an_entry() -> None:
    assert entry_names(["a", "zoo.Cage", "zoo.Cage:042", f"zoo.Chip:{UUID.upper()}"]) == (
        ["a"],
        ["zoo.cage", "zoo.cage:42", "zoo.cage:*", f"zoo.chip:{UUID}", "zoo.chip:*"],
    )


@pytest.mark.usefixtures("db")
class TestStaleNames:
    def test_a_key_and_a_model(self) -> None:
        assert stale("a", "zoo.Cage") == ({"default": ({"a"}, {"zoo.cage", "zoo.cage:*"})}, [])

    def test_a_row_is_what_its_save_would_be(self) -> None:
        ticket = Ticket.objects.create(day=3)
        [(_, (keys, tags))] = stale(f"zoo.Ticket:{ticket.pk}")[0].items()
        assert tags >= {"zoo.ticket", f"zoo.ticket:{ticket.pk}"}
        assert "day:3" in keys | tags

    def test_a_row_that_is_gone(self) -> None:
        found, (cage, ticket) = stale("zoo.Cage:42", "zoo.Ticket:42")
        assert found == {"default": (set(), {"zoo.cage", "zoo.cage:42", "zoo.ticket", "zoo.ticket:42"})}
        assert cage == "zoo.Cage:42 is not in the database: its own tags are invalidated"
        assert ticket.endswith("its own tags are invalidated, and not what @invalidates functions named for it")

    def test_many_rows_take_few_queries_and_tell_how_far_they_are(self) -> None:
        animals = Animal.objects.bulk_create(Animal() for _ in range(1001))
        with CaptureQueriesContext(connection) as queries:
            found, notes = stale(*(f"zoo.Animal:{animal.pk}" for animal in animals))
        assert len(queries) == 3
        assert found["default"][1] >= {f"zoo.animal:{animal.pk}" for animal in animals}
        assert notes == ["500 of 1001 rows of zoo.Animal read", "1000 of 1001 rows of zoo.Animal read"]

    def test_nothing_is_read_if_one_of_them_is_wrong(self, no_queries: None) -> None:
        with pytest.raises(InvalidName):
            stale("zoo.Cage:1", "zoo.Kage")
