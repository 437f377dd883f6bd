"""What surrounds the daemon: options, and what is told when. integration/test_sidecar_process.py runs it for real."""

import logging
import os
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from invalidator.errors import InvalidSetting
from invalidator.ledger.file import default_path
from invalidator.sidecar import service as service_module
from invalidator.sidecar.daemon import Health
from invalidator.sidecar.service import READY_AFTER_S, Options, Service, Signals
from tests.unit.invalidator.sidecar.support import HEALTH


class ServedNamespace:
    def __init__(self, health: Health) -> None:
        self.now = health

    def health(self) -> Health:
        return self.now

    def is_alive(self) -> bool:
        return self.now.alive


class Sidecar:
    def __init__(self, *namespaces: str) -> None:
        self.served = [
            ServedNamespace(replace(HEALTH, namespace=name, leased=False, state="connecting")) for name in namespaces
        ]
        self.mended = 0

    def repair(self) -> None:
        self.mended += 1

    def become(self, index: int = 0, **changes: Any) -> None:
        self.served[index].now = replace(self.served[index].now, **changes)


class Systemd:
    def __init__(self, watchdog_s: float | None = None) -> None:
        self.watchdog_s = watchdog_s
        self.heard: list[tuple[str, str]] = []

    def notify(self, **variables: str) -> None:
        self.heard += variables.items()

    def count(self, name: str) -> int:
        return len([each for each, _ in self.heard if each == name])


class Time:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Time:
    return Time()


@pytest.fixture
def sidecar() -> Sidecar:
    return Sidecar("shop", "blog")


@pytest.fixture
def systemd() -> Systemd:
    return Systemd()


@pytest.fixture
def service(sidecar: Sidecar, systemd: Systemd, clock: Time) -> Service:
    return Service(sidecar, systemd, clock)  # type: ignore[arg-type]


@pytest.fixture
def said(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    with caplog.at_level(logging.INFO, logger="invalidator.sidecar"):
        yield caplog


GOOD: dict[str, Any] = {"url": "redis://localhost", "namespaces": ["shop"]}


class TestOptions:
    @pytest.mark.parametrize(
        ("wrong", "reason"),
        [
            ({"path": Path("a"), "directory": Path("b")}, "give one of them"),
            ({"path": Path("a"), "namespaces": ["shop", "blog"]}, "give a directory"),
            ({"namespaces": ["shop", "shop"]}, "each once"),
            ({"namespaces": []}, "one or more"),
            ({"url": "memory://"}, "one process"),
        ],
    )
    def test_what_cannot_work_together(self, wrong: dict[str, Any], reason: str) -> None:
        with pytest.raises(InvalidSetting, match=reason):
            Options(**{**GOOD, **wrong})

    def test_a_path_is_that_of_the_one_namespace(self) -> None:
        assert Options(**GOOD, path=Path("/run/x")).paths() == {"shop": Path("/run/x")}

    def test_in_a_directory_ledgers_are_called_as_by_default(self) -> None:
        paths = Options(**GOOD, directory=Path("/run")).paths()
        assert paths == {"shop": Path("/run") / default_path("shop").name}

    def test_otherwise_they_are_where_workers_look(self) -> None:
        assert Options(**GOOD).paths() == {}

    def test_a_config_for_each_namespace(self) -> None:
        options = Options(url="redis://localhost", namespaces=["shop", "blog"], slots=1024, max_staleness=0.5)
        assert [config.namespace for config in options.configs()] == ["shop", "blog"]
        assert {(config.slots, config.max_staleness) for config in options.configs()} == {(1024, 0.5)}


class TestReadiness:
    def test_is_told_once_when_the_last_namespace_is_leased(
        self, service: Service, sidecar: Sidecar, systemd: Systemd, said: pytest.LogCaptureFixture
    ) -> None:
        service.look()
        sidecar.become(0, leased=True)
        service.look()
        assert ("READY", "1") not in systemd.heard
        assert not any(message.startswith("ready") for message in said.messages)
        sidecar.become(1, leased=True)
        for _ in range(3):
            service.look()
        assert systemd.count("READY") == 1
        assert [message for message in said.messages if message.startswith("ready")] == ["ready namespaces=shop,blog"]

    def test_is_told_to_systemd_without_a_lease_after_a_while(
        self, service: Service, systemd: Systemd, clock: Time, said: pytest.LogCaptureFixture
    ) -> None:
        """A host must be able to start while Redis is down."""
        service.look()
        clock.now += READY_AFTER_S
        service.look()
        assert systemd.count("READY") == 1
        assert any("without a lease" in message for message in said.messages)
        assert service.why_not_ready()

    def test_the_reasons_name_the_namespace_and_the_error(self, service: Service, sidecar: Sidecar) -> None:
        sidecar.become(0, leased=True)
        sidecar.become(1, last_error="Connection refused")
        assert service.why_not_ready() == ["blog: no lease, connecting (Connection refused)"]

    def test_who_is_stopping_is_not_ready(self, service: Service, sidecar: Sidecar, systemd: Systemd) -> None:
        for index in range(2):
            sidecar.become(index, leased=True)
        service.stop()
        assert service.why_not_ready() == ["stopping"]
        assert ("STOPPING", "1") in systemd.heard

    def test_a_lease_that_is_lost_and_found_is_told_once_each(
        self, service: Service, sidecar: Sidecar, said: pytest.LogCaptureFixture
    ) -> None:
        for leased in (True, True, False, False, True):
            sidecar.become(0, leased=leased, last_error=None if leased else "cut")
            service.look()
        assert [message.split()[1] for message in said.messages if message.startswith("lease")] == [
            "held",
            "lost",
            "held",
        ]
        assert "error='cut'" in said.text

    def test_systemd_hears_a_status_only_when_it_changes(
        self, service: Service, sidecar: Sidecar, systemd: Systemd
    ) -> None:
        for _ in range(3):
            service.look()
        assert systemd.count("STATUS") == 1
        for index in range(2):
            sidecar.become(index, leased=True)
        service.look()
        assert systemd.heard[-2:] == [("STATUS", "ready: shop, blog"), ("READY", "1")]

    def test_status_has_everything(self, service: Service, clock: Time) -> None:
        clock.now += 5
        status = service.status()
        assert (status["pid"], status["uptime_s"], status["alive"], status["ready"]) == (os.getpid(), 5, True, False)
        assert [each["namespace"] for each in status["namespaces"]] == ["shop", "blog"]


class TestWatchdog:
    @pytest.fixture
    def systemd(self) -> Systemd:
        return Systemd(watchdog_s=3.0)

    def test_is_fed_three_times_in_its_time(self, service: Service, systemd: Systemd, clock: Time) -> None:
        for _ in range(12):
            service.look()
            clock.now += 0.25
        assert systemd.count("WATCHDOG") == 3
        assert service.look_s <= 1

    def test_is_fed_while_the_server_is_away(self, service: Service, sidecar: Sidecar, systemd: Systemd) -> None:
        """To restart us would not bring it back."""
        service.look()
        assert systemd.count("WATCHDOG") == 1

    def test_is_not_fed_while_a_listener_is_stuck(self, service: Service, sidecar: Sidecar, systemd: Systemd) -> None:
        sidecar.become(1, alive=False)
        service.look()
        assert not service.is_alive()
        assert systemd.count("WATCHDOG") == 0

    def test_nobody_who_does_not_wait_is_told(self, sidecar: Sidecar, clock: Time) -> None:
        systemd = Systemd(watchdog_s=None)
        Service(sidecar, systemd, clock).look()  # type: ignore[arg-type]
        assert systemd.count("WATCHDOG") == 0


def test_ledgers_are_mended_once_a_second(service: Service, sidecar: Sidecar, clock: Time) -> None:
    for _ in range(8):
        service.look()
        clock.now += service_module.REPAIR_S / 4
    assert sidecar.mended == 2


class TestSignals:
    def test_come_as_a_queue_in_their_order(self) -> None:
        with Signals() as signals:
            os.kill(os.getpid(), signal.SIGHUP)
            os.kill(os.getpid(), signal.SIGTERM)
            assert {signals.take(30), signals.take(30)} == {signal.SIGHUP, signal.SIGTERM}
            assert signals.take(0.001) is None

    def test_are_given_back(self) -> None:
        before = [signal.getsignal(number) for number in Signals.NUMBERS]
        with Signals():
            pass
        assert [signal.getsignal(number) for number in Signals.NUMBERS] == before
