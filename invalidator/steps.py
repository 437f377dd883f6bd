"""
Background work, cut into steps.

A generator yields each step, takes it when it is resumed, and then yields None (unless the step failed). So whoever
drives it can stop it before a step, after it, and nowhere else. In production a thread drives it and does nothing else;
the simulation drives the same steps one by one.

The one step that a generator leaves to its driver is a `Pause`: how to wait depends on whose time it is.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import NamedTuple, Protocol

Steps = Iterator[object]


class Pause(NamedTuple):
    """Resume after so many seconds, or earlier when the event is set."""

    seconds: float
    unless: threading.Event


class Worker(Protocol):
    """Drives steps until they end."""

    @property
    def was_started(self) -> bool:
        """Whether it has begun."""

    def start(self) -> None:
        """Begin. Raises RuntimeError if there can be no further thread."""

    def join(self, timeout_s: float) -> bool:
        """
        Wait for the end, at most *timeout_s* seconds, and return whether it has come. A worker that was not started, or
        that calls this itself, is not waited for.
        """


MakeWorker = Callable[[str, Steps], Worker]
"""Of a name, for logs and debuggers, and of steps."""


class ThreadWorker:
    """A thread that takes steps. It does not keep the process alive."""

    def __init__(self, name: str, steps: Steps) -> None:
        self._thread = threading.Thread(target=take_all, args=(steps,), name=name, daemon=True)

    @property
    def was_started(self) -> bool:
        return self._thread.ident is not None

    def start(self) -> None:
        self._thread.start()

    def join(self, timeout_s: float) -> bool:
        if self.was_started and self._thread is not threading.current_thread():
            self._thread.join(timeout_s)
        return not self._thread.is_alive()


def take_all(steps: Steps) -> None:
    """Take *steps* one after the other, until they end."""
    for step in steps:
        if isinstance(step, Pause):
            step.unless.wait(step.seconds)
