"""
The sidecar as a service: options, signals, logs, HTTP and systemd around the daemon.

SIGTERM and SIGINT end it, SIGHUP reopens its log. It is *alive* while every listener makes progress, connected or
not, and *ready* while every namespace is leased.

Rule 1: an option that cannot work is reported before anything starts: one line, and an exit code.
Rule 2: a server that is away is no failure of the sidecar. It stays alive and waits, and sends `READY=1` all the same
after `READY_AFTER_S`: a host must be able to start while Redis is down.
Rule 3: a signal handler only queues the signal; the loop acts on it between two looks.
"""

from __future__ import annotations

import contextlib
import logging
import os
import queue
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, Self

from ..config import Config
from ..errors import InvalidatorError, InvalidSetting
from ..ledger.file import default_path
from .daemon import DEFAULT_SLOTS, Health, Sidecar
from .http import HttpServer, parse_address
from .log import Log, LogFormat
from .notify import Notifier

log = logging.getLogger("invalidator.sidecar")

READY_AFTER_S = 10.0
LOOK_S = 0.25
"""How often the loop looks for changes."""
FIRST_LOOK_S = 0.02
"""The same, until it is ready for the first time."""
REPAIR_S = 1.0

SERVICE_FILES = {
    "systemd": "invalidator-sidecar.service",
    "kubernetes": "kubernetes.yaml",
    "compose": "compose.yaml",
}


class ServiceError(InvalidatorError):
    """The sidecar cannot run as it was asked to, for a reason outside of it; the message names it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """
    How to run.

    Args:
        url: of the server.
        namespaces: to serve, one ledger each.
        path: of the ledger, if there is one namespace.
        directory: of the ledgers, otherwise; None for where workers with `sidecar="auto"` look.
        slots: of each ledger, 8 bytes each.
        max_staleness: seconds; decides how often proofs are asked for. The least that a worker asks for.
        http: the address for HTTP, see `parse_address`.
        http_any: allow an address that other hosts reach.
        log_file: None for stderr.
        log_format: "text" or "json".

    Raises:
        InvalidSetting: they cannot work together.
    """

    url: str
    namespaces: Sequence[str]
    path: Path | None = None
    directory: Path | None = None
    slots: int = DEFAULT_SLOTS
    max_staleness: float = 2.0
    http: str = "off"
    http_any: bool = False
    log_file: Path | None = None
    log_format: LogFormat = "text"

    def __post_init__(self) -> None:
        if self.path is not None and self.directory is not None:
            raise InvalidSetting("path and directory name the same thing: give one of them")
        if self.path is not None and len(self.namespaces) != 1:
            raise InvalidSetting("path is one ledger, of one namespace: for several give a directory")
        if len(set(self.namespaces)) != len(self.namespaces) or not self.namespaces:
            raise InvalidSetting(f"namespaces must be one or more, each once, not {', '.join(self.namespaces)!r}")
        if self.url.startswith("memory:"):
            raise InvalidSetting("memory:// is a server in one process: no other process can use its sidecar")

    def configs(self) -> list[Config]:
        """Return one config for each namespace. Raises InvalidSetting."""
        return [
            Config(namespace=namespace, slots=self.slots, max_staleness=self.max_staleness)
            for namespace in self.namespaces
        ]

    def paths(self) -> dict[str, Path]:
        """Return the paths of the ledgers that are not at their default place, by namespace."""
        if self.path is not None:
            return {self.namespaces[0]: self.path}
        if self.directory is not None:
            return {name: self.directory / default_path(name).name for name in self.namespaces}
        return {}


class Signals:
    """The signals that a service handles, as a queue, as long as the context lasts. Main thread only."""

    NUMBERS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)

    def __init__(self) -> None:
        self._queue: queue.SimpleQueue[int] = queue.SimpleQueue()  # the one whose `put` may interrupt its `get`
        self._before: dict[int, Any] = {}

    def take(self, timeout_s: float) -> int | None:
        """Return the next signal; None if there is none within *timeout_s* seconds."""
        try:
            return self._queue.get(timeout=timeout_s)
        except queue.Empty:
            return None

    def _put(self, number: int, frame: FrameType | None) -> None:
        self._queue.put(number)

    def __enter__(self) -> Self:
        self._before = {number: signal.signal(number, self._put) for number in self.NUMBERS}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)


class Service:
    """
    Watches a running `Sidecar`, and reports its state to the log, to systemd and over HTTP.

    Args:
        sidecar: started.
        notifier: reports to systemd.
        clock: in seconds; for tests.
    """

    def __init__(self, sidecar: Sidecar, notifier: Notifier, clock: Callable[[], float] = time.monotonic) -> None:
        self._sidecar = sidecar
        self._notifier = notifier
        self._clock = clock
        self._started_at = clock()
        self._was_leased: dict[str, bool] = {}
        self._was_ready = False
        self._is_stopping = False
        self._is_announced = False
        self._reported = ""
        self._next_repair = self._started_at
        self._next_sign = self._started_at

    # Called by HTTP, from other threads.

    def is_alive(self) -> bool:
        return all(served.is_alive() for served in list(self._sidecar.served))

    def why_not_ready(self) -> list[str]:
        if self._is_stopping:
            return ["stopping"]
        return [_describe(health) for health in self.health() if not health.leased]

    def health(self) -> list[Health]:
        return [served.health() for served in list(self._sidecar.served)]

    def status(self) -> dict[str, Any]:
        return {
            "version": version("invalidator"),
            "pid": os.getpid(),
            "uptime_s": self._clock() - self._started_at,
            "alive": self.is_alive(),
            "ready": not self.why_not_ready(),
            "namespaces": [health.as_dict() for health in self.health()],
        }

    # Called by the loop.

    @property
    def look_s(self) -> float:
        """How long the loop may wait before it looks again."""
        usual = LOOK_S if self._was_ready else FIRST_LOOK_S
        return min(usual, self._sign_every_s)

    def look(self) -> None:
        """See what has changed, and report it."""
        now = self._clock()
        if now >= self._next_repair:
            self._next_repair = now + REPAIR_S
            self._sidecar.repair()
        self._look_at_leases()
        self._report_to_systemd(now)

    def stop(self) -> None:
        """Report that the service is about to end."""
        self._is_stopping = True
        self._notifier.notify(STOPPING="1", STATUS="stopping")

    def _look_at_leases(self) -> None:
        for health in self.health():
            if health.leased and not self._was_leased.get(health.namespace):
                log.info("lease held namespace=%s position=%s", health.namespace, health.position)
            elif not health.leased and self._was_leased.get(health.namespace):
                log.warning("lease lost %s", _fields(health))
            self._was_leased[health.namespace] = health.leased
        if not self._was_ready and all(self._was_leased.values()):
            self._was_ready = True
            log.info("ready namespaces=%s", ",".join(self._was_leased))

    def _report_to_systemd(self, now: float) -> None:
        status = "; ".join(self.why_not_ready()) or f"ready: {', '.join(self._was_leased)}"
        if status != self._reported:
            self._reported = status
            self._notifier.notify(STATUS=status)
        if not self._is_announced and (self._was_ready or now >= self._started_at + READY_AFTER_S):
            self._is_announced = True
            if not self._was_ready:
                log.warning("reported ready without a lease waited_s=%g", READY_AFTER_S)
            self._notifier.notify(READY="1")
        if self._notifier.watchdog_s and now >= self._next_sign and self.is_alive():
            self._next_sign = now + self._sign_every_s
            self._notifier.notify(WATCHDOG="1")

    @property
    def _sign_every_s(self) -> float:
        """A third of systemd's patience, so that two signs of life may be late."""
        return self._notifier.watchdog_s / 3 if self._notifier.watchdog_s else float("inf")


def serve(options: Options) -> None:
    """
    Run until SIGTERM or SIGINT. Call it in the main thread.

    Raises:
        InvalidSetting: an option cannot work.
        LedgerFileError: another sidecar writes one of the ledgers, or it cannot be written.
        HttpError: the address for HTTP is taken, or not allowed.
        ServiceError: the log cannot be written, or the directory does not exist.
    """
    address = parse_address(options.http, anywhere=options.http_any)
    configs, paths = options.configs(), options.paths()
    with Signals() as signals, _open_log(options) as logged:
        named = ",".join(options.namespaces)
        log.info("starting version=%s pid=%d namespaces=%s", version("invalidator"), os.getpid(), named)
        with contextlib.ExitStack() as stack:
            sidecar = Sidecar(options.url, configs, paths)
            stack.callback(sidecar.close)
            service = Service(sidecar, Notifier())
            if address is not None:
                server = stack.enter_context(HttpServer(address, service))
                log.info("http listening address=%s", server.address)
            sidecar.start()
            _run(service, signals, logged)
            service.stop()
        log.info("stopped")


def _run(service: Service, signals: Signals, logged: Log) -> None:
    while True:
        service.look()
        number = signals.take(service.look_s)
        if number == signal.SIGHUP:
            try:
                logged.reopen()
            except OSError as error:
                log.warning("log cannot be reopened error=%s", error)
            else:
                log.info("log reopened")  # its first line, if it is a file
        elif number is not None:
            log.info("stopping signal=%s", signal.Signals(number).name)
            return


def _open_log(options: Options) -> Log:
    try:
        return Log(options.log_file, options.log_format)
    except OSError as error:
        raise ServiceError(f"cannot write the log {options.log_file}: {error.strerror}") from error


def service_file(name: str) -> str:
    """Return the text of a service file to start from: "systemd", "kubernetes" or "compose"."""
    return (files(__package__) / "service_files" / SERVICE_FILES[name]).read_text(encoding="utf-8")


def _describe(health: Health) -> str:
    return f"{health.namespace}: no lease, {health.state}{f' ({health.last_error})' if health.last_error else ''}"


def _fields(health: Health) -> str:
    return f"namespace={health.namespace} state={health.state} error={health.last_error!r}"
