"""The signals `invalidated` and `flushed`: real receivers on a real bus."""

import logging
import queue
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.test import override_settings
from django.utils import timezone

from django_integration import bus, flushed, invalidate, invalidated, signals, tag
from django_integration.reads.default_cache import default_cache
from invalidator import Invalidator
from invalidator.ledger.file import writing

from .conftest import WAIT_S

ROOT = Path(__file__).resolve().parents[3]
NEW = {"URL": "memory://", "NAMESPACE": "signals", "MAX_STALENESS": 60}


class Ear:
    """A receiver that hands over what it is told."""

    def __init__(self) -> None:
        self._told: queue.Queue[dict[str, Any]] = queue.Queue()

    def __call__(self, **told: Any) -> None:
        self._told.put(told)

    def next(self) -> dict[str, Any]:
        """What it was told next."""
        return self._told.get(timeout=WAIT_S)


@pytest.fixture
def heard() -> Iterator[Ear]:
    """Everything `invalidated` says, from now on."""
    ear = Ear()
    invalidated.connect(ear, weak=False)
    assert bus().wait_until_leased(WAIT_S)
    yield ear
    invalidated.disconnect(ear)


@pytest.fixture
def flushes() -> Iterator[Ear]:
    """Everything `flushed` says."""
    ear = Ear()
    flushed.connect(ear, weak=False)
    yield ear
    flushed.disconnect(ear)


def callbacks() -> int:
    return len(bus()._callbacks)


def test_it_tells_what_this_process_said(heard: Ear) -> None:
    began = timezone.now()
    invalidate("product:42", tag("prices"))
    told = heard.next()
    assert (told["keys"], told["tags"], told["everything"]) == (("product:42",), ("prices",), False)
    assert told["local"] is True
    assert told["node"] == bus().node
    assert told["id"]
    assert began <= told["received_at"] <= timezone.now()
    assert told["sender"] is Invalidator


def test_it_tells_what_others_said(heard: Ear) -> None:
    with Invalidator("memory://", namespace="tests") as other:
        assert bus().wait_until_leased(WAIT_S)
        other.invalidate("product:42")
        told = heard.next()
    assert (told["keys"], told["local"], told["node"]) == (("product:42",), False, other.node)


def test_it_tells_of_a_clear(heard: Ear) -> None:
    bus().clear()
    told = heard.next()
    assert (told["keys"], told["tags"], told["everything"]) == ((), (), True)


def test_flushed_tells_why(flushes: Ear, heard: Ear) -> None:
    """Also of the first subscription: what the application keeps itself may have become stale before it, unheard."""
    with override_settings(INVALIDATOR=NEW):
        assert bus().wait_until_leased(WAIT_S)
        assert flushes.next()["reason"] == "first subscription"
        bus().clear()  # a clear is an invalidation, and no flush
        assert heard.next()["everything"] is True
        bus().flushed("the chain is broken", bus().clock())
        assert flushes.next()["reason"] == "the chain is broken"


def test_a_receiver_that_raises_breaks_nothing(caplog: pytest.LogCaptureFixture, heard: Ear) -> None:
    def broken(**_: object) -> None:
        raise RuntimeError("no such flag")

    invalidated.disconnect(heard)
    invalidated.connect(broken)
    invalidated.connect(heard)  # after it
    with caplog.at_level(logging.ERROR):
        invalidate("a")
        assert heard.next()["keys"] == ("a",)
        invalidate("b")
        assert heard.next()["keys"] == ("b",)
    assert "no such flag" in caplog.text
    invalidated.disconnect(broken)


def test_nobody_connected_costs_nothing() -> None:
    assert not signals.is_wanted()
    before = callbacks()
    ear = Ear()
    invalidated.connect(ear)
    flushed.connect(ear)
    assert callbacks() == before + 1
    invalidated.disconnect(ear)
    assert callbacks() == before + 1
    flushed.disconnect(ear)
    assert callbacks() == before


def test_a_new_bus_is_heard_too(heard: Ear) -> None:
    with override_settings(INVALIDATOR=NEW):
        assert bus().wait_until_leased(WAIT_S)
        invalidate("on the new one")
        assert heard.next()["keys"] == ("on the new one",)
    assert bus().wait_until_leased(WAIT_S)
    invalidate("on the old one again")
    assert heard.next()["keys"] == ("on the old one again",)


def test_a_sidecars_worker_says_that_it_will_hear_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, heard: Ear
) -> None:
    path = tmp_path / "tests.ledger"
    setting = {"URL": "memory://", "NAMESPACE": "tests", "SIDECAR": path}
    with writing(path, namespace="tests", slots=64), override_settings(INVALIDATOR=setting):
        assert bus() is bus()
    assert [record.getMessage() for record in caplog.records if "signals_not_sent" in record.getMessage()] == [
        'signals_not_sent reason="a sidecar\'s worker gets no messages"'
    ]


CONNECTED = """
import os, threading
os.environ["DJANGO_SETTINGS_MODULE"] = "tests.unit.django_integration.settings"
import django
from django_integration import bus, invalidated, runtime
told = threading.Event()
heard = lambda **_: told.set()
invalidated.connect(heard)
django.setup()
assert runtime.made_bus() is None and threading.active_count() == 1
if pid := os.fork():
    assert os.waitpid(pid, 0)[1] == 0
else:
    bus().wait_until_leased(20)
    bus().invalidate("a")
    os._exit(0 if told.wait(20) else 1)
"""


def test_connecting_starts_nothing_and_a_forked_child_hears() -> None:
    done = subprocess.run([sys.executable, "-c", CONNECTED], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_receiver_may_use_the_bus() -> None:
    """It runs in the listener's thread, without a lock of ours."""
    answers: queue.Queue[str] = queue.Queue()

    def look(**_: object) -> None:
        answers.put(default_cache().get_or_set("flags", lambda: "loaded anew"))

    assert bus().wait_until_leased(WAIT_S)
    invalidated.connect(look)
    invalidate("flags")
    assert answers.get(timeout=WAIT_S) == "loaded anew"
    invalidated.disconnect(look)
