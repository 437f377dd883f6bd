"""One core for what is measured, the others for all the rest, so that they do not take its time from it."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from types import TracebackType
from typing import Self

from invalidator.testing import EmbeddedServer


class Cores:
    """
    While the context lasts, *server* and this process keep off the core that is `kept`.

    Where cores cannot be chosen (not Linux, or there is only one), both sets are empty, and nobody is moved.
    """

    def __init__(self, server: EmbeddedServer) -> None:
        self._server = server
        self._all = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set()
        *others, kept = sorted(self._all) or [0]
        self.kept = frozenset({kept} if others else ())
        self.others = frozenset(others)

    def __enter__(self) -> Self:
        self._move(self.others)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.others:
            self._move(self._all)

    def _move(self, cores: frozenset[int] | set[int]) -> None:
        move(cores)
        move(cores, self._server.pid)


def move(cores: frozenset[int] | set[int], process: int | None = None) -> None:
    """Let all threads of *process*, or of ours, run on *cores* only. Does nothing if there are none."""
    if cores:
        for thread in Path(f"/proc/{process or os.getpid()}/task").iterdir():
            with contextlib.suppress(ProcessLookupError):  # it has ended
                os.sched_setaffinity(int(thread.name), cores)
