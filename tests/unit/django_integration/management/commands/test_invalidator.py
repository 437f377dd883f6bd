"""`manage.py invalidator`: the shell's command with the project's settings."""

import json
import socket
import threading
from io import StringIO
from pathlib import Path

import pytest
from django.core.cache import caches
from django.core.management import CommandError, call_command, load_command_class
from django.db import OperationalError, connection, transaction
from django.test import override_settings

from django_integration import bus, runtime
from invalidator import Invalidator

from ...conftest import WAIT_S, Wire
from ...zoo.models import Ticket

TWO_LEVELS = {
    "default": {"BACKEND": "django_integration.backend.NearCacheBackend", "OPTIONS": {"L2": "l2"}},
    "l2": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache", "LOCATION": "below"},
}


def invalidate(*arguments: str) -> None:
    call_command("invalidator", "invalidate", *arguments)


def test_url_and_namespace_come_from_the_settings() -> None:
    parser = load_command_class("django_integration", "invalidator").create_parser("manage.py", "invalidator")
    options = parser.parse_args(["invalidate", "product:42"])
    assert (options.url, options.namespace) == ("memory://", "tests")
    options = parser.parse_args(["--namespace", "shop", "invalidate", "product:42"])
    assert (options.url, options.namespace) == ("memory://", "shop")


def test_it_invalidates(wire: Wire, capsys: pytest.CaptureFixture[str]) -> None:
    call_command("invalidator", "invalidate", "product:42", "--tag", "prices")
    message = wire.message()
    assert (message.keys, message.tags) == ({"product:42"}, {"prices"})
    assert "product:42" in capsys.readouterr().out


def test_a_failure_is_an_exit_code_and_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    with override_settings(INVALIDATOR=None), pytest.raises(SystemExit) as ended:
        call_command("invalidator", "invalidate", "product:42")
    assert ended.value.code == 2
    assert "no url" in capsys.readouterr().err


def test_a_wrong_command_line_is_refused() -> None:
    with pytest.raises(CommandError):
        call_command("invalidator", "invalidte", stdout=StringIO())


def test_a_row_is_what_its_save_would_be(db: None, wire: Wire, capsys: pytest.CaptureFixture[str]) -> None:
    ticket = Ticket.objects.create(day=3)
    wire.messages()
    invalidate(f"zoo.Ticket:{ticket.pk}", "zoo.Cage", "--key", "zoo.Cage:7", "--tag", "prices")
    message = wire.message()
    assert message.keys == {"day:3", "zoo.Cage:7"}
    assert message.tags >= {"zoo.ticket", f"zoo.ticket:{ticket.pk}", "zoo.cage", "zoo.cage:*", "prices"}
    assert capsys.readouterr().out.startswith("accepted  keys ")


def test_an_unknown_model_is_2_and_nothing_is_told(wire: Wire, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        invalidate("product:42", "zoo.Kage:7")
    assert ended.value.code == 2
    assert "did you mean zoo.Cage?" in capsys.readouterr().err
    assert wire.messages() == []


def test_a_row_that_is_gone_is_told_and_noted(db: None, wire: Wire, capsys: pytest.CaptureFixture[str]) -> None:
    invalidate("zoo.Cage:42")
    assert wire.message().tags == {"zoo.cage", "zoo.cage:42"}
    assert "zoo.Cage:42 is not in the database" in capsys.readouterr().err


def test_all_is_a_clear(wire: Wire, capsys: pytest.CaptureFixture[str]) -> None:
    invalidate("--all", "--yes", "--json")
    assert wire.message().everything
    said = json.loads(capsys.readouterr().out)
    assert (said["accepted"], said["clear"], said["keys"]) == (True, True, [])


@pytest.mark.parametrize("all_of_it", [False, True])
def test_it_leaves_the_second_level_too(all_of_it: bool) -> None:
    """There it would come back from, to every server."""
    with override_settings(CACHES=TWO_LEVELS):
        caches["default"].set("product:42", "old")
        assert caches["l2"].get(caches["default"].key_name("product:42")) == "old"
        invalidate(*(("--all", "--yes") if all_of_it else ("--key", caches["default"].key_name("product:42"))))
        assert caches["l2"].get(caches["default"].key_name("product:42")) is None


def test_in_a_transaction_it_waits_for_the_commit(db: None, wire: Wire, capsys: pytest.CaptureFixture[str]) -> None:
    with transaction.atomic():
        invalidate("product:42")
        assert wire.messages() == []
        assert capsys.readouterr().out == "leaves after the commit  keys product:42\n"
    assert wire.message().keys == {"product:42"}


def test_another_namespace_is_told_by_another_bus(wire: Wire) -> None:
    heard: list[object] = []
    with Invalidator("memory://", namespace="shop") as other:
        assert other.wait_until_leased(WAIT_S)
        other.on_invalidate(heard.append)
        call_command("invalidator", "--namespace", "shop", "invalidate", "zoo.Cage")
        assert other.wait_until_proven(other.clock())
    assert [said.tags for said in heard] == [("zoo.cage", "zoo.cage:*")]
    assert wire.messages() == []


def test_what_redis_did_not_take_is_a_failure(capsys: pytest.CaptureFixture[str]) -> None:
    """PUBLISH="queue" tries again in the background; a command ends."""
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))  # and does not listen
        url = f"redis://127.0.0.1:{nobody.getsockname()[1]}"
        setting = {"URL": url, "NAMESPACE": "tests", "CLOSE_TIMEOUT": 0}
        with override_settings(INVALIDATOR=setting), pytest.raises(SystemExit) as ended:
            invalidate("product:42")
    assert ended.value.code == 1
    said = capsys.readouterr()
    assert "did not accept" in said.err
    assert said.out == ""


def test_a_wrong_setting_is_2_and_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    wrong = {"URL": "memory://", "NAMESPACE": "tests", "TLL": 1}
    with override_settings(INVALIDATOR=wrong), pytest.raises(SystemExit) as ended:
        invalidate("product:42")
    assert ended.value.code == 2
    assert "Did you mean 'TTL'?" in capsys.readouterr().err


def test_a_host_for_commands_needs_no_sidecar(tmp_path: Path) -> None:
    setting = {"URL": "memory://", "NAMESPACE": "tests", "SIDECAR": tmp_path / "nobody.ledger"}
    with override_settings(INVALIDATOR=setting):
        invalidate("product:42")
        assert bus().status().listener == "own"
        runtime.reset()
        assert runtime.made_bus() is None


def test_a_database_that_cannot_be_read_is_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    def fail(*_: object) -> None:
        raise OperationalError("the server went away")

    with connection.execute_wrapper(fail), pytest.raises(SystemExit) as ended:
        invalidate("zoo.Cage:1")
    assert ended.value.code == 1
    assert "a row could not be read: the server went away" in capsys.readouterr().err


def test_watch_knows_rows(wire: Wire, capsys: pytest.CaptureFixture[str]) -> None:
    """A message about another row is not shown; one about rows nobody knows is."""
    ended = threading.Thread(target=call_command, args=("invalidator", "watch", "zoo.Cage:7", "--count", "2", "--json"))
    other = Invalidator("memory://", namespace="tests")
    ended.start()
    while ended.is_alive():
        other.invalidate(tags=["zoo.cage:8"])
        other.invalidate(tags=["zoo.cage:7", "zoo.cage"])
        ended.join(0.05)
    other.close()
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["tags"] for line in lines if line["type"] == "invalidate"] == [["zoo.cage:7", "zoo.cage"]] * 2
