"""Which models' changes are published: the setting `MODELS`."""

import pytest
from django.conf import settings
from django.db import connection, models
from django.db.migrations.recorder import MigrationRecorder
from django.test import override_settings

from django_integration import writes_to
from django_integration.names import is_watched

from ..conftest import Wire
from ..zoo.models import Animal, Aquarium, Building, Cage, Duty, Food, Pet

pytestmark = pytest.mark.usefixtures("db")


def test_sessions_and_migrations_are_not_watched() -> None:
    assert not is_watched(MigrationRecorder.Migration)
    assert is_watched(Cage)
    assert is_watched(Animal.foods.through)


WATCHED: dict[str, tuple[dict[str, list[str]], dict[type[models.Model], bool]]] = {
    "an exclusion": ({"exclude": ["zoo.Cage"]}, {Cage: False, Food: True, MigrationRecorder.Migration: False}),
    "an inclusion": ({"include": ["ZOO.cage"]}, {Cage: True, Food: False, MigrationRecorder.Migration: False}),
    "wildcards": ({"include": ["zoo.*"], "exclude": ["*.?ood"]}, {Cage: True, Food: False}),
    "both: the exclusion wins": ({"include": ["zoo.Cage"], "exclude": ["zoo.*"]}, {Cage: False}),
    "all is not all": ({"include": ["*"]}, {Cage: True, MigrationRecorder.Migration: False}),
    "named is named": (
        {"include": ["*", "migrations.*"]},
        {Cage: True, MigrationRecorder.Migration: True},
    ),
    "a table between goes with its model": (
        {"include": ["zoo.Animal"]},
        {Animal.foods.through: True, Duty: False, Pet: True},
    ),
    "a table between that is named": ({"exclude": ["zoo.animal_foods"]}, {Animal.foods.through: False, Animal: True}),
    "a child goes with its parent": ({"include": ["zoo.Building"]}, {Aquarium: True, Cage: False}),
    "a parent does not go with its child": ({"exclude": ["zoo.Building"]}, {Building: False, Aquarium: True}),
}


@pytest.mark.parametrize(("setting", "watched"), WATCHED.values(), ids=WATCHED.keys())
def test_which_models_are_watched_is_one_setting(
    setting: dict[str, list[str]], watched: dict[type[models.Model], bool]
) -> None:
    with override_settings(INVALIDATOR={**settings.INVALIDATOR, "MODELS": setting}):
        assert {model: is_watched(model) for model in watched} == watched
    assert is_watched(Cage), "as before"


def test_a_model_that_is_not_watched_is_written_in_silence(wire: Wire) -> None:
    with override_settings(INVALIDATOR={**settings.INVALIDATOR, "MODELS": {"exclude": ["zoo.cage"]}}):
        cage = Cage.objects.create()
        cage.save()
        Cage.objects.update(name="b")
        Cage.objects.bulk_create([Cage()])
        with connection.cursor() as cursor:
            cursor.execute("UPDATE zoo_cage SET name = 'c'")
        Cage.objects.all().delete()
    with writes_to(Cage):
        pass
    assert [message.tags for message in wire.messages()] == [{"zoo.cage", "zoo.cage:*"}], "that was asked for"
