"""
What systemd wants to know of a service with `Type=notify` (sd_notify(3)), without a library.

Rule 1: nothing here can fail or wait: who does not run under systemd says nothing to nobody.
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
        """Within how many seconds each sign of life has to follow the last; None if nobody waits for them."""

    def say(self, **variables: str) -> None:
        """Tell systemd, in one piece: `say(READY="1", STATUS="…")`."""
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
