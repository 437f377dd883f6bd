"""
What travels over a connection: commands to the server, and the frames that it sends back.

Links produce and consume these types, and know nothing of the state machine that uses them.
"""

from __future__ import annotations

from typing import Any, NamedTuple

Command = tuple[str | bytes | int, ...]


class Reply(NamedTuple):
    """The answer to one command. Answers come in the order of the commands."""

    value: Any


class Failure(NamedTuple):
    """An error, as the answer to one command."""

    text: str


class Push(NamedTuple):
    """What the server sends without a command: the confirmation of a subscription, or a message."""

    kind: bytes
    channel: bytes
    payload: Any


Frame = Reply | Failure | Push

Info = dict[str, str]
"""The answer to INFO, by field."""


def parse_info(answer: bytes | str) -> Info:
    """Read the answer to INFO. Headings and empty lines are skipped."""
    return dict(line.split(":", 1) for line in to_text(answer).splitlines() if ":" in line)


def to_text(value: Any) -> str:
    """Return *value* as text. Bytes that are no UTF-8 are replaced."""
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)
