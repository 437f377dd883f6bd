"""A server process that carries out a test's commands: one JSON list a line, each answered by a JSON line."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any


class Node:
    """A process. A call sends a command and returns the answer; `begin` and `answer` are its two halves."""

    def __init__(self, script: Path, *arguments: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, script, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def begin(self, *what: Any) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(what) + "\n")
        self._process.stdin.flush()

    def answer(self) -> Any:
        assert self._process.stdout is not None
        return json.loads(self._process.stdout.readline())

    def __call__(self, *what: Any) -> Any:
        self.begin(*what)
        return self.answer()

    @staticmethod
    def all_leased(nodes: Iterable[Node]) -> bool:
        """Wait until all *nodes* have a lease, in parallel. Returns whether each has one."""
        nodes = tuple(nodes)
        for node in nodes:
            node.begin("lease")
        return all(node.answer() for node in nodes)

    def close(self) -> None:
        self._process.kill()
        self._process.communicate()
