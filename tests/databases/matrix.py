"""
Run the tests of the Django app on every pair of Python and Django: `make matrix`.

    python -m tests.databases.matrix [--pairs all|ends|newest] [sqlite] [postgresql] [mariadb] [-- ARGUMENTS OF PYTEST]

`all` is each Python from 3.11 on, with Django's LTS and with the newest Django that runs on it. `ends` is the running
Python with the LTS, and the newest Python with the newest Django; `newest` is the latter alone. Each pair has a virtual
environment of its own in `.matrix/`, which is kept. The tests are sync and async both. On the `ends`, Django's own test
suite is run with this app installed (`django_suite/`), as far as SQLite and PostgreSQL are among the databases. The
table at the end lists what ran, with the results.

Pythons are found on PATH and among pyenv's versions (`PYENV_ROOT`, or `.pyenv` in the home directory).
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.databases.__main__ import ROOT, Outcome, exit_code, run
from tests.databases.chosen import CHOICES
from tests.databases.django_suite.__main__ import run_suite

PLACE = ROOT / ".matrix"
OLDEST = (3, 11)
LTS = "5.2"
NEWEST = "newest"
DJANGO = {LTS: f"Django~={LTS}.0", NEWEST: "Django"}
TESTS = ("tests/unit/django_integration", "tests/databases", "tests/peers/test_django_suite.py")

SUITE = {
    LTS: (("sqlite", "recorded"), ("postgresql", "installed")),
    NEWEST: (("postgresql", "recorded"), ("sqlite", "installed")),
}
"""By Django, on which database its own suite is run and how. `make matrix-django` runs it in each way."""

Version = tuple[int, int]


@dataclass(frozen=True)
class Pair:
    """A Python, and the Django to install (a key of `DJANGO`)."""

    version: Version
    python: Path
    django: str

    @property
    def directory(self) -> Path:
        """Its virtual environment."""
        return PLACE / f"python{self.version[0]}.{self.version[1]}-django-{self.django}"


def version_of(python: Path) -> Version | None:
    """The version of *python*; None if it does not run, such as pyenv's shim for a version that is not active."""
    code = "import sys, venv, ensurepip; print(*sys.version_info[:2])"
    try:
        asked = subprocess.run([python, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    major, minor = asked.stdout.split()
    return int(major), int(minor)


def candidates() -> Iterable[Path]:
    """Files that may be Pythons: the running one, those on PATH, pyenv's with the newest first."""
    yield Path(sys.executable)
    for directory in map(Path, os.environ.get("PATH", os.defpath).split(os.pathsep)):
        if directory.is_dir():
            yield from sorted(path for path in directory.iterdir() if re.fullmatch(r"python3\.\d+", path.name))
    if pyenv := shutil.which("pyenv"):
        asked = subprocess.run([pyenv, "root"], capture_output=True, text=True, check=False)
        roots = [asked.stdout.strip()]
    else:
        roots = []
    roots += [os.environ.get("PYENV_ROOT", ""), str(Path.home() / ".pyenv")]
    for root in filter(None, roots):
        yield from sorted(Path(root, "versions").glob("3.*/bin/python3"), reverse=True)


def pythons() -> dict[Version, Path]:
    """One Python of each version that we support, oldest first."""
    found: dict[Version, Path] = {}
    for candidate in candidates():
        version = version_of(candidate)
        if version and version >= OLDEST:
            found.setdefault(version, candidate)
    return dict(sorted(found.items()))


def pairs(which: str, found: dict[Version, Path], running: Version) -> list[Pair]:
    """The pairs to run. Two pairs may turn out equal, where the newest Django for a Python is the LTS."""
    if which == "all":
        return [Pair(version, python, django) for version, python in found.items() for django in DJANGO]
    newest = max(found)
    ends = [Pair(running, found[running], LTS), Pair(newest, found[newest], NEWEST)]
    return ends if which == "ends" else ends[1:]


def suite_rows(pair: Pair, python: Path, databases: Sequence[str]) -> list[Outcome]:
    """Run Django's own suite on *pair*, where it is to be run."""
    runs = [(database, mode) for database, mode in SUITE[pair.django] if database in databases]
    return list(run_suite(python, runs).values())


def install(pair: Pair) -> tuple[Path, str]:
    """Make or refresh the virtual environment of *pair*. Returns its Python and its version of Django."""
    python = pair.directory / "bin" / "python"
    if not python.exists():
        subprocess.run([pair.python, "-m", "venv", "--clear", pair.directory], check=True)
    pip = [python, "-m", "pip", "--disable-pip-version-check", "install", "--quiet", "--upgrade"]
    subprocess.run([*pip, "pip>=25.1"], check=True)  # the first that knows --group
    subprocess.run(
        [*pip, "--editable", ".[cli,django,embedded,prometheus]", "--group", "matrix", DJANGO[pair.django]],
        cwd=ROOT,
        check=True,
    )
    printed = subprocess.run(
        [python, "-c", "import django; print(django.__version__)"], capture_output=True, text=True, check=True
    )
    return python, printed.stdout.strip()


def main(words: Sequence[str]) -> int:
    """Run the tests on each pair and database, and print a table of the results."""
    parser = argparse.ArgumentParser(prog="python -m tests.databases.matrix")
    parser.add_argument("--pairs", choices=["all", "ends", "newest"], default="all")
    parser.add_argument("databases", nargs="*", metavar="|".join(CHOICES))
    split = words.index("--") if "--" in words else len(words)
    arguments = parser.parse_args(words[:split])
    rows: list[tuple[str, str, Outcome]] = []
    done: set[tuple[Version, str]] = set()
    found, databases = pythons(), arguments.databases or CHOICES
    ends = pairs("ends", found, sys.version_info[:2])
    for pair in pairs(arguments.pairs, found, sys.version_info[:2]):
        python, django = install(pair)
        if (pair.version, django) in done:
            continue
        done.add((pair.version, django))
        name = f"{pair.version[0]}.{pair.version[1]}"
        print(f"\n=== Python {name}, Django {django}", flush=True)
        rows += [(name, django, run(database, python, words[split + 1 :], TESTS)) for database in databases]
        if pair in ends:
            rows += [(name, django, outcome) for outcome in suite_rows(pair, python, databases)]
    print(f"\n{'Python':<8} {'Django':<8} database")
    for name, django, outcome in rows:
        print(f"{name:<8} {django:<8} {outcome.database:<11} {outcome.word:<8} {outcome.detail}")
    return exit_code([outcome for *_, outcome in rows])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
