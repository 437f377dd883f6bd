"""The rights that docs/wire-protocol.md lists are sufficient, and all of them are needed."""

from __future__ import annotations

import contextlib
import re
from pathlib import Path

import pytest

from invalidator import Invalidator, PublishError
from invalidator.testing import EmbeddedServer

DOCUMENT = Path(__file__).parents[2] / "docs" / "wire-protocol.md"


@pytest.fixture(scope="module")
def line() -> list[str]:
    """The command in the documentation."""
    found = re.search(r"^ACL SETUSER .*$", DOCUMENT.read_text(), re.MULTILINE)
    assert found
    return found[0].split()


def allowed(server: EmbeddedServer, line: list[str], *, without: str = "") -> Invalidator:
    """A bus that logs in as the documented user."""
    server.command(*line, *([f"-{without}"] if without else []))
    return Invalidator(server.url.replace("://", "://invalidator:secret@"), namespace="shop", publish="raise")


def test_everything_works_with_the_documented_rights(own_server: EmbeddedServer, line: list[str]) -> None:
    """A command that the code uses and the page does not list fails here."""
    with allowed(own_server, line) as bus:
        assert bus.wait_until_leased(10)
        assert bus.invalidate("product:42").accepted
        assert bus.clear().accepted
        assert bus.hold("product:42").release().accepted
        own_server.command("SCRIPT", "FLUSH")
        assert bus.invalidate("product:42").accepted
        assert bus.status().last_error is None


@pytest.mark.parametrize(
    "command",
    ["subscribe", "get", "xrevrange", "zrange", "ping", "eval", "xadd", "publish", "set"],
)
def test_nothing_in_the_document_is_needless(own_server: EmbeddedServer, line: list[str], command: str) -> None:
    """Without any one of the listed rights something fails."""
    with allowed(own_server, line, without=command) as bus:
        received = bus.wait_until_leased(0.5)
        published = False
        with contextlib.suppress(PublishError):
            published = bus.invalidate("product:42").accepted
        assert not (received and published)
