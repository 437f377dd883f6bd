"""sd_notify, to a real datagram socket as systemd's."""

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from invalidator.sidecar.notify import Notifier


@pytest.fixture
def systemd(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(str(tmp_path / "notify"))
        receiver.settimeout(30)
        yield receiver


def test_says_everything_in_one_datagram(systemd: socket.socket) -> None:
    Notifier({"NOTIFY_SOCKET": systemd.getsockname()}).notify(READY="1", STATUS="ready: shop")
    assert systemd.recv(4096) == b"READY=1\nSTATUS=ready: shop"


def test_a_value_cannot_smuggle_in_a_variable(systemd: socket.socket) -> None:
    """A status holds what a server said."""
    Notifier({"NOTIFY_SOCKET": systemd.getsockname()}).notify(STATUS="no lease\nMAINPID=1")
    assert systemd.recv(4096) == b"STATUS=no lease MAINPID=1"


def test_an_abstract_socket_is_written_with_an_at_sign() -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind("")  # Linux chooses an abstract name
        receiver.settimeout(30)
        name = receiver.getsockname()[1:].decode()
        Notifier({"NOTIFY_SOCKET": f"@{name}"}).notify(READY="1")
        assert receiver.recv(4096) == b"READY=1"


def test_nobody_listening_is_no_error(tmp_path: Path) -> None:
    Notifier({}).notify(READY="1")
    Notifier({"NOTIFY_SOCKET": str(tmp_path / "gone")}).notify(READY="1")


def test_a_full_socket_does_not_hold_us_up(systemd: socket.socket) -> None:
    notifier = Notifier({"NOTIFY_SOCKET": systemd.getsockname()})
    for _ in range(10_000):
        notifier.notify(WATCHDOG="1")
    assert systemd.recv(4096) == b"WATCHDOG=1"


@pytest.mark.parametrize(
    ("environment", "watchdog_s"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "30000000"}, 30.0),
        ({"WATCHDOG_USEC": "500000", "WATCHDOG_PID": str(os.getpid())}, 0.5),
        ({"WATCHDOG_USEC": "500000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
    ],
)
def test_a_watchdog_is_ours_only_if_it_says_so(environment: dict[str, str], watchdog_s: float | None) -> None:
    assert Notifier(environment).watchdog_s == watchdog_s
