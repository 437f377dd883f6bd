"""A primary key has one spelling, or none: then its rows are known by their table."""

import datetime as dt
import enum
import uuid
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
from django.apps.registry import Apps
from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import F

from django_integration import cached, row_tag, row_tags
from django_integration.names import known_row_tag
from django_integration.names.keys import spelling
from invalidator import InvalidName

from ..zoo.models import Cage, Chip, EvenField, Seat, Skeleton, Word

MakeTable = Callable[[type[models.Model]], None]


class Id:
    """What a row's key is in Python; it has no text of its own."""

    def __init__(self, number: int) -> None:
        self.number = number


class IdField(models.AutoField):
    """Its `to_python`, which is Django's for integers, does not accept an Id."""

    def from_db_value(self, value: Any, expression: object, connection: object) -> Id | None:
        return None if value is None else Id(value)

    def get_prep_value(self, value: Any) -> Any:
        return value.number if isinstance(value, Id) else value


class FriendlyField(IdField):
    """Makes an Id of everything, and a number of every Id: these agree."""

    def to_python(self, value: Any) -> Any:
        return value if isinstance(value, Id) else Id(int(value))


class PackedField(models.Field):
    """A UUID in Python, which is bytes in the database; what it is cannot be seen in a query."""

    def db_type(self, connection: object) -> str:
        return "bytea" if vars(connection).get("vendor") == "postgresql" else "binary(16)"

    def get_db_prep_value(self, value: Any, connection: object, prepared: bool = False) -> Any:
        return uuid.UUID(str(value)).bytes

    def from_db_value(self, value: Any, expression: object, connection: object) -> uuid.UUID | None:
        return None if value is None else uuid.UUID(bytes=bytes(value))


class RefusingField(models.CharField):
    """Raises in its own way."""

    def to_python(self, value: Any) -> Any:
        raise RecursionError("of its own")


class OddField(models.CharField):
    """Makes something that is no key of a dictionary."""

    def to_python(self, value: Any) -> Any:
        return [value]

    def get_prep_value(self, value: Any) -> Any:
        return value


def model_with(field: models.Field) -> type[models.Model]:
    """A model that nobody else sees, with this primary key."""
    meta = type("Meta", (), {"app_label": "zoo", "apps": Apps()})
    return type("Keyed", (models.Model,), {"__module__": __name__, "key": field, "Meta": meta})


def with_key(kind: Any, **options: Any) -> type[models.Model]:
    return model_with(kind(primary_key=True, **options))


class Colour(int, enum.Enum):
    RED = 1


class Kind(str, enum.Enum):  # noqa: UP042 - this one, and not StrEnum, is the trap
    VERB = "verb"


A_UUID = uuid.UUID("12345678-1234-5678-1234-567812345678")

SPELLED: list[tuple[str, Any, list[Any], str]] = [
    ("a number", Cage, [42, "42", Decimal(42), 42.0], "42"),
    ("a member of an enum that is a number", Cage, [Colour.RED, 1, True], "1"),
    ("a text", Word, ["verb", Kind.VERB], "verb"),
    ("an empty text", Word, [""], ""),
    ("a UUID", Chip, [A_UUID, str(A_UUID), A_UUID.hex], str(A_UUID)),
    ("two columns", Seat, [(1, 2), [1, "2"]], "1,2"),
    ("a parent's key", Skeleton, [7, "7"], "7"),
    ("a date", with_key(models.DateField), [dt.date(2026, 1, 2), "2026-01-02"], "2026-01-02"),
    ("bytes", with_key(models.BinaryField), [b"ab", bytearray(b"ab"), memoryview(b"ab")], "b'ab'"),
    ("a truth", with_key(models.BooleanField), [True, "True"], "True"),
    ("an address", with_key(models.GenericIPAddressField), ["::1", "0:0::1"], "::1"),
    ("a file", with_key(models.FileField), ["a.txt"], "a.txt"),
    ("objects that agree with their field", with_key(FriendlyField), [Id(3), 3, "3"], "3"),
]


@pytest.mark.parametrize(("model", "keys", "text"), [row[1:] for row in SPELLED], ids=[row[0] for row in SPELLED])
def test_all_forms_of_a_key_have_one_spelling(model: type[models.Model], keys: list[Any], text: str) -> None:
    """A view passes the string of its URL; the row that changes holds the number; a query holds what was prepared."""
    assert [spelling(model, key) for key in keys] == [text] * len(keys)


UNSPELLED: list[tuple[str, Any, Any]] = [
    ("missing", Cage, None),
    ("an expression", Cage, F("id") + 1),
    ("no number", Cage, "x"),
    ("half of two columns", Seat, (1, None)),
    ("one of two columns", Seat, 1),
    ("three of two columns", Seat, (1, 2, 3)),
    ("a text of two letters for two columns", Seat, "12"),
    ("a decimal: 1.0 is 1.00", with_key(models.DecimalField, max_digits=9, decimal_places=2), Decimal("1.0")),
    ("a float", with_key(models.FloatField), 1.5),
    ("a time, which has a zone", with_key(models.DateTimeField), dt.datetime(2026, 1, 2, tzinfo=dt.UTC)),
    ("a span", with_key(models.DurationField), dt.timedelta(1)),
    ("a document", with_key(models.JSONField), {"a": 1}),
    ("a list", with_key(ArrayField, base_field=models.IntegerField()), [1]),
    ("an object that its field refuses", with_key(IdField), Id(3)),
    ("a number that is prepared as another", with_key(EvenField), 3),
    ("what is converted below a query", with_key(PackedField), A_UUID),
    ("a number that stands for a text", Chip, A_UUID.int),
    ("a field that raises", with_key(RefusingField, max_length=9), "a"),
    ("a field that makes lists", with_key(OddField, max_length=9), "a"),
]


@pytest.mark.parametrize(("model", "key"), [row[1:] for row in UNSPELLED], ids=[row[0] for row in UNSPELLED])
def test_a_key_that_may_have_another_spelling_has_none(model: type[models.Model], key: Any) -> None:
    """A name that the reader spells otherwise is a stale value; a name of the table is a miss."""
    assert spelling(model, key) is None
    assert known_row_tag(model, key) is None
    with pytest.raises(InvalidName):
        row_tag(model, key)
    if key is not None:
        label = model._meta.label_lower
        assert row_tags(model, key) == (label, f"{label}:*"), "a reader depends on the table, which every write names"


@pytest.mark.parametrize("text", ["a" * 10_000, "é" * 600, "\0", "a b\n", "*", ":", "~", ",", "\ud800", "{", " "])
def test_any_text_is_a_key_that_can_be_named(text: str) -> None:
    name = known_row_tag(Word, text)
    assert name is not None
    assert name.startswith("zoo.word:")
    assert len(name) < 512


KINDS: dict[str, Callable[[], models.Field]] = {
    "objects": lambda: IdField(primary_key=True),
    "objects that agree": lambda: FriendlyField(primary_key=True),
    "doubled": lambda: EvenField(primary_key=True),
}


@pytest.mark.parametrize("kind", KINDS)
def test_rows_with_a_key_of_somebody_s_own_are_written_and_read_fresh(kind: str, make_table: MakeTable) -> None:
    """Every write raised after it, or named a row that no reader knew."""

    class Keyed(models.Model):
        id = KINDS[kind]()
        number = models.IntegerField(default=0)

        class Meta:
            app_label = "zoo"

        def __str__(self) -> str:
            return f"number {self.number}"

    make_table(Keyed)
    row = Keyed(id=3) if kind == "doubled" else Keyed()
    row.save()

    def one_more() -> None:
        row.number += 1
        row.save()

    def in_bulk() -> None:
        row.number += 1
        Keyed.objects.bulk_update([row], ["number"])

    read_by_key = cached(ttl=60, key=lambda: f"by key:{kind}")(lambda: Keyed.objects.get(pk=row.pk).number)
    read_all = cached(ttl=60, key=lambda: f"all:{kind}")(lambda: [found.number for found in Keyed.objects.all()])
    for number, write in enumerate(
        (
            one_more,
            in_bulk,
            lambda: Keyed.objects.update(number=3),
            lambda: Keyed.objects.filter(pk=row.pk).update(number=4),
        ),
        start=1,
    ):
        assert (read_by_key(), read_all()) == (number - 1, [number - 1])
        write()
    assert (read_by_key(), read_all()) == (4, [4])
    row.delete()
    assert read_all() == []
