"""The daemon in this process, on a server in this process; integration/test_sidecar_process.py runs the real thing."""

import logging
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from invalidator import Invalidator, InvalidSetting, NearCache
from invalidator.config import Config
from invalidator.errors import LedgerFileError
from invalidator.ledger import Ledger
from invalidator.sidecar import daemon
from invalidator.sidecar.daemon import ServedNamespace, Sidecar, identity, read_journal

URL = "memory://sidecar"
PATIENCE_S = 30.0


@pytest.fixture
def paths(tmp_path: Path) -> dict[str, Path]:
    return {name: tmp_path / f"{name}.ledger" for name in ("shop", "blog")}


@pytest.fixture
def configs() -> list[Config]:
    return [Config(namespace=name, slots=1024) for name in ("shop", "blog")]


@pytest.fixture
def sidecar(configs: list[Config], paths: dict[str, Path]) -> Iterator[Sidecar]:
    with Sidecar(URL, configs, paths) as sidecar:
        for namespace in sidecar.served:
            assert namespace.wait_until_leased(PATIENCE_S)
        yield sidecar


def test_each_namespace_has_a_ledger_of_its_own(sidecar: Sidecar, paths: dict[str, Path]) -> None:
    assert sidecar.is_ready()
    with (
        Invalidator(URL, namespace="shop", sidecar=paths["shop"]) as shop,
        Invalidator(URL, namespace="blog", sidecar=paths["blog"]) as blog,
    ):
        cache = NearCache(blog)
        cache.set("page:1", "old")
        shop.clear()
        assert cache.get("page:1") == "old"


def test_health_is_json_and_counts(sidecar: Sidecar, paths: dict[str, Path]) -> None:
    namespace = sidecar.served[0]
    with Invalidator(URL, namespace="shop", sidecar=paths["shop"]) as bus:
        id = bus.invalidate("a", "b", tags=["c"]).id
    health = namespace.health()
    assert (health.names, health.position) == (3, id)
    assert (health.alive, health.leased, health.state, health.last_error) == (True, True, "live", None)
    assert health.as_dict()["slots"] == 1024


def test_a_listener_that_is_stuck_is_not_alive(sidecar: Sidecar, monkeypatch: pytest.MonkeyPatch) -> None:
    namespace = sidecar.served[0]
    assert namespace.is_alive()
    monkeypatch.setattr(daemon, "now_ns", lambda: namespace._listener.turned_at + daemon.STUCK_AFTER_NS)
    assert not namespace.is_alive()


def test_a_listener_whose_thread_has_ended_is_not_alive(sidecar: Sidecar) -> None:
    """Nothing but a new process starts another: whoever watches `/livez` has to see it at once."""
    namespace = sidecar.served[0]
    assert namespace.is_alive()
    namespace._listener.close(PATIENCE_S)
    assert not namespace.is_alive()


def test_a_ledger_stays_locked_as_long_as_its_listener_may_write(paths: dict[str, Path]) -> None:
    config = Config(namespace="shop", slots=1024, close_timeout=0)
    namespace = ServedNamespace(URL, config, paths["shop"])
    stuck, go_on = threading.Event(), threading.Event()
    namespace.invalidated = lambda *_: stuck.set() or go_on.wait(PATIENCE_S)  # type: ignore[method-assign]
    namespace.start()
    assert namespace.wait_until_leased(PATIENCE_S)
    with Invalidator(URL, namespace="shop") as bus:
        bus.invalidate("a")
    assert stuck.wait(PATIENCE_S)
    namespace.close()
    with pytest.raises(LedgerFileError, match="another sidecar"):
        ServedNamespace(URL, config, paths["shop"])
    go_on.set()
    namespace._listener.close(PATIENCE_S)
    namespace.close()
    ServedNamespace(URL, config, paths["shop"]).close()


def test_a_ledger_that_was_taken_away_is_put_back(sidecar: Sidecar, paths: dict[str, Path]) -> None:
    untouched = sidecar.served[1]
    before = identity(paths["shop"])
    paths["shop"].unlink()
    sidecar.repair()
    assert identity(paths["shop"]) not in (None, before)
    assert sidecar.served[0].wait_until_leased(PATIENCE_S)
    assert sidecar.served[1] is untouched


def test_what_cannot_be_put_back_is_told_once_and_tried_again(
    sidecar: Sidecar, paths: dict[str, Path], caplog: pytest.LogCaptureFixture
) -> None:
    paths["shop"].unlink()
    paths["shop"].mkdir()
    with caplog.at_level(logging.WARNING, logger="invalidator.sidecar"):
        for _ in range(3):
            sidecar.repair()
    assert len([record for record in caplog.records if "ledger lost" in record.getMessage()]) == 1
    assert "cannot create a ledger" in (sidecar.served[0].health().last_error or "")
    paths["shop"].rmdir()
    sidecar.repair()
    assert sidecar.served[0].wait_until_leased(PATIENCE_S)
    assert sidecar.served[0].health().last_error is None


def test_nothing_is_repaired_while_all_is_in_place(sidecar: Sidecar) -> None:
    before = list(sidecar.served)
    sidecar.repair()
    assert sidecar.served == before


def test_one_that_cannot_start_lets_go_of_all(configs: list[Config], paths: dict[str, Path]) -> None:
    """The second namespace is another sidecar's: the first ledger must be free again."""
    threads = threading.active_count()
    with Sidecar(URL, configs[1:], paths):
        with pytest.raises(LedgerFileError, match="another sidecar"):
            Sidecar(URL, configs, paths)
        with Sidecar(URL, configs[:1], paths):
            pass
    assert threading.active_count() == threads


def test_a_url_that_cannot_work_leaves_no_file(configs: list[Config], paths: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(InvalidSetting):
        Sidecar("http://nowhere", configs, paths)
    assert list(tmp_path.iterdir()) == []


def test_closing_twice_is_closing(configs: list[Config], paths: dict[str, Path]) -> None:
    sidecar = Sidecar(URL, configs, paths)
    sidecar.start()
    sidecar.close()
    sidecar.close()


def test_a_restart_goes_on_from_the_position_in_the_file(configs: list[Config], paths: dict[str, Path]) -> None:
    with Sidecar(URL, configs, paths) as first:
        assert first.served[0].wait_until_leased(PATIENCE_S)
    with Invalidator(URL, namespace="shop") as elsewhere:
        id = elsewhere.invalidate("product:42").id
    with Sidecar(URL, configs, paths) as second:
        assert second.served[0].wait_until_leased(PATIENCE_S)
        health = second.served[0].health()
    assert (health.position, health.flushes, health.replays) == (id, 0, 1)


def test_a_new_ledger_has_no_journal() -> None:
    ledger = Ledger.private(slots=64, namespace="shop")
    assert read_journal(ledger) is None
    ledger.move((7, 1), 2, 3)
    journal = read_journal(ledger)
    assert journal is not None
    assert (journal.position, journal.server, journal.epoch) == ("7-1", 2, 3)
