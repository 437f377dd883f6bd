"""A check answers for the apps that it is asked about, and for no others."""

from collections.abc import Callable
from typing import Any

import pytest
from django.apps import apps
from django.core import checks
from django.db import models
from django.test import override_settings

from django_integration.checks import TAG, backend, local_caches, project, setting
from django_integration.checks.asked import watched_models

from ..zoo.models import Animal, Cage

REDIS = "redis://localhost:6379/0"
ABOUT_MODELS = ("check_unmanaged", "check_twins", "check_replicas")


def run(*labels: str, **settings: Any) -> list[str | None]:
    """The ids of what the checks say, when asked about these apps."""
    with override_settings(**settings):
        configs = [apps.get_app_config(label) for label in labels]
        return [message.id for message in checks.run_checks(app_configs=configs, tags=[TAG])]


def test_what_is_wrong_with_the_project_is_this_app_s() -> None:
    """`manage.py check shop`, and a package's own tests, ask about other apps, and must not hear of our setting."""
    missing = {"INVALIDATOR": {"URL": REDIS}}
    assert run("zoo", **missing) == []
    assert run("invalidator", **missing) == ["invalidator.E003"]
    assert run("zoo", "invalidator", **missing) == ["invalidator.E003"]
    with override_settings(**missing):
        assert "invalidator.E003" in [message.id for message in checks.run_checks(tags=[TAG])]


@pytest.mark.parametrize(
    "check", [*setting.ALL, *backend.ALL, *local_caches.ALL, *project.ALL, *project.DEPLOY], ids=lambda it: it.__name__
)
def test_every_check_asks_what_it_is_asked_about(check: Callable[..., Any]) -> None:
    assert hasattr(check, "__wrapped__") or check.__name__ in ABOUT_MODELS
    assert check(app_configs=[]) == [], "nothing is asked for"


@pytest.mark.usefixtures("new_models")
def test_what_is_wrong_with_models_is_reported_for_their_apps() -> None:
    class Twin(models.Model):
        class Meta:
            app_label = "zoo"
            db_table = "auth_group"

        def __str__(self) -> str:
            return "the same row"

    assert run("zoo") == ["invalidator.W036"]
    assert run("auth") == ["invalidator.W036"], "the other one of the two"
    assert run("sessions") == []


@pytest.mark.usefixtures("new_models")
def test_views_are_reported_for_their_apps() -> None:
    class View(models.Model):
        class Meta:
            app_label = "zoo"
            managed = False

        def __str__(self) -> str:
            return "a row of a view"

    assert run("zoo") == ["invalidator.W035"]
    assert run("auth", "invalidator") == []


def test_the_models_asked_about_have_tables_of_their_own() -> None:
    assert {Animal, Cage, Animal.foods.through} <= set(watched_models([apps.get_app_config("zoo")]))
    assert not set(watched_models([apps.get_app_config("auth")])) & {Animal, Cage}
    assert set(watched_models([apps.get_app_config("zoo")])) < set(watched_models(None))
