"""
Run the tests on one database after the other: `make test`.

    python -m tests.databases [sqlite] [postgresql] [mariadb] [-- ARGUMENTS OF PYTEST]

On SQLite all tests run, on the others those of the Django app. The table at the end lists a database whose server was
not found, with the package to install; with `REQUIRE_DATABASES=1` (as in `.ci/run`) that is a failure.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.databases.chosen import CHOICES, VARIABLE
from tests.databases.servers import SERVERS, DatabaseServerError

ROOT = Path(__file__).resolve().parents[2]
REQUIRE = "REQUIRE_DATABASES"
ON_SERVERS = ("tests/unit/django_integration", "tests/databases", "tests/proof/values/test_values.py")
"""What runs on the servers, too: no other tests use a database of Django's."""

NO_TESTS = 5  # pytest's exit code
NO_BYTECODE = "PYTHONDONTWRITEBYTECODE"


@dataclass(frozen=True)
class Outcome:
    """The result of a run on one database."""

    database: str
    word: str
    code: int | None = None
    """The exit code of pytest; None where it did not run."""
    detail: str = ""


def missing(database: str) -> str:
    """Why tests cannot run on *database*; "" if they can."""
    if database in SERVERS:
        try:
            SERVERS[database].found()
        except DatabaseServerError as error:
            return str(error)
    return ""


def with_files(arguments: Sequence[str], files: Sequence[str]) -> list[str]:
    """pytest's *arguments*, with *files* if they name none."""
    names_some = any((ROOT / argument.split("::")[0]).exists() for argument in arguments)
    return [*arguments, *(() if names_some else files)]


def environment(database: str) -> dict[str, str]:
    """
    The environment of a run on *database*.

    Compiled modules are kept, whatever the caller's environment asks for: the tests start hundreds of processes, and
    each would compile the whole project anew.
    """
    return {name: value for name, value in os.environ.items() if name != NO_BYTECODE} | {VARIABLE: database}


def run(database: str, python: str | Path, arguments: Sequence[str], files: Sequence[str] = ()) -> Outcome:
    """Run pytest on *database*, with *files* if *arguments* name none, unless the server is missing."""
    if why := missing(database):
        return Outcome(database, "NOT RUN", detail=why)
    print(f"\n=== {database}\n", flush=True)
    began = time.monotonic()
    command = [python, "-m", "pytest", *with_files(arguments, files)]
    code = subprocess.run(command, cwd=ROOT, env=environment(database), check=False).returncode
    word = {0: "passed", NO_TESTS: "no test"}.get(code, "FAILED")
    return Outcome(database, word, code, f"{time.monotonic() - began:.0f} s")


def exit_code(outcomes: Sequence[Outcome]) -> int:
    """0 if tests ran and all of them passed, and no database is missing that is required."""
    codes = [outcome.code for outcome in outcomes if outcome.code is not None]
    if failed := [code for code in codes if code not in (0, NO_TESTS)]:
        return failed[0]
    if len(codes) < len(outcomes) and os.environ.get(REQUIRE, "0") not in ("", "0"):
        return 1
    return 0 if 0 in codes else NO_TESTS


def main(words: Sequence[str]) -> int:
    """Run the tests on each database, and print a table of the results."""
    parser = argparse.ArgumentParser(prog="python -m tests.databases", description="Run the tests on each database.")
    parser.add_argument("databases", nargs="*", metavar="|".join(CHOICES))
    split = words.index("--") if "--" in words else len(words)
    databases = parser.parse_args(words[:split]).databases or CHOICES
    if unknown := [name for name in databases if name not in CHOICES]:
        parser.error(f"{unknown[0]!r} is an unknown database; known are {', '.join(CHOICES)}")
    outcomes = [
        run(database, sys.executable, words[split + 1 :], ON_SERVERS if database in SERVERS else ())
        for database in databases
    ]
    print("\n=== tests on databases")
    for outcome in outcomes:
        print(f"{outcome.database:<11} {outcome.word:<8} {outcome.detail}")
    return exit_code(outcomes)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
