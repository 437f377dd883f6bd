"""The daemon's log: events taken apart, and files that are renamed under it."""

import json
import logging
from pathlib import Path

import pytest

from invalidator.sidecar.log import Log, split_event

log = logging.getLogger("invalidator.sidecar.test")


@pytest.mark.parametrize(
    ("message", "event", "fields"),
    [
        ("stopped", "stopped", {}),
        ("log reopened", "log reopened", {}),
        ("lease held namespace=shop position=1-0", "lease held", {"namespace": "shop", "position": "1-0"}),
        ("flushed channel=c reason='it was begun anew'", "flushed", {"channel": "c", "reason": "it was begun anew"}),
        ('refused reason="it\'s" next=1', "refused", {"reason": "it's", "next": "1"}),
        (r"refused reason='a\'b' next=1", "refused", {"reason": "a'b", "next": "1"}),
        ("lost error=no room left on it namespace=shop", "lost", {"error": "no room left on it", "namespace": "shop"}),
        ("lost error=", "lost", {"error": ""}),
        ("broken reason='no end", "broken", {"reason": "'no end"}),
    ],
)
def test_an_event_and_its_fields(message: str, event: str, fields: dict[str, str]) -> None:
    assert split_event(message) == (event, fields)


def read(path: Path) -> list[str]:
    return path.read_text().splitlines()


def test_text_is_for_people(tmp_path: Path) -> None:
    with Log(tmp_path / "log", "text"):
        log.info("lease held namespace=%s", "shop")
    (line,) = read(tmp_path / "log")
    at, level, rest = line.split(" ", 2)
    assert at.endswith("Z")
    assert (level, rest) == ("INFO", "lease held namespace=shop")


def test_json_is_for_programs(tmp_path: Path) -> None:
    with Log(tmp_path / "log", "json"):
        log.warning("lease lost namespace=%s error=%r", "shop", "cut é")
    (line,) = read(tmp_path / "log")
    assert line.isascii()
    said = json.loads(line)
    assert said.pop("at")
    assert said == {"level": "warning", "event": "lease lost", "namespace": "shop", "error": "cut é"}


@pytest.mark.parametrize("form", ["text", "json"])
def test_what_came_over_the_wire_stays_one_line(form: str, tmp_path: Path) -> None:
    with Log(tmp_path / "log", form):  # type: ignore[arg-type]
        log.warning("message refused reason=%s", "a\nb\x1b[2J\u2028c")
    (line,) = read(tmp_path / "log")
    assert "\x1b" not in line


def test_an_exception_is_told_with_its_traceback(tmp_path: Path) -> None:
    with Log(tmp_path / "log", "json"):
        try:
            {}["a bug"]
        except KeyError:
            log.exception("listener failed")
    (line,) = read(tmp_path / "log")
    assert "KeyError: 'a bug'" in json.loads(line)["traceback"]


def test_reopen_goes_on_in_a_new_file(tmp_path: Path) -> None:
    with Log(tmp_path / "log", "text") as logged:
        log.info("before")
        (tmp_path / "log").rename(tmp_path / "log.1")
        log.info("between")
        logged.reopen()
        log.info("after")
    assert [line.split()[-1] for line in read(tmp_path / "log.1")] == ["before", "between"]
    assert [line.split()[-1] for line in read(tmp_path / "log")] == ["after"]


def test_a_file_that_cannot_be_reopened_is_kept(tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir()
    with Log(tmp_path / "logs" / "log", "text") as logged:
        (tmp_path / "logs").rename(tmp_path / "moved")
        with pytest.raises(FileNotFoundError):
            logged.reopen()
        log.info("after")
    assert len(read(tmp_path / "moved" / "log")) == 1


def test_a_full_disk_ends_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    with Log(Path("/dev/full"), "text") as logged:
        log.info("nowhere")
        logged.reopen()
        log.info("nowhere")
    assert capfd.readouterr().err == ""


def test_afterwards_logging_is_as_it_was(tmp_path: Path) -> None:
    """`manage.py invalidator sidecar` runs where a project has set up its own."""
    logger = logging.getLogger("invalidator")
    before = (logger.level, logger.propagate, list(logger.handlers))
    with Log(tmp_path / "log", "text"):
        pass
    assert (logger.level, logger.propagate, list(logger.handlers)) == before
