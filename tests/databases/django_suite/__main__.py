"""
Run Django's own test suite with this app installed, on this Python and its Django: `make matrix-django`.

    python -m tests.databases.django_suite [--labels A B | --all] [--on sqlite] [--modes recorded] [--python PATH]

`installed` runs each test as it is; `recorded` makes it a loader of the default cache, so that all that it reads is
recorded, as in a cached function. Tests that fail are run once more without the app: what fails there, too, is no
difference. The differences that are meant to be are listed in `what.py`.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.databases.__main__ import ROOT, Outcome, environment, exit_code, missing
from tests.databases.servers import SERVERS, PostgreSQL
from tests.peers.sdists import unpacked

from .what import DIFFERENCES, USUAL, all_labels

RUN = Path(__file__).with_name("run.py")
SDISTS = ROOT / ".matrix" / "sdists"
DATABASES = ("sqlite", "postgresql")
MODES = ("installed", "recorded")
WHAT_IT_DOES = "Run Django's own test suite with this app installed."
AT_ONCE = 2
"""Runs at a time."""

Results = dict[str, tuple[str, str]]
"""By test, its outcome and why."""


@dataclass(frozen=True)
class Suite:
    """Django's tests, and the Python that has the Django to be tested."""

    python: Path
    tests: Path

    def run(self, mode: str, databases: dict[str, Any], labels: Sequence[str]) -> Results:
        """
        Run *labels* in a process of their own.

        Raises:
            RuntimeError: it ended without results; the message is what it printed.
        """
        with tempfile.TemporaryDirectory() as work:
            results = Path(work) / "results.json"
            what = {"tests": str(self.tests), "databases": databases, "labels": labels, "mode": mode}
            ran = subprocess.run(
                [self.python, RUN, json.dumps({**what, "results": str(results)})],
                capture_output=True,
                check=False,
                env=environment("sqlite"),
                text=True,
            )
            if not results.exists():
                raise RuntimeError(f"Django's suite ended with {ran.returncode}:\n{ran.stdout}\n{ran.stderr}")
            found: Results = json.loads(results.read_text())
            return found


def suite_of(python: Path) -> Suite:
    """The suite of the Django that *python* has; its source distribution is downloaded the first time."""
    asked = [python, "-c", "import django; print(django.__version__)"]
    version = subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip()
    return Suite(python, unpacked(SDISTS, "django", version, part="/tests/", python=python) / "tests")


def failed(results: Results) -> list[str]:
    """The tests that failed."""
    return [test for test, (outcome, _) in results.items() if outcome == "failed"]


def label_of(test: str) -> str:
    """What Django's runner takes for *test*, which may be "setUpClass (a.tests.B)"."""
    inside = re.search(r"\(([\w.]+)\)", test)
    return inside[1] if inside else test


def compare(suite: Suite, mode: str, databases: dict[str, Any], labels: Sequence[str]) -> tuple[Results, list[str]]:
    """Run *labels*. Returns the results, and what is wrong, in words: differences that `what.py` does not list."""
    results = suite.run(mode, databases, labels)
    suspects = [test for test in failed(results) if test not in DIFFERENCES]
    as_ever = set(failed(suite.run("plain", databases, list(map(label_of, suspects))))) if suspects else set[str]()
    wrong = [f"{test}\n{results[test][1]}" for test in suspects if test not in as_ever]
    wrong += [
        f"{test} is listed as a difference, and passes"
        for test in DIFFERENCES
        if results.get(test, ("", ""))[0] in ("passed", "better")
    ]
    return results, wrong


def places(database: str, mode: str, server: PostgreSQL | None) -> dict[str, Any]:
    """Django's DATABASES for one run."""
    if server is None:
        return {alias: {"ENGINE": "django.db.backends.sqlite3"} for alias in ("default", "other")}
    return {alias: server.django_settings(f"suite_{mode}_{alias}") for alias in ("default", "other")}


def run_suite(
    python: Path, runs: Iterable[tuple[str, str]], labels: Sequence[str] | None = USUAL
) -> dict[tuple[str, str], Outcome]:
    """
    Run *labels* (None: all) for each pair of a database and a mode, some at a time, and print what is wrong.

    Returns the outcomes by pair.
    """
    suite = suite_of(python)
    chosen = list(all_labels(suite.tests)) if labels is None else list(labels)

    def one(database: str, mode: str, server: PostgreSQL | None) -> Outcome:
        began = time.monotonic()
        results, wrong = compare(suite, mode, places(database, mode, server), chosen)
        seconds = time.monotonic() - began
        for words in wrong:
            print(f"\n=== Django's suite, {mode}, on {database}: {words}", flush=True)
        ran = sum(outcome != "skipped" for outcome, _ in results.values())
        detail = f"{seconds:.0f} s, {ran} of Django's tests, {mode}" + (f", {len(wrong)} wrong" if wrong else "")
        return Outcome(database, "FAILED" if wrong else "passed", bool(wrong), detail)

    with ExitStack() as stack:
        pool = stack.enter_context(ThreadPoolExecutor(AT_ONCE))
        server: PostgreSQL | None = None
        pending = {}
        for database, mode in runs:
            if why := missing(database):
                pending[database, mode] = pool.submit(Outcome, database, "NOT RUN", None, why)
                continue
            if database in SERVERS and server is None:
                server = stack.enter_context(PostgreSQL())
            pending[database, mode] = pool.submit(one, database, mode, server if database in SERVERS else None)
        return {run: future.result() for run, future in pending.items()}


def main(words: Sequence[str]) -> int:
    """Run it, and print a table."""
    parser = argparse.ArgumentParser(prog="python -m tests.databases.django_suite", description=WHAT_IT_DOES)
    parser.add_argument("--labels", nargs="+", default=USUAL, help="as Django's runtests.py takes them")
    parser.add_argument("--all", action="store_true", help="everything that has to do with models")
    parser.add_argument("--modes", nargs="+", choices=MODES, default=MODES)
    parser.add_argument("--python", type=Path, default=Path(sys.executable), help="one with another Django")
    parser.add_argument("--on", nargs="+", choices=DATABASES, default=DATABASES)
    given = parser.parse_args(words)
    runs = [(database, mode) for database in given.on for mode in given.modes]
    outcomes = run_suite(given.python.absolute(), runs, None if given.all else given.labels)
    for outcome in outcomes.values():
        print(f"{outcome.database:<11} {outcome.word:<8} {outcome.detail}")
    return exit_code(list(outcomes.values()))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
