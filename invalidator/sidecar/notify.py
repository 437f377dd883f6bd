"""
Reports to systemd for a service with `Type=notify` (sd_notify(3)), without a library.

Rule: nothing here can fail or wait. A process that does not run under systemd reports nothing.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Mapping


class Notifier:
    """
    The socket that systemd names in the environment, if it does.

    Args:
        environment: of this process.
    """

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        address = environment.get("NOTIFY_SOCKET", "")
        self._address = "\0" + address[1:] if address.startswith("@") else address  # "@": Linux' abstract names
        self.watchdog_s = _watchdog_s(environment)
        """Seconds within which each sign of life has to follow the last; None if systemd does not wait for them."""

    def notify(self, **variables: str) -> None:
        """Send these variables in one piece, such as `notify(READY="1", STATUS="…")`."""
        if not self._address:
            return
        text = "\n".join(f"{name}={' '.join(value.split())}" for name, value in variables.items())
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as connection:
            connection.setblocking(False)
            connection.sendto(text.encode(errors="replace"), self._address)


def _watchdog_s(environment: Mapping[str, str]) -> float | None:
    usec, pid = environment.get("WATCHDOG_USEC", ""), environment.get("WATCHDOG_PID", "")
    if not usec.isdecimal() or int(usec) == 0 or pid not in ("", str(os.getpid())):
        return None
    return int(usec) / 1e6
