"""What `make test` runs on which database, how it lists the others, and when it fails."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.databases import __main__ as runner
from tests.databases import servers
from tests.databases.__main__ import NO_BYTECODE, REQUIRE, Outcome, environment, exit_code, with_files
from tests.databases.chosen import VARIABLE, databases
from tests.databases.servers import SERVERS, DatabaseServer, DatabaseServerError

PASSED, FAILED, NONE = Outcome("sqlite", "", 0), Outcome("sqlite", "", 1), Outcome("sqlite", "", 5)
NOT_RUN = Outcome("mariadb", "")


def test_files_that_are_asked_for_are_run_and_no_others() -> None:
    assert with_files(["-x"], ["a", "b"]) == ["-x", "a", "b"]
    assert with_files(["tests/unit/invalidator/test_names.py::test_x"], ["a"]) == [
        "tests/unit/invalidator/test_names.py::test_x"
    ]


def test_all_tests_run_on_sqlite_and_those_of_django_on_servers(monkeypatch: pytest.MonkeyPatch) -> None:
    ran = {}

    def run(database: str, python: str, arguments: list[str], files: Sequence[str]) -> Outcome:
        ran[database] = (arguments, files)
        return PASSED

    monkeypatch.setattr(runner, "run", run)
    assert runner.main(["--", "-x"]) == 0
    on_servers = (["-x"], ("tests/unit/django_integration", "tests/databases", "tests/proof/values/test_values.py"))
    assert ran == {"sqlite": (["-x"], ()), "postgresql": on_servers, "mariadb": on_servers}


@pytest.mark.parametrize(
    ("outcomes", "required", "code"),
    [
        ([PASSED, PASSED], "1", 0),
        ([PASSED, FAILED, PASSED], "0", 1),
        ([PASSED, NOT_RUN], "0", 0),
        ([PASSED, NOT_RUN], "", 0),
        ([PASSED, NOT_RUN], "1", 1),
        ([PASSED, NONE], "1", 0),
        ([NONE, NONE], "0", 5),
        ([NOT_RUN], "0", 5),
    ],
)
def test_it_fails_if_one_failed_or_none_ran_or_one_is_missing_that_must_not(
    outcomes: list[Outcome], required: str, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(REQUIRE, required)
    assert exit_code(outcomes) == code


def test_what_did_not_run_is_listed_with_the_package_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv(REQUIRE, raising=False)
    monkeypatch.setattr("tests.databases.servers._on_path", lambda *commands: None)
    assert runner.main(["mariadb"]) == 5
    line = capsys.readouterr().out.splitlines()[-1]
    assert line.startswith("mariadb     NOT RUN")
    assert "install Debian's package mariadb-server" in line


def test_the_environment_names_the_database_and_keeps_compiled_modules(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(NO_BYTECODE, "1")
    monkeypatch.setenv("OTHER", "kept")
    found = environment("mariadb")
    assert (found[VARIABLE], found["OTHER"], NO_BYTECODE in found) == ("mariadb", "kept", False)


def test_an_unknown_database_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        runner.main(["oracle", "--", "-x"])
    assert "'oracle' is an unknown database; known are sqlite, postgresql, mariadb" in capsys.readouterr().err


@pytest.mark.parametrize("kind", SERVERS.values(), ids=SERVERS)
def test_a_missing_server_is_an_error_that_names_the_package(
    kind: type[DatabaseServer], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(servers, "_on_path", lambda *commands: None)
    monkeypatch.setattr(servers, "DEBIAN_POSTGRESQL", tmp_path)
    with pytest.raises(DatabaseServerError, match=f"install Debian's package {kind.package}"):
        kind().start()


def test_settings_of_an_unknown_database_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "oracle")
    with pytest.raises(ValueError, match="'oracle' is not one of sqlite, postgresql, mariadb"):
        databases("default")
