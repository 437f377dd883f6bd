"""
A mixed load on the example shop: which cached values a write voids, and how many of them it had not changed.

Each cache runs the same load in a process of its own (`voids_load.py`): the shop's reads on SQLite, through this
library, or as they are with django-cachalot beneath the ORM, which voids by table.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from .figures import Figure, Target
from .run import Run

ROOT = Path(__file__).parents[1]


def measure(run: Run) -> list[Figure]:
    """The same load twice; shares need no clock, and are the same on every machine."""
    writes = run.rounds(200, 20)
    plain, labels = _compare(writes, "plain"), _compare(writes, "labels")
    return [
        Figure("needless voids: cachalot ÷ ours", plain.ratio, "×", target=Target(7, "≥", 10)),
        *plain.figures(),
        Figure("… and with labels put on products, and renamed: cachalot ÷ ours", labels.ratio, "×"),
        *labels.figures(),
    ]


class _Comparison(NamedTuple):
    """What one load did to two caches."""

    ours: Mapping[str, int]
    cachalot: Mapping[str, int]

    @property
    def ratio(self) -> float:
        return self.cachalot["needless"] / max(1, self.ours["needless"])

    def figures(self) -> Iterator[Figure]:
        for name, counts in self._asdict().items():
            needless = counts["needless"]
            yield Figure(f"… of what a write left as it was, voided: {name}", 100 * needless / counts["unchanged"], "%")
            yield Figure(
                f"… of what was voided, needlessly: {name}", 100 * needless / (needless + counts["needed"]), "%"
            )
            yield Figure(f"… needless voids: {name}", needless, "")
        yield Figure("… needed voids, of each", self.ours["needed"], "")
        yield Figure("… reads, in between writes", self.ours["reads"], "")
        yield Figure("… writes", self.ours["writes"], "")


def _compare(writes: int, load: str) -> _Comparison:
    seen = {name: _seen_by(name, writes, load) for name in ("ours", "cachalot")}
    if any(counts["writes"] != writes or not counts["needed"] for counts in seen.values()):
        raise RuntimeError(f"the load was not what it should be: {seen}")
    if seen["ours"]["needed"] != seen["cachalot"]["needed"] or seen["ours"]["entries"] != seen["cachalot"]["entries"]:
        raise RuntimeError(f"the two did not see the same changes: {seen}")
    return _Comparison(**seen)


def _seen_by(name: str, writes: int, load: str) -> dict[str, int]:
    command = [sys.executable, "-m", "benchmarks.voids_load", str(writes), load]
    environment = {**os.environ, "VOIDS_CACHE": name}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=600, check=False)
    if done.returncode:
        raise RuntimeError(f"{name}: {done.stderr}")
    counts: dict[str, int] = json.loads(done.stdout)
    return counts
