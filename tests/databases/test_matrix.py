"""Which pairs of Python and Django are run."""

import os
import sys
from pathlib import Path

import pytest

from tests.databases import matrix
from tests.databases.__main__ import Outcome
from tests.databases.django_suite.__main__ import DATABASES, MODES
from tests.databases.matrix import LTS, NEWEST, Pair, candidates, pairs, pythons, version_of

HERE = sys.version_info[:2]
FOUND = {(3, 11): Path("a"), (3, 12): Path("b"), (3, 13): Path("c")}


def executable(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine with nothing on it but the Python that runs this; `bin` is its PATH."""
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("PYENV_ROOT", raising=False)
    return tmp_path


def test_a_python_is_asked_for_its_version(tmp_path: Path) -> None:
    assert version_of(Path(sys.executable)) == HERE
    assert version_of(executable(tmp_path / "python3.13", "exit 127")) is None
    assert version_of(tmp_path / "python3.14") is None


def test_path_and_both_places_of_pyenv_are_looked_at(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    on_path = executable(machine / "bin" / "python3.12", "echo 3 12")
    old = executable(machine / "bin" / "python3.9", "echo 3 9")
    at_home = executable(machine / ".pyenv" / "versions" / "3.13.0" / "bin" / "python3", "echo 3 13")
    elsewhere = executable(machine / "elsewhere" / "versions" / "3.14.1" / "bin" / "python3", "echo 3 14")
    monkeypatch.setenv("PYENV_ROOT", str(machine / "elsewhere"))
    assert list(candidates()) == [Path(sys.executable), on_path, old, elsewhere, at_home]
    assert pythons() == {HERE: Path(sys.executable), (3, 12): on_path, (3, 13): at_home, (3, 14): elsewhere} | {
        HERE: Path(sys.executable)
    }


def test_pyenv_is_asked_where_it_is(machine: Path) -> None:
    python = executable(machine / "its" / "versions" / "3.14.1" / "bin" / "python3", "echo 3 14")
    executable(machine / "bin" / "pyenv", f"echo {machine / 'its'}")
    assert pythons()[3, 14] == python


def test_all_pairs_are_each_python_with_the_lts_and_the_newest() -> None:
    assert [(pair.version, pair.django) for pair in pairs("all", FOUND, (3, 12))] == [
        (version, django) for version in FOUND for django in (LTS, NEWEST)
    ]


def test_the_ends_are_the_lts_here_and_the_newest_of_both() -> None:
    ends = [Pair((3, 12), Path("b"), LTS), Pair((3, 13), Path("c"), NEWEST)]
    assert pairs("ends", FOUND, (3, 12)) == ends
    assert pairs("newest", FOUND, (3, 12)) == ends[1:]


def test_a_pair_that_is_another_s_equal_runs_once_and_the_table_says_what_ran(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """On Python 3.11 the newest Django is the LTS."""
    newest = {(3, 11): "5.2.9", (3, 12): "6.1", (3, 13): "6.1"}
    monkeypatch.setattr(matrix, "pythons", lambda: FOUND)
    monkeypatch.setattr(
        matrix, "install", lambda pair: (pair.python, "5.2.9" if pair.django == LTS else newest[pair.version])
    )
    monkeypatch.setattr(matrix, "run", lambda database, *_: Outcome(database, "passed", 0, "7 s"))
    monkeypatch.setattr(matrix, "suite_rows", lambda *_: [])
    assert matrix.main(["sqlite"]) == 0
    table = capsys.readouterr().out.partition("database\n")[2].splitlines()
    assert [line.split() for line in table] == [
        [python, django, "sqlite", "passed", "7", "s"]
        for python, django in [
            ("3.11", "5.2.9"),
            ("3.12", "5.2.9"),
            ("3.12", "6.1"),
            ("3.13", "5.2.9"),
            ("3.13", "6.1"),
        ]
    ]


def test_each_pair_has_a_directory_of_its_own() -> None:
    directories = {pair.directory for pair in pairs("all", FOUND, HERE)}
    assert len(directories) == 6
    assert {os.path.relpath(directory.parent, matrix.ROOT) for directory in directories} == {".matrix"}


def test_django_s_own_suite_runs_on_the_ends_on_the_databases_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    ran = []

    def run_suite(python: Path, runs: list[tuple[str, str]]) -> dict[tuple[str, str], Outcome]:
        ran.append((python, runs))
        return {run: Outcome(run[0], "passed", 0) for run in runs}

    monkeypatch.setattr(matrix, "pythons", lambda: {**FOUND, HERE: Path("here")})
    monkeypatch.setattr(matrix, "install", lambda pair: (pair.python, pair.django))
    monkeypatch.setattr(matrix, "run", lambda database, *_: Outcome(database, "passed", 0))
    monkeypatch.setattr(matrix, "run_suite", run_suite)
    assert matrix.main(["sqlite"]) == 0
    newest = max({**FOUND, HERE: Path("here")}.items())[1]
    assert ran == [(Path("here"), [("sqlite", "recorded")]), (newest, [("sqlite", "installed")])]
    ran.clear()
    assert matrix.main([]) == 0
    assert [len(runs) for _, runs in ran] == [2, 2]


def test_on_each_database_the_suite_is_run_in_both_ways() -> None:
    runs = [run for runs in matrix.SUITE.values() for run in runs]
    assert sorted(runs) == sorted((database, mode) for database in DATABASES for mode in MODES)
