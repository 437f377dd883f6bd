"""The checks of the project around the app: each says what is wrong, and nothing else does."""

import importlib.metadata
import socket
from collections.abc import Iterator
from typing import Any

import pytest
from django.apps import apps
from django.contrib.sessions.models import Session
from django.core import checks
from django.db import models
from django.test import override_settings

from django_integration import invalidated
from django_integration.checks.project import ALL, DEPLOY
from invalidator.testing import EmbeddedServer

from ..zoo.models import Cage, Note

OURS = "django_integration.backend.NearCacheBackend"
REDIS = "django.core.cache.backends.redis.RedisCache"
LOCMEM = "django.core.cache.backends.locmem.LocMemCache"
DUMMY = "django.core.cache.backends.dummy.DummyCache"
BUS = {"URL": "redis://localhost:6379/0", "NAMESPACE": "tests"}


def say(these: Any = ALL, bus: dict[str, Any] = BUS, **settings: Any) -> list[checks.CheckMessage]:
    """What the checks say."""
    with override_settings(INVALIDATOR=bus, **settings):
        messages = [message for check in these for message in check(None)]
    assert all(message.hint for message in messages)
    return messages


def found(*args: Any, **settings: Any) -> list[str | None]:
    return [message.id for message in say(*args, **settings)]


def over(backend: str) -> dict[str, Any]:
    return {"default": {"BACKEND": OURS, "OPTIONS": {"L2": "below"}}, "below": {"BACKEND": backend}}


@pytest.fixture
def registered() -> Iterator[None]:
    """Models that a test makes in the zoo are gone after it."""
    before = set(apps.all_models["zoo"])
    yield
    for name in set(apps.all_models["zoo"]) - before:
        del apps.all_models["zoo"][name]
    apps.clear_cache()


class TestCaches:
    def test_nothing_is_wrong_with_what_the_documentation_shows(self) -> None:
        assert found() == []
        assert found(CACHES={"default": {"BACKEND": OURS}}) == []
        assert found(CACHES=over(REDIS)) == []

    def test_local_memory(self) -> None:
        caches = {"default": {"BACKEND": LOCMEM}, "other": {"BACKEND": REDIS}}
        [warning] = say(CACHES=caches)
        assert warning.id == "invalidator.W030"
        assert "'default'" in warning.msg
        assert OURS in str(warning.hint)

    def test_local_memory_in_one_process_is_right(self) -> None:
        caches = {"default": {"BACKEND": LOCMEM}}
        assert found(ALL, {**BUS, "URL": "memory://"}, CACHES=caches) == []

    @pytest.mark.parametrize("backend", [LOCMEM, DUMMY])
    def test_a_second_level_that_nobody_shares(self, backend: str) -> None:
        assert found(CACHES=over(backend)) == ["invalidator.W031"]

    def test_a_second_level_that_is_not_there_is_the_backends_to_say(self) -> None:
        assert found(CACHES={"default": {"BACKEND": OURS, "OPTIONS": {"L2": "nowhere"}}}) == []


@pytest.mark.parametrize(
    ("installed", "ids"),
    [("3.4.0", ["invalidator.W032"]), ("2.9.9", ["invalidator.W032"]), ("3.5.0", []), ("3.10.1", []), (None, [])],
)
def test_hiredis(installed: str | None, ids: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def version(_: str) -> str:
        if installed is None:
            raise importlib.metadata.PackageNotFoundError
        return installed

    monkeypatch.setattr("django_integration.checks.project.version", version)
    assert found() == ids


class TestDeploy:
    def test_a_redis_that_is_there(self) -> None:
        with EmbeddedServer() as server:
            assert found(DEPLOY, {**BUS, "URL": server.url}) == []

    def test_a_redis_that_is_away(self) -> None:
        with socket.socket() as nobody:
            nobody.bind(("127.0.0.1", 0))  # and does not listen
            url = f"redis://127.0.0.1:{nobody.getsockname()[1]}"
            [warning] = say(DEPLOY, {**BUS, "URL": url})
        assert warning.id == "invalidator.W033"
        assert "refused" in warning.msg.lower()

    def test_a_url_that_cannot_work_is_said(self) -> None:
        assert found(DEPLOY, {**BUS, "URL": "http://localhost"}) == ["invalidator.W033"]

    @pytest.mark.parametrize("url", ["memory://", "embedded://"])
    def test_a_bus_for_development(self, url: str) -> None:
        assert found(DEPLOY, {**BUS, "URL": url}) == ["invalidator.W034"]

    def test_they_run_with_deploy_only(self) -> None:
        """Every other management command would wait for Redis."""
        ids = [message.id for message in checks.run_checks(tags=["invalidator"])]
        assert "invalidator.W034" not in ids
        ids = [message.id for message in checks.run_checks(tags=["invalidator"], include_deployment_checks=True)]
        assert "invalidator.W034" in ids


class Replicas:
    """A router that reads cages from elsewhere."""

    def db_for_read(self, model: type[models.Model], **_: object) -> str | None:
        return "other" if model is Cage else None


@pytest.mark.usefixtures("registered")
class TestModels:
    def test_a_model_that_others_write(self) -> None:
        class Visit(models.Model):  # noqa: DJ008 - nobody prints one
            class Meta:
                app_label = "zoo"
                managed = False

        [warning] = say()
        assert warning.id == "invalidator.W035"
        assert "zoo.Visit." in warning.msg

    def test_many_of_them_are_one_warning(self) -> None:
        for number in range(8):
            meta = type("Meta", (), {"app_label": "zoo", "managed": False})
            type(f"View{number}", (models.Model,), {"__module__": __name__, "Meta": meta})
        [warning] = say()
        assert "zoo.View4 and 3 more." in warning.msg

    def test_a_proxy_is_its_model(self) -> None:
        class OldNote(Note):
            class Meta:
                app_label = "zoo"
                proxy = True
                managed = False

        assert found() == []

    def test_two_models_with_one_table(self) -> None:
        class OldNote(models.Model):  # noqa: DJ008 - nobody prints one
            class Meta:
                app_label = "zoo"
                managed = False
                db_table = Note._meta.db_table

        [warning] = say()
        assert warning.id == "invalidator.W036"
        assert "zoo.Note, zoo.OldNote" in warning.msg

    def test_what_is_not_watched_may_be_written_by_whom_it_wants(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(Session._meta, "managed", False)
        assert found() == []

    def test_a_replica_without_a_lag(self) -> None:
        [warning] = say(DATABASE_ROUTERS=[Replicas()])
        assert warning.id == "invalidator.W037"
        assert "zoo.Cage." in warning.msg
        assert found(ALL, {**BUS, "REPLICA_LAG": 1}, DATABASE_ROUTERS=[Replicas()]) == []


def test_receivers_in_a_sidecars_worker() -> None:
    def hear(**_: object) -> None:
        """Never called."""

    with_sidecar = {**BUS, "SIDECAR": "auto"}
    assert found(ALL, with_sidecar) == []
    invalidated.connect(hear)
    try:
        assert found(ALL, with_sidecar) == ["invalidator.W038"]
        assert found() == []
    finally:
        invalidated.disconnect(hear)
