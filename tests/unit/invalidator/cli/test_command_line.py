"""The command line without a server: arguments and errors. tests/integration/test_cli.py runs the real thing."""

import argparse
import json
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import pytest

from invalidator import Invalidator, cli

MEMORY = ["--url", "memory://", "--namespace", "shop"]


@pytest.fixture(autouse=True)
def _bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(cli.URL_VARIABLE, raising=False)
    monkeypatch.delenv(cli.NAMESPACE_VARIABLE, raising=False)


@pytest.fixture
def bus() -> Iterator[Invalidator]:
    """Somebody else in the namespace of `MEMORY`."""
    with Invalidator("memory://", namespace="shop") as bus:
        yield bus


def fail(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    """Run what must fail; return its exit code and the one line it says."""
    code = cli.main(arguments)
    said = capsys.readouterr()
    assert said.out == ""
    (line,) = said.err.splitlines()
    return code, line


class TestArguments:
    def test_version(self, capsys: pytest.CaptureFixture[str]) -> None:
        with pytest.raises(SystemExit) as end:
            cli.main(["--version"])
        assert end.value.code == 0
        assert capsys.readouterr().out == f"invalidator {version('invalidator')}\n"

    @pytest.mark.parametrize("arguments", [[], ["wach"], ["watch", "--count", "0"], ["watch", "--count", "a"]])
    def test_bad_usage_is_2(self, arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
        with pytest.raises(SystemExit) as end:
            cli.main([*MEMORY, *arguments])
        assert end.value.code == 2
        assert "usage: invalidator" in capsys.readouterr().err

    def test_everything_that_is_missing_is_named_with_both_ways_to_give_it(
        self, capsys: pytest.CaptureFixture[str]
    ) -> None:
        code, line = fail(capsys, "invalidate", "product:42")
        assert code == 2
        for way in ("--url", "INVALIDATOR_URL", "--namespace", "INVALIDATOR_NAMESPACE"):
            assert way in line

    def test_what_is_given_is_not_called_missing(self, capsys: pytest.CaptureFixture[str]) -> None:
        _, line = fail(capsys, "--url", "memory://", "watch")
        assert "--namespace" in line
        assert "--url" not in line

    def test_the_environment_names_the_place(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv(cli.URL_VARIABLE, "memory://")
        monkeypatch.setenv(cli.NAMESPACE_VARIABLE, "shop")
        assert cli.main(["invalidate", "product:42"]) == 0

    def test_an_empty_variable_is_none(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """`INVALIDATOR_URL= invalidator …` is how a shell unsets it for one command."""
        monkeypatch.setenv(cli.URL_VARIABLE, "")
        assert "no url" in fail(capsys, "--namespace", "shop", "watch")[1]

    @pytest.mark.parametrize(
        "arguments",
        [["--namespace", "given", "invalidate", "a"], ["invalidate", "a", "--namespace", "given"]],
        ids=["before the subcommand", "after it"],
    )
    def test_an_option_wins_over_what_the_caller_brings_over_the_environment(
        self, arguments: list[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """`manage.py invalidator` brings the project's settings: they hold there, and a person may still differ."""
        monkeypatch.setenv(cli.URL_VARIABLE, "memory://environment")
        parser = argparse.ArgumentParser()
        cli.add_arguments(parser, url="memory://settings", namespace="settings")
        options = parser.parse_args(arguments)
        assert (options.url, options.namespace) == ("memory://settings", "given")

    def test_help_keeps_the_password(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        monkeypatch.setenv(cli.URL_VARIABLE, "redis://:hunter2@localhost")
        with pytest.raises(SystemExit):
            cli.main(["watch", "--help"])
        assert "hunter2" not in capsys.readouterr().out


class TestInvalidate:
    def test_says_what_was_accepted(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert cli.main([*MEMORY, "invalidate", "product:42", "product:43", "--tag", "prices"]) == 0
        words = capsys.readouterr().out.rstrip("\n").split("  ")
        assert words[:4] == ["accepted", "keys product:42 product:43", "tags prices", "listeners 0"]
        assert words[4].startswith("id ")

    def test_as_json(self, bus: Invalidator, capsys: pytest.CaptureFixture[str]) -> None:
        assert bus.wait_until_leased(timeout=60)
        assert cli.main([*MEMORY, "invalidate", "--tag", "prices", "--tag", "stock", "--json"]) == 0
        said = json.loads(capsys.readouterr().out)
        assert said.pop("id")
        assert said == {"accepted": True, "clear": False, "keys": [], "tags": ["prices", "stock"], "listeners": 1}

    def test_a_key_may_be_an_option(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert cli.main([*MEMORY, "invalidate", "a", "--key", "b"]) == 0
        assert "keys a b" in capsys.readouterr().out

    def test_a_project_reads_targets_in_its_own_way(self, capsys: pytest.CaptureFixture[str]) -> None:
        class Loud(cli.Project):
            metavar = "WORD"
            help = "a word"

            def invalidate(self, options: argparse.Namespace) -> cli.Published:
                return cli.Published([target.upper() for target in options.targets], [], False, None)

        parser = argparse.ArgumentParser()
        cli.add_arguments(parser, url=None, namespace=None, project=Loud())
        assert cli.run(parser.parse_args(["invalidate", "a"])) == 0
        assert capsys.readouterr().out == "leaves after the commit  keys A\n"
        with pytest.raises(SystemExit):
            parser.parse_args(["invalidate", "--help"])
        assert "a word; it became stale" in capsys.readouterr().out

    def test_clears_when_it_is_meant(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert cli.main([*MEMORY, "invalidate", "--clear", "--yes"]) == 0
        assert capsys.readouterr().out.startswith("accepted  clear  listeners 0  id ")

    @pytest.mark.parametrize(
        ("arguments", "what_would_be_right"),
        [
            ([], "--tag"),
            (["--yes"], "--clear --yes"),
            (["--clear"], "--yes"),
            (["--all"], "--yes"),
            (["--clear", "--yes", "product:42"], "no keys or tags"),
            (["--clear", "--yes", "--key", "product:42"], "no keys or tags"),
            ([""], "a key must not be empty"),
            (["a", "--tag", ""], "a tag must not be empty"),
            (["k" * 513], "512 bytes"),
            (["\udcff"], "valid Unicode"),
        ],
    )
    def test_misuse_is_2_and_one_line(
        self, arguments: list[str], what_would_be_right: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        code, line = fail(capsys, *MEMORY, "invalidate", *arguments)
        assert code == 2
        assert what_would_be_right in line

    @pytest.mark.parametrize(
        ("url", "namespace"), [("http://localhost", "shop"), ("redis://localhost:x", "shop"), ("memory://", "my shop")]
    )
    def test_a_place_that_cannot_be_is_2_and_one_line(
        self, url: str, namespace: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        code, _ = fail(capsys, "--url", url, "--namespace", namespace, "invalidate", "product:42")
        assert code == 2

    def test_ctrl_c_is_no_traceback(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def interrupted(*_: object, **__: object) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr(Invalidator, "invalidate", interrupted)
        assert cli.main([*MEMORY, "invalidate", "product:42"]) == 130

    def test_a_full_disk_is_one_line(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        def full(*_: object, **__: object) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(Invalidator, "invalidate", full)
        code, line = fail(capsys, *MEMORY, "invalidate", "product:42")
        assert code == 1
        assert "No space left" in line


class TestWatch:
    @pytest.mark.parametrize("option", ["--key", "--tag"])
    def test_names_are_checked(self, option: str, capsys: pytest.CaptureFixture[str]) -> None:
        code, line = fail(capsys, *MEMORY, "watch", option, "")
        assert code == 2
        assert "must not be empty" in line


class TestDoctor:
    @pytest.fixture
    def place(self, redis_url: str, namespace: str) -> list[str]:
        # A bound that a slow machine keeps as well.
        return ["--url", redis_url, "--namespace", namespace, "doctor", "--max-staleness", "60"]

    def test_all_is_well(self, place: list[str], capsys: pytest.CaptureFixture[str]) -> None:
        assert cli.main(place) == 0
        said = capsys.readouterr()
        assert said.err == ""
        assert {line.split()[0] for line in said.out.splitlines()} == {"ok", "means:"}

    def test_a_failure_is_1_and_names_the_repair(
        self, place: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert cli.main([*place, "--path", str(tmp_path / "ledger")]) == 1
        said = capsys.readouterr()
        assert said.err == "invalidator: failed: sidecar\n"
        lines = said.out.splitlines()
        at = next(index for index, line in enumerate(lines) if line.startswith("fail  sidecar: "))
        assert lines[at + 1].startswith("      means: ")
        assert lines[at + 2].startswith("      repair: invalidator sidecar ")

    def test_a_server_in_memory_is_misuse(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert cli.main(["--url", "memory://", "--namespace", "shop", "doctor"]) == 2
        assert "nothing to look at" in capsys.readouterr().err

    def test_as_json(self, place: list[str], capsys: pytest.CaptureFixture[str]) -> None:
        assert cli.main([*place, "--json"]) == 0
        said = json.loads(capsys.readouterr().out)
        assert said["ok"] is True
        assert {"check", "level", "found", "means", "repair"} == set(said["findings"][0])

    def test_as_json_with_a_failure(self, place: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert cli.main([*place, "--json", "--path", str(tmp_path / "ledger")]) == 1
        assert json.loads(capsys.readouterr().out)["ok"] is False


def test_starts_without_rich() -> None:
    """It is an extra: the command line must not need it."""
    code = "import sys; sys.modules['rich'] = None; from invalidator import cli; cli.main(['--version'])"
    assert subprocess.run([sys.executable, "-c", code], check=False, capture_output=True).returncode == 0
