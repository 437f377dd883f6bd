"""A server process that a test tells what to do: one JSON list a line, answered by a JSON line."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any


class Node:
    """A process. What it is told to do, it has done when the call returns."""

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
        """Wait for the leases of all of them at once. Returns whether each has one."""
        nodes = tuple(nodes)
        for node in nodes:
            node.begin("lease")
        return all(node.answer() for node in nodes)

    def close(self) -> None:
        self._process.kill()
        self._process.communicate()
