"""The command line without a server: arguments, errors, words. integration/test_cli.py runs the real thing."""

import argparse
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from importlib.metadata import version

import pytest

from invalidator import Invalidation, Invalidator, Past, Status, cli
from invalidator.cli import Connection, Feed, Line

MEMORY = ["--url", "memory://", "--namespace", "shop"]

LIVE = Status(
    namespace="shop",
    node="0a0a0a",
    state="live",
    listener="own",
    leased=True,
    lease_remaining_s=2.0,
    max_staleness_s=2.0,
    position="1-0",
    flushes=1,
    replays=0,
    reconnects=0,
    received=0,
    refused={},
    published=0,
    queued=0,
    undelivered=0,
    queue_overflows=0,
    last_flush=Past("first subscription", 0.0),
    last_disconnect=None,
    last_gap=None,
    last_error=None,
)
CONNECTING = replace(LIVE, state="connecting")
A_MESSAGE = Invalidation(("product:42",), ("prices",), False, "invalidate", "7-0", "0b0b0b")
A_CLEAR = Invalidation((), (), True, "clear", "8-0", "0b0b0b")
A_FLUSH = Invalidation((), (), True, "the chain is broken", "", "")


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

            def invalidate(self, options: argparse.Namespace) -> cli.Said:
                return cli.Said([target.upper() for target in options.targets], [], False, None)

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


def types(lines: Iterator[Line]) -> list[str]:
    return [line.type for line in lines]


class TestConnection:
    """The news of a connection, from looks at the status that may come at any time."""

    def test_listens_and_then_says_nothing(self) -> None:
        connection = Connection()
        assert types(connection.changes(replace(CONNECTING))) == []
        assert types(connection.changes(LIVE)) == ["listening"]
        assert types(connection.changes(LIVE)) == []

    def test_an_outage_is_told_once_and_its_end(self) -> None:
        connection = Connection()
        list(connection.changes(LIVE))
        away = replace(CONNECTING, reconnects=1, last_error="refused")
        (line,) = connection.changes(away)
        assert (line.type, line.facts) == ("disconnected", {"reason": "refused"})
        assert types(connection.changes(away)) == []
        assert types(connection.changes(replace(away, state="subscribing"))) == []
        assert types(connection.changes(replace(LIVE, reconnects=1))) == ["reconnected"]

    def test_another_reason_is_told(self) -> None:
        """First the socket, then the password: who waits wants to know that it will not help."""
        connection = Connection()
        assert types(connection.changes(replace(CONNECTING, last_error="refused"))) == ["disconnected"]
        assert types(connection.changes(replace(CONNECTING, last_error="WRONGPASS"))) == ["disconnected"]

    def test_the_same_reason_in_the_next_outage_is_told(self) -> None:
        connection = Connection()
        for reconnects in (1, 2):
            list(connection.changes(replace(LIVE, reconnects=reconnects - 1)))
            away = replace(CONNECTING, reconnects=reconnects, last_error="refused")
            assert types(connection.changes(away)) == ["disconnected"]

    def test_an_outage_between_two_looks_is_told(self) -> None:
        connection = Connection()
        list(connection.changes(LIVE))
        assert types(connection.changes(replace(LIVE, reconnects=1))) == ["disconnected", "reconnected"]

    def test_each_gap_is_told_and_no_outage_with_it(self) -> None:
        connection = Connection()
        list(connection.changes(LIVE))
        gap = replace(LIVE, state="replaying", last_gap=Past("after 1-0 came 2-0", 0.0))
        assert types(connection.changes(gap)) == ["gap"]
        assert types(connection.changes(replace(gap, state="live", last_gap=Past("after 1-0 came 2-0", 9.9)))) == []
        assert types(connection.changes(replace(LIVE, last_gap=Past("after 3-0 came 4-0", 0.1)))) == ["gap"]


class TestFeed:
    def test_keeps_the_order_in_which_things_happened(self) -> None:
        """A message that was replayed comes after the outage that it was missed in, though nobody looked before."""
        status = [LIVE]
        feed = Feed(lambda: status[0])
        feed.hear(A_MESSAGE)
        status[0] = replace(LIVE, state="replaying", reconnects=1, last_error="cut")
        feed.hear(A_FLUSH)
        feed.hear(A_CLEAR)
        status[0] = replace(LIVE, reconnects=1)
        taken = [line.type for line in iter(lambda: feed.take(0.001), None)]
        assert taken == ["listening", "invalidate", "disconnected", "flush", "clear", "reconnected"]

    def test_the_flush_of_the_first_subscription_is_no_news(self) -> None:
        feed = Feed(lambda: CONNECTING)
        feed.hear(A_FLUSH)
        assert feed.take(0.001) is None

    def test_is_bounded_and_says_how_much_is_not_there(self) -> None:
        """A terminal that was stopped with Ctrl-S must not make us grow for ever."""
        feed = Feed(lambda: LIVE, backlog=2)
        for _ in range(5):
            feed.hear(A_MESSAGE)
        taken = list(iter(lambda: feed.take(0.001), None))
        assert [line.type for line in taken] == ["listening", "invalidate", "skipped"]
        assert taken[-1].facts == {"lines": 4}


class TestWords:
    AT = datetime(2026, 1, 2, 3, 4, 5, 678_900, UTC)

    def test_a_message_for_people(self) -> None:
        line = cli._describe(A_MESSAGE)._replace(at=self.AT)
        text = "03:04:05.678  invalidate  keys product:42  tags prices  node 0b0b0b  id 7-0"
        assert line.as_text() == text
        assert line.is_message

    def test_a_message_for_programs(self) -> None:
        line = cli._describe(A_MESSAGE)._replace(at=self.AT)
        assert json.loads(line.as_json()) == {
            "at": "2026-01-02T03:04:05.678+00:00",
            "type": "invalidate",
            "keys": ["product:42"],
            "tags": ["prices"],
            "node": "0b0b0b",
            "id": "7-0",
        }

    def test_the_time_is_local_and_says_so(self) -> None:
        line = cli._describe(A_MESSAGE)
        assert line.at.utcoffset() == datetime.now(UTC).astimezone().utcoffset()

    def test_a_clear_is_a_message_and_a_flush_is_not(self) -> None:
        assert cli._describe(A_CLEAR).type == "clear"
        assert cli._describe(A_CLEAR).is_message
        flush = cli._describe(A_FLUSH)
        assert (flush.type, flush.facts, flush.is_message) == ("flush", {"reason": "the chain is broken"}, False)

    def test_says_nothing_about_nothing(self) -> None:
        """A message typed into redis-cli has neither a node nor an id."""
        line = cli._describe(Invalidation(("a",), (), False, "invalidate", "", ""))
        assert line._replace(at=self.AT).as_text() == "03:04:05.678  invalidate  keys a"

    @pytest.mark.parametrize("name", ["two words", "line\nbreak", "\x1b[2J", "\x9b2J", 'quo"te', "right\u202eleft"])
    def test_a_name_from_the_wire_stays_one_word_and_moves_no_cursor(self, name: str) -> None:
        line = cli._describe(Invalidation((name,), (), False, "invalidate", "", name))
        assert line.as_text().isprintable()
        assert json.dumps(name) in line.as_text()
        assert line.as_json().isascii()
        assert json.loads(line.as_json())["keys"] == [name]

    def test_a_thousand_names_are_one_line_that_can_be_read(self) -> None:
        names = tuple(f"product:{n}" for n in range(1000))
        line = cli._describe(Invalidation(names, (), False, "invalidate", "", ""))
        assert "product:19 … and 980 more" in line.as_text()
        assert json.loads(line.as_json())["keys"] == list(names)


def test_starts_without_rich() -> None:
    """It is an extra: the command line must not need it."""
    code = "import sys; sys.modules['rich'] = None; from invalidator import cli; cli.main(['--version'])"
    assert subprocess.run([sys.executable, "-c", code], check=False, capture_output=True).returncode == 0
