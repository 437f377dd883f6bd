"""One bus and one cache per process, made on first use."""

import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.test import override_settings

from django_integration import bus, runtime
from django_integration.reads.default_cache import default_cache
from invalidator import ClosedError, Invalidator, InvalidatorError, Receipt
from invalidator.ledger.file import writing
from tests.support import wait_until

ROOT = Path(__file__).resolve().parents[3]

NOTHING_STARTED = """
import os, threading
from django_integration import cache, cached, invalidate, invalidates, tag
@cached(key="f:{x}")
def f(x): return x
os.environ["DJANGO_SETTINGS_MODULE"] = "tests.unit.django_integration.settings"
import django
django.setup()
from django_integration import near_caches, runtime
assert runtime.made_bus() is None and near_caches.opened() == []
assert threading.active_count() == 1, threading.enumerate()
assert f(1) == 1
assert near_caches.opened()
"""


def test_importing_and_starting_django_starts_nothing() -> None:
    """Preloading servers fork after `ready()`; what was started before is dead in the child."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", NOTHING_STARTED], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_there_is_one() -> None:
    assert bus() is bus()


def test_threads_that_come_first_get_the_same() -> None:
    runtime.reset()
    together = threading.Barrier(8)
    got: list[Invalidator] = []

    def ask() -> None:
        together.wait()
        got.append(bus())

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(map(id, got))) == 1


def test_new_settings_close_the_old_and_make_new_ones() -> None:
    before = bus()
    with override_settings(INVALIDATOR={"URL": "memory://", "NAMESPACE": "new", "MAX_STALENESS": 9}):
        assert bus() is not before
        assert (bus().namespace, bus().status().max_staleness_s) == ("new", 9)
        with pytest.raises(ClosedError):
            before.invalidate("a")
    assert bus().namespace == "tests"


def test_a_sidecar_listens_if_the_settings_say_so(tmp_path: Path) -> None:
    path = tmp_path / "tests.ledger"
    setting = {"URL": "memory://", "NAMESPACE": "tests", "SIDECAR": path}
    with writing(path, namespace="tests", slots=64), override_settings(INVALIDATOR=setting):
        assert bus().status().listener == "sidecar"
    assert bus().status().listener == "own"


def test_a_sidecar_that_is_not_there_is_said_on_first_use(tmp_path: Path) -> None:
    setting = {"URL": "memory://", "NAMESPACE": "tests", "SIDECAR": tmp_path / "tests.ledger"}
    with override_settings(INVALIDATOR=setting), pytest.raises(InvalidatorError, match="no ledger at"):
        bus()


def test_other_settings_close_nothing() -> None:
    before = bus()
    with override_settings(USE_TZ=False):
        assert bus() is before


def test_a_process_that_keeps_to_itself_publishes_to_no_server() -> None:
    """Within the process it does: the bus of an isolated test is there, and so are its other servers."""
    with override_settings(INVALIDATOR={"URL": "redis://127.0.0.1:1", "NAMESPACE": "tests"}):
        assert bus().publishes
        runtime.keep_to_itself(True)
        try:
            assert not bus().publishes
            assert bus().invalidate("a").lost_because
            with override_settings(INVALIDATOR={"URL": "memory://", "NAMESPACE": "tests"}):
                assert bus().invalidate("a").accepted
        finally:
            runtime.keep_to_itself(False)


def test_what_a_transaction_publishes_again_is_deleted_from_no_shared_store() -> None:
    """Its second level has the new value already."""
    deleted: list[str] = []

    class Store:
        def is_used(self) -> bool:
            return True

        def delete(self, keys: Sequence[str]) -> None:
            deleted.extend(keys)

        def check_again(self, keys: Sequence[str], receipt: Receipt, begun: int) -> None:
            pass

        def delete_all(self) -> None:
            deleted.append("*")

    store = Store()
    runtime.add_shared_store(store)
    try:
        runtime.publish_again(["a"], ["t"], ["b"])
        assert deleted == ["a"]
        hold = bus().hold("c", "d")
        runtime.spare(hold, ["d"])
        hold.release()
        assert deleted == ["a", "c"]
    finally:
        runtime._shared_stores.remove(store)


def test_a_time_limit_in_a_shared_store_loses_nothing() -> None:
    """The key is deleted there, and published, though the exception goes on to the caller."""
    deleted: list[str] = []

    class Struck(Exception):
        """Of a task queue, such as Celery's."""

    class Store:
        strikes = True

        def is_used(self) -> bool:
            return True

        def delete(self, keys: Sequence[str]) -> None:
            if self.strikes:
                self.strikes = False
                raise Struck
            deleted.extend(keys)

        def check_again(self, keys: Sequence[str], receipt: Receipt, begun: int) -> None:
            """Nothing was stored meanwhile."""

        def delete_all(self) -> None:
            raise AssertionError("this is no clear")

    store = Store()
    runtime.add_shared_store(store)
    try:
        with pytest.raises(Struck):
            bus().invalidate("a", tags=iter(["t"]))
        assert deleted == ["a"]
        bus().invalidate_later("b")
        assert deleted == ["a", "b"]
    finally:
        runtime._shared_stores.remove(store)
    wait_until(lambda: any("a" in each.keys and "t" in each.tags for each in bus().read_journal(10)))


def test_a_wrong_setting_is_said_on_first_use() -> None:
    with override_settings(INVALIDATOR={"URL": "memory://"}), pytest.raises(ImproperlyConfigured, match="NAMESPACE"):
        bus()


def test_the_processes_of_a_project_can_start_a_server_themselves(
    namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The development setting, as `manage.py runserver` uses it; nothing of it is left at the end."""
    with tempfile.TemporaryDirectory(prefix="e") as short:
        monkeypatch.setenv("XDG_RUNTIME_DIR", short)
        with override_settings(INVALIDATOR={"URL": "embedded://", "NAMESPACE": namespace}):
            assert bus().invalidate("key").accepted
            assert default_cache().get_or_set("key", lambda: 1) == 1
            [place] = (Path(short) / "invalidator").iterdir()
            assert place.name.startswith(namespace[:20])
        wait_until(lambda: not place.exists())
