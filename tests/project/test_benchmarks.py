"""The benchmarks run, and say what they saw. No figure is asserted: a slow machine is no failure."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.figures import Figure, Outcome, Target
from benchmarks.report import BEGIN, END, as_markdown, write_readme
from benchmarks.table import BENCHMARKS

ROOT = Path(__file__).parents[2]


def test_one_benchmark_runs_and_writes_json(tmp_path: Path) -> None:
    """What `make bench ARGS="survivors --quick --json …"` does, as its own process."""
    file = tmp_path / "figures.json"
    command = [sys.executable, "-m", "benchmarks", "survivors", "--quick", "--json", str(file)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert "still served" in done.stdout
    (benchmark,) = json.loads(file.read_text())["benchmarks"]
    assert benchmark["name"] == "survivors"
    assert any(figure["target"] for figure in benchmark["figures"])


def test_an_unknown_benchmark_is_refused_with_the_known_ones() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", "nonesuch"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert all(benchmark.name in done.stderr for benchmark in BENCHMARKS)


@pytest.mark.parametrize(("value", "verdict"), [(1.5, "met"), (1.504, "MISSED")])
def test_a_missed_target_stays_missed(value: float, verdict: str) -> None:
    """Though it rounds to the target."""
    outcome = Outcome("x", "X", [Figure("ratio", value, "×", target=Target(3, "≤", 1.5))], 1.0)
    assert f"| {verdict} |" in as_markdown({}, [outcome])


def test_the_readme_keeps_what_is_around_the_figures(tmp_path: Path) -> None:
    readme = tmp_path / "README.md"
    readme.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    write_readme("new", readme)
    assert readme.read_text() == f"before\n{BEGIN}\n\nnew\n\n{END}\nafter\n"
