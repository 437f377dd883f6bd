"""`manage.py invalidator verify`."""

import builtins
import io
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from django.test import override_settings

from django_integration import cached, observing
from django_integration.management.commands import _verify
from django_integration.testing import isolated

HERE = __name__
RUN = ("--seconds", "0", "--interval", "0")
prices = {"lamp": 1, "loads": 0}


@pytest.fixture(autouse=True)
def own_bus() -> Iterator[None]:
    prices.update(lamp=1, loads=0)
    with isolated(MAX_STALENESS=0.6):
        yield


@cached(tags=["prices"])
def price(name: str) -> int:
    return prices[name]


@cached(tags=["prices"])
def stale_price(name: str) -> dict[str, int]:
    """Somebody else changes the price after the second load: the one that verifies a hit."""
    prices["loads"] += 1
    return {name: prices[name] if prices["loads"] == 1 else 2}


@cached()
def clock() -> int:
    prices["loads"] += 1
    return prices["loads"]


def verify(*arguments: str) -> int:
    try:
        call_command("invalidator", "verify", *arguments)
    except SystemExit as ended:
        return int(ended.code or 0)
    return 0


def test_what_is_as_cached_passes(capsys: pytest.CaptureFixture[str]) -> None:
    price("lamp")
    assert verify(f"{HERE}.price('lamp')", *RUN) == 0
    assert "1 hits verified: 1 as cached, 0 stale" in capsys.readouterr().out
    assert not observing._reviewers


def test_what_is_stale_is_a_table_and_an_exit_code(capsys: pytest.CaptureFixture[str]) -> None:
    stale_price("lamp")
    assert verify(f"{HERE}.stale_price lamp", *RUN) == 1
    told = capsys.readouterr()
    assert "stale, and never invalidated" in told.out
    assert "prices" in told.out
    assert "1 reads were stale" in told.err


def test_without_rich_the_table_is_plain(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without_rich(name: str, *arguments: Any, **options: Any) -> Any:
        if name.startswith("rich"):
            raise ImportError(name)
        return real(name, *arguments, **options)

    stale_price("lamp")
    monkeypatch.setattr(builtins, "__import__", without_rich)
    assert verify(f"{HERE}.stale_price('lamp')", *RUN) == 1
    assert "different: ['lamp']: 1 → 2" in capsys.readouterr().out


def test_json_is_for_scripts(capsys: pytest.CaptureFixture[str]) -> None:
    stale_price("lamp")
    assert verify(f"{HERE}.stale_price('lamp')", *RUN, "--json") == 1
    said = json.loads(capsys.readouterr().out)
    assert said["counts"]["stale"] == 1
    assert said["findings"][0]["difference"] == {"where": "['lamp']", "was": "1", "is_now": "2"}
    assert said["findings"][0]["tags"] == ["prices"]


def test_what_is_different_each_time_is_said_apart(capsys: pytest.CaptureFixture[str]) -> None:
    clock()
    assert verify(f"{HERE}.clock()", *RUN) == 0
    assert f"not deterministic: {HERE}.clock" in capsys.readouterr().out


def test_who_verified_nothing_has_failed(capsys: pytest.CaptureFixture[str]) -> None:
    assert verify("/nowhere/", *RUN) == 1
    told = capsys.readouterr()
    assert "/nowhere/: answers 404" in told.err
    assert "none of them hit anything" in told.err


def test_it_reads_for_a_while(capsys: pytest.CaptureFixture[str]) -> None:
    """The first read loads, and the later ones are hits."""
    assert verify(f"{HERE}.price('lamp')", "--seconds", "0.2", "--interval", "0.01") == 0
    assert " 0 hits verified" not in capsys.readouterr().out


def test_a_target_that_fails_is_said_once_and_the_others_go_on(capsys: pytest.CaptureFixture[str]) -> None:
    price("lamp")
    targets = (f"{HERE}.price('none')", f"{HERE}.price('lamp')")
    assert verify(*targets, "--seconds", "0.1", "--interval", "0.01") == 0
    assert capsys.readouterr().err.count("KeyError") == 1


def test_paths_are_asked_for_as_somebody(db: None, capsys: pytest.CaptureFixture[str]) -> None:
    User.objects.create_user("ann", is_staff=True)
    price("lamp")
    targets = (f"{HERE}.price('lamp')", "/caches/")
    with override_settings(ALLOWED_HOSTS=[".example.com"]):
        assert verify(*targets, "--user", "ann", "--seconds", "0.1", "--interval", "0") == 0
        assert "/caches/" not in capsys.readouterr().err
        assert verify(*targets, "--host", "foreign.example", "--seconds", "0.1", "--interval", "0") == 0
        assert "/caches/: answers 400" in capsys.readouterr().err
    assert verify("/caches/", "--user", "nobody", *RUN) == 2
    assert "there is no user nobody" in capsys.readouterr().err


def test_targets_come_from_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    price("lamp")
    file = tmp_path / "targets"
    file.write_text(f"# of yesterday\n\n{HERE}.price('lamp')\n")
    assert verify("--from", str(file), *RUN) == 0
    monkeypatch.setattr(sys, "stdin", io.StringIO(f"{HERE}.price('lamp')\n"))
    assert verify("--from", "-", *RUN) == 0
    assert verify("--from", str(tmp_path / "none"), *RUN) == 1


@pytest.mark.parametrize("arguments", [(), ("no.such.function()",), ("/", "--namespace", "another")])
def test_misuse_is_refused(arguments: tuple[str, ...]) -> None:
    assert verify(*arguments) == 2


@pytest.mark.parametrize("arguments", [("/", "--seconds", "soon"), ("/", "--sample", "2")])
def test_options_that_cannot_be_are_refused(arguments: tuple[str, ...]) -> None:
    with pytest.raises(CommandError, match="must be"):
        verify(*arguments)


def test_where_nothing_is_heard_nothing_is_verified(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_verify, "LEASE_TIMEOUT_S", 0.1)
    with isolated(URL="redis://127.0.0.1:1/0", CLOSE_TIMEOUT=0):
        assert verify("/", *RUN) == 1
    assert "nothing can be verified" in capsys.readouterr().err


def test_a_terminal_sees_how_far_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    price("lamp")
    screen = Terminal()
    monkeypatch.setattr(sys, "stderr", screen)
    assert verify(f"{HERE}.price('lamp')", *RUN) == 0
    assert "1 hits verified, 0 stale" in screen.getvalue()
