"""What a process tells about itself, and what it keeps to itself."""

import json
import threading
from pathlib import Path

import pytest
from django.core.cache import caches
from django.test import override_settings

from django_integration import bus, cache, near_caches
from django_integration.monitoring.status import (
    MOST_REMEMBERED,
    NAMES_REMEMBERED,
    ProcessStatus,
    look,
    without_password,
)
from invalidator import Invalidator
from invalidator.ledger.file import writing

from ..conftest import WAIT_S

OURS = "django_integration.backend.NearCacheBackend"
CACHES = {
    "default": {"BACKEND": OURS, "LOCATION": "one", "OPTIONS": {"L2": "below the page"}},
    "twin": {"BACKEND": OURS, "LOCATION": "one"},
    "other": {"BACKEND": OURS, "LOCATION": "two"},
    "below the page": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache", "LOCATION": "of the page"},
}
AWAY = {"URL": "redis://ann:hunter2@127.0.0.1:1/0", "NAMESPACE": "away", "CLOSE_TIMEOUT": 0}


def heard(wanted: int) -> ProcessStatus:
    """A look at which so many invalidations are remembered."""
    told = threading.Event()
    end = bus().on_invalidate(lambda said: told.set(), keys=["mark"])
    bus().invalidate("mark")
    assert told.wait(WAIT_S)
    end()
    found = look()
    assert len(found["recent"]["invalidations"]) == wanted
    return found


def test_it_is_json_and_names_the_process() -> None:
    found = json.loads(json.dumps(look(), allow_nan=False))
    assert found["bus"]["node"] == bus().node
    assert found["problems"] == []
    assert found["settings"]["NAMESPACE"] == "tests"
    assert found["settings"]["PUBLISH"] == "queue"
    assert {"pid", "host", "at", "python", "django", "invalidator"} == set(found["process"])


def test_looking_starts_nothing() -> None:
    with override_settings(INVALIDATOR=AWAY):
        before = threading.active_count()
        found = look()
        assert found["bus"]["state"] == "idle"
        assert found["recent"] == {"since": None, "invalidations": []}
        assert near_caches.opened() == []
        assert threading.active_count() == before


def test_every_near_cache_is_there() -> None:
    with override_settings(CACHES=CACHES):
        caches["default"].get_or_set("a", lambda: 1)
        caches["default"].get("a")
        cache.get_or_set("b", lambda: 2)
        found = look()
        default, one, two = found["near_caches"]
        assert (default["name"], default["aliases"]) == ("cache, cached", [])
        assert default["stats"]["loads"] >= 1
        assert (one["name"], one["aliases"], one["location"]) == ("CACHES: default, twin", ["default", "twin"], "one")
        assert one["stats"]["hits"] >= 1
        assert (two["location"], two["stats"]) == ("two", None)
        [level] = [level for level in found["second_levels"] if level["alias"] == "below the page"]
        assert (level["reachable"], level["errors"]) == (True, 0)
        json.dumps(found, allow_nan=False)


def test_what_is_heard_is_remembered_from_the_first_look_on() -> None:
    with override_settings(INVALIDATOR={"URL": "memory://", "NAMESPACE": "remembered", "MAX_STALENESS": 60}):
        assert bus().wait_until_leased(WAIT_S)
        assert look()["recent"]["invalidations"] == []
        with Invalidator("memory://", namespace="remembered") as other:
            other.invalidate("a", tags=["t"])
        bus().clear()
        mark, clear, first = heard(3)["recent"]["invalidations"]
        assert (first["keys"], first["tags"], first["local"], first["type"]) == (["a"], ["t"], False, "invalidate")
        assert (clear["type"], clear["local"]) == ("clear", True)
        assert mark["keys"] == ["mark"]


def test_little_is_remembered() -> None:
    with override_settings(INVALIDATOR={"URL": "memory://", "NAMESPACE": "little", "MAX_STALENESS": 60}):
        assert bus().wait_until_leased(WAIT_S)
        look()
        for _ in range(MOST_REMEMBERED + 5):
            bus().invalidate(*(f"k{n}" for n in range(NAMES_REMEMBERED + 7)))
        last = heard(MOST_REMEMBERED)["recent"]["invalidations"][1]
        assert (len(last["keys"]), last["more"]) == (NAMES_REMEMBERED, 7)


def test_another_bus_is_another_memory() -> None:
    assert bus().wait_until_leased(WAIT_S)
    assert look()["recent"]["since"] is not None
    with override_settings(INVALIDATOR=AWAY):
        assert look()["recent"]["since"] is None
    assert bus().wait_until_leased(WAIT_S)
    assert look()["recent"]["invalidations"] == []
    assert heard(1)["recent"]["since"] is not None


def test_a_redis_that_is_away_is_told_and_its_password_is_not() -> None:
    with override_settings(INVALIDATOR=AWAY):
        assert bus().invalidate("a").queued
        found = look()
        assert found["bus"]["queued"] == 1
        assert not found["bus"]["leased"]
        assert found["bus"]["last_error"]
        assert "hunter2" not in json.dumps(found)
        assert found["settings"]["URL"] == "redis://ann:***@127.0.0.1:1/0"


def test_a_setting_that_cannot_work_is_a_problem() -> None:
    with override_settings(INVALIDATOR={"URL": "memory://"}):
        found = look()
    assert found["bus"] is None
    assert "NAMESPACE" in found["problems"][0]


def test_a_sidecar_that_is_not_there_is_a_problem(tmp_path: Path) -> None:
    with override_settings(INVALIDATOR={**AWAY, "SIDECAR": tmp_path / "no.ledger"}):
        found = look()
    assert "no ledger at" in found["problems"][0]


def test_a_sidecars_worker_remembers_nothing(tmp_path: Path) -> None:
    path = tmp_path / "tests.ledger"
    setting = {"URL": "memory://", "NAMESPACE": "tests", "SIDECAR": path}
    with writing(path, namespace="tests", slots=64), override_settings(INVALIDATOR=setting):
        found = look()
    assert (found["bus"]["listener"], found["recent"]["since"]) == ("sidecar", None)
    assert found["settings"]["SIDECAR"] == str(path)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://:hunter2@localhost", "redis://:***@localhost"),
        ("rediss://ann:hunter2@a:1/0?x=y", "rediss://ann:***@a:1/0?x=y"),
        ("unix:///tmp/r.sock?password=hunter2&db=1", "unix:///tmp/r.sock?password=***&db=1"),
        ("redis://localhost:6379/0", "redis://localhost:6379/0"),
        ("memory://", "memory://"),
    ],
)
def test_without_password(url: str, shown: str) -> None:
    assert without_password(url) == shown
