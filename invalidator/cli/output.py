"""
What the command line prints: facts as words, and a stream that may be a terminal, a pipe, or closed.

Whoever reads our output reads lines. What came over the wire can neither break a line nor send a command to a terminal.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
from collections.abc import Iterator, Sequence
from typing import Any, TextIO

NAMES_PER_LINE = 20
"""Of each kind. A message may hold thousands; `--json` shows them all."""


def as_words(facts: dict[str, Any]) -> Iterator[str]:
    """Yield `keys a b` for each of *facts* that is not empty."""
    for what, value in facts.items():
        if value not in (None, "", [], ()):
            yield f"{what} {_as_names(value) if isinstance(value, list | tuple) else one_line(str(value))}"


def _as_names(names: Sequence[str]) -> str:
    shown = [_one_word(name) for name in names[:NAMES_PER_LINE]]
    more = len(names) - len(shown)
    return " ".join([*shown, f"… and {more} more"] if more else shown)


def _one_word(name: str) -> str:
    """Return *name*, quoted as in JSON if it would not be one word as it is."""
    return name if name.isprintable() and not set(name) & set(' "') else json.dumps(name)


def one_line(text: str) -> str:
    """Return *text* with everything escaped that is not printable, so that it stays one line and moves no cursor."""
    return "".join(char if char.isprintable() else json.dumps(char)[1:-1] for char in text)


def accept_any_character(stream: object) -> None:
    """Let a terminal that knows fewer characters than Unicode get escapes, where Python would raise an error."""
    if isinstance(stream, io.TextIOWrapper):
        stream.reconfigure(errors="backslashreplace")


def drop_output(stream: TextIO) -> None:
    """
    Send what is left of *stream* nowhere, since nobody reads it any more. The interpreter's last flush would complain,
    or wait for ever.
    """
    with contextlib.suppress(OSError, ValueError, AttributeError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)
