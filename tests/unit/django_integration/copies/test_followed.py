"""A relation that readers of a cached row follow is said once for each place, with what the loader could do."""

import copy
import pickle
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from django.db.models import prefetch_related_objects
from django.template import engines
from django.test import override_settings

from django_integration import cache, cached
from django_integration.copies import followed
from django_integration.copies.followed import Followed
from django_integration.testing import isolated
from invalidator.extending import clone_watchers

from ..zoo.models import Animal, Cage, Crate, Label


@pytest.fixture
def told(db: None) -> Iterator[list[Followed]]:
    cage = Cage.objects.create(name="cage")
    for name in "ab":
        Animal.objects.create(name=name, cage=cage)
    found: list[Followed] = []
    with followed.listening(found.append):
        yield found


@cached(ttl=300)
def animals() -> Any:
    return {"rows": list(Animal.objects.order_by("name"))}


def hit() -> Animal:
    animals()
    row: Animal = animals()["rows"][0]
    return row


class TestWhatIsTold:
    def test_a_relation_with_its_place_its_key_and_a_remedy(self, told) -> None:
        row = hit()
        line = sys._getframe().f_lineno + 1
        assert row.cage.name == "cage"
        assert told == [
            Followed(
                "zoo.Animal.cage",
                f"{__file__}:{line}",
                animals.key(),
                'select_related("cage") inside of the cached function',
            )
        ]
        row.cage  # noqa: B018 - which is there now
        assert len(told) == 1

    def test_a_template_and_its_line(self, told) -> None:
        template = engines["django"].from_string("\n{% for row in rows %}\n{{ row.cage.name }}{% endfor %}")
        animals()
        assert "cage" in template.render(animals())
        assert [each.place for each in told] == ["<unknown source>:3"] * 2

    def test_a_generic_relation_is_prefetched(self, told) -> None:
        label = Label.objects.create(labelled=Crate.objects.create())
        cache.get_or_set("label", lambda: Label.objects.get(pk=label.pk))
        cache.get("label").labelled  # noqa: B018
        assert told[0].remedy.startswith('prefetch_related("labelled")')

    def test_a_live_row_tells_as_well(self, told) -> None:
        cache.get_or_set("live", lambda: Animal.objects.get(name="a"), copy="none")
        cache.get("live").cage  # noqa: B018
        assert [each.relation for each in told] == ["zoo.Animal.cage"]

    def test_what_is_no_query_is_not_told(self, told) -> None:
        """Loaded, assigned, prefetched by the reader for all rows at once, or leading nowhere."""
        Animal.objects.create(name="c")
        cache.get_or_set("rows", lambda: list(Animal.objects.select_related("cage").order_by("name")))
        for row in cache.get("rows"):
            row.cage  # noqa: B018
        cache.get_or_set("bare", lambda: list(Animal.objects.order_by("name")))
        one, two, homeless = cache.get("bare")
        assert homeless.cage is None
        one.cage = Cage.objects.get()
        prefetch_related_objects([two], "cage")
        assert one.cage == two.cage
        assert not told

    def test_rows_that_nobody_cached_tell_nothing(self, told) -> None:
        Animal.objects.all()[0].cage  # noqa: B018
        assert not told


def test_a_copy_of_a_marked_row_is_an_ordinary_row(told) -> None:
    row = hit()
    for plain in (copy.copy(row), copy.deepcopy(row), pickle.loads(pickle.dumps(row))):
        assert type(plain._state.fields_cache) is dict


def test_while_nobody_listens_no_clone_is_marked(db: None) -> None:
    Animal.objects.create(name="a")
    assert not clone_watchers
    assert type(hit()._state.fields_cache) is dict


class TestTheLog:
    @pytest.fixture
    def lines(self, db: None, caplog) -> Any:
        cage = Cage.objects.create(name="cage")
        Animal.objects.create(name="a", cage=cage)
        return lambda: [each.getMessage() for each in caplog.records if each.name == "invalidator.copies"]

    def test_with_debug_each_place_is_said_once_when_it_happens_again(self, lines) -> None:
        with override_settings(DEBUG=True), isolated():
            for times in range(4):
                hit().cage  # noqa: B018
                assert len(lines()) == (times > 0)
        [line] = lines()
        assert line.startswith("relation_followed relation=zoo.Animal.cage at=")
        assert f"key={animals.key()!r}" in line
        assert 'select_related("cage")' in line

    def test_without_debug_nothing_is_said(self, lines) -> None:
        with isolated():
            for _ in range(3):
                hit().cage  # noqa: B018
        assert not lines()

    def test_there_is_an_end_to_it(self, lines, monkeypatch) -> None:
        monkeypatch.setattr(followed, "MOST_PLACES", 0)
        with override_settings(DEBUG=True), isolated():
            for _ in range(3):
                hit().cage  # noqa: B018
        assert not lines()
