"""A child that was forked while another thread held every lock of this app can do everything that takes one."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from django.core.cache import caches
from django.test import override_settings

import django_integration
from django_integration import bus, cache, observing, patching, runtime
from django_integration.backend.settling import settler
from django_integration.monitoring import status
from django_integration.monitoring.verifier import Verifier
from django_integration.signals import invalidated
from invalidator import forks
from tests.support import PATIENCE_S, Thread, in_child

pytestmark = pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")

reviewer = Verifier()


def connect_a_receiver() -> None:
    invalidated.connect(print)


def watch() -> None:
    observing.review(reviewer)
    assert bus().wait_until_leased(PATIENCE_S)  # what a child stores before it listens is void
    cache.set("a", 1)
    assert cache.get("a") == 1


def use_a_cache_backend() -> None:
    assert bus().wait_until_leased(PATIENCE_S)  # as above
    caches["default"].set("a", 1)
    assert caches["default"].get("a") == 1


def load() -> None:
    assert cache.get_or_set("loaded", lambda: 1) == 1


def look_at_the_status() -> None:
    assert status.look()["process"]


def make_another_bus() -> None:
    runtime.reset()
    bus().invalidate("a")


def settle() -> None:
    assert settler.settle(PATIENCE_S)


def patch_a_class() -> None:
    class Met:
        def method(self) -> str:
            return "before"

    patches = patching.Patches("Tests")
    patches.around_each("a class", "method", "self", why="a test")(lambda _: lambda self: "after").put_on(Met)
    assert Met().method() == "after"


@pytest.fixture
def everything_is_held() -> Iterator[None]:
    """Another thread holds all locks of this app that a fork does not wait for."""
    with override_settings(CACHES={"default": {"BACKEND": "django_integration.backend.NearCacheBackend"}}):
        assert bus().wait_until_leased(PATIENCE_S)
        use_a_cache_backend()
        load()
        locks = [*[fresh.lock for fresh in forks._fresh_locks], settler._changed]
        is_held, is_over = threading.Event(), threading.Event()

        def hold() -> None:
            for lock in locks:
                lock.acquire()
            is_held.set()
            is_over.wait(PATIENCE_S)
            for lock in reversed(locks):
                lock.release()

        holder = Thread(hold)
        assert is_held.wait(PATIENCE_S)
        yield
        is_over.set()
        holder.outcome()


@pytest.mark.parametrize(
    "action",
    [
        connect_a_receiver,
        watch,
        use_a_cache_backend,
        load,
        look_at_the_status,
        make_another_bus,
        settle,
        patch_a_class,
    ],
)
def test_a_child_finds_every_lock_free(everything_is_held: None, action: Callable[[], None]) -> None:
    in_child(action)


def test_no_lock_of_this_app_is_a_plain_one() -> None:
    """It would stay locked in a child that was forked while another thread held it."""
    package = Path(django_integration.__file__).parent
    found = {
        f"{path.relative_to(package)}: {line.strip()}"
        for path in package.rglob("*.py")
        for line in path.read_text().splitlines()
        if re.search(r"\bR?Lock\(\)|Condition\(\)|Semaphore\(|register_at_fork", line) and "Fresh" not in line
    }
    assert found == {"backend/settling.py: self._changed = threading.Condition()"}, "that one a child makes anew"
