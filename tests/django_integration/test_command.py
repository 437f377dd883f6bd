"""`manage.py invalidator`: the shell's command with the project's settings."""

from io import StringIO

import pytest
from django.core.management import CommandError, call_command, load_command_class
from django.test import override_settings

from .conftest import Wire


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
