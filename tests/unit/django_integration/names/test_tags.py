"""The tags of rows and tables, and how primary keys are spelled in them."""

import enum
import uuid
from decimal import Decimal

import pytest
from django.db import connection, connections, models

from django_integration import model_tag, row_tag, row_tags
from django_integration.names import Names, tags
from django_integration.names.plan import forget_plans, plan_of
from invalidator import InvalidName

from ..conftest import Wire
from ..zoo.models import Cage, Chip, Seat, Word

pytestmark = pytest.mark.usefixtures("db")


def test_tags_are_the_lower_case_label_and_the_primary_key() -> None:
    assert model_tag(Cage) == "zoo.cage"
    assert row_tag(Cage, 42) == row_tag(Cage(pk=42)) == "zoo.cage:42"
    assert row_tags(Cage, 42) == row_tags(Cage(pk=42)) == ("zoo.cage:42", "zoo.cage:*")


@pytest.mark.parametrize("pk", [42, "42", Decimal(42)])
def test_a_primary_key_has_one_spelling(pk: object) -> None:
    """A view passes the string of its URL; the row that changes holds the number."""
    assert row_tag(Cage, pk) == "zoo.cage:42"


def test_a_uuid_has_one_spelling() -> None:
    key = uuid.uuid4()
    assert row_tag(Chip, str(key)) == row_tag(Chip, key.hex) == row_tag(Chip(pk=key)) == f"zoo.chip:{key}"


def test_a_member_of_an_enum_is_spelled_as_it_is_stored() -> None:
    """Python writes `Kind.VERB` for it, and who reads the row finds "verb"."""

    class Kind(str, enum.Enum):  # noqa: UP042 - this one, and not StrEnum, is the trap
        VERB = "verb"

    assert row_tag(Word(text=Kind.VERB)) == row_tag(Word, "verb") == "zoo.word:verb"


def test_a_composite_key_is_all_its_columns() -> None:
    assert row_tag(Seat, (1, 2)) == row_tag(Seat(row=1, number=2)) == "zoo.seat:1,2"


def test_a_key_too_long_for_a_tag_is_hashed_and_saved_all_the_same(wire: Wire) -> None:
    long = "é" * 600
    name = row_tag(Word, long)
    assert name.startswith("zoo.word:~")
    assert len(name) < 100
    assert name != row_tag(Word, long + "é")
    Word.objects.create(text=long)
    assert name in wire.message().tags


@pytest.mark.parametrize("other", ["a", "A ", "á"])
def test_where_two_texts_may_be_one_key_a_row_is_not_the_only_one_meant(wire: Wire, other: str) -> None:
    """MariaDB finds "A" for "a": an entry with the one is stale after a write of the other."""
    Word.objects.create(text="A")
    held = row_tags(Word, "A")
    wire.messages()
    changed = Word.objects.filter(pk=other).update(day=1)
    assert changed == (connection.vendor == "mysql")
    if changed:
        assert wire.message().tags & set(held)
    Word(text=other, day=2).save()
    assert Word.objects.filter(pk="A").count() == 1
    assert bool(wire.message().tags & set(held)) == (connection.vendor == "mysql")


@pytest.mark.parametrize(
    ("collation", "vendor", "exact"),
    [
        (None, "sqlite", True),
        (None, "postgresql", True),
        (None, "mysql", False),
        (None, "microsoft", False),
        ("nocase", "sqlite", False),
        ("BINARY", "sqlite", True),
        ("und-x-icu", "postgresql", False),
        ("C", "postgresql", True),
        ("utf8mb4_bin", "mysql", False),  # "a" is "a "
        ("utf8mb4_nopad_bin", "mysql", True),
        ("utf8mb4_0900_bin", "mysql", True),
    ],
)
def test_a_collation_that_is_known_to_be_exact_names_no_unknown_rows(
    collation: str | None, vendor: str, exact: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Word._meta.get_field("text"), "db_collation", collation)
    monkeypatch.setattr(connections["other"], "vendor", vendor)
    monkeypatch.setattr(connection, "vendor", "sqlite")
    for cached in (tags._collations_of_key, tags._all_texts_are_exact):
        cached.cache_clear()
    try:
        forget_plans()
        written = Names()
        plan_of(Word, None).add_rows(written, ["a"])
        assert set(written.tags) == {"zoo.word", "zoo.word:a"} | (set() if exact else {"zoo.word:*"})
    finally:
        monkeypatch.undo()
        for cached in (tags._collations_of_key, tags._all_texts_are_exact):
            cached.cache_clear()
        forget_plans()


def test_a_row_without_a_key_has_no_tag() -> None:
    with pytest.raises(InvalidName, match="no primary key yet"):
        row_tag(Cage())


def test_an_abstract_model_has_no_tag() -> None:
    class Abstract(models.Model):
        class Meta:
            abstract = True
            app_label = "zoo"

    with pytest.raises(TypeError, match="abstract"):
        model_tag(Abstract)
