"""
The daemon's log: one line for each event, as text or as JSON, to stderr or to a file that can be rotated.

The library logs `event name=value name=value`, and knows nothing of formats. This module splits such a message into the
event and its fields again.

Rule 1: an event is one line, whatever came over the wire. (In text format, the traceback of a bug of ours follows it.)
Rule 2: a log that cannot be written stops nothing.
"""

from __future__ import annotations

import ast
import contextlib
import json
import logging
import re
import sys
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Literal, Self, TextIO

LogFormat = Literal["text", "json"]

_FIELD = re.compile(r""" (\w+)=('(?:[^'\\]|\\.)*'(?= |$)|"(?:[^"\\]|\\.)*"(?= |$)|.*?(?= \w+=|$))""")


def split_event(message: str) -> tuple[str, dict[str, str]]:
    """Split `event words name=value name='quoted value'` into the event and its fields."""
    found = list(_FIELD.finditer(message))
    event = message[: found[0].start()] if found else message
    return event, {field[1]: _unquote(field[2]) for field in found}


def _unquote(text: str) -> str:
    if text[:1] in ("'", '"'):
        with contextlib.suppress(ValueError, SyntaxError):
            return str(ast.literal_eval(text))
    return text


class TextFormatter(logging.Formatter):
    """For people: `2026-01-02T03:04:05.678Z INFO listening namespace=shop`."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - the base class' name
        return f"{_time(record)} {record.levelname} {_one_line(record.message)}"


class JsonFormatter(logging.Formatter):
    """For programs: one object, in ASCII, with `at`, `level`, `event`, and the event's own fields as strings."""

    def format(self, record: logging.LogRecord) -> str:
        event, fields = split_event(_one_line(record.getMessage()))
        if record.exc_info:
            fields["traceback"] = self.formatException(record.exc_info)
        return json.dumps({**fields, "at": _time(record), "level": record.levelname.lower(), "event": event})


class Log:
    """
    Where everything that the library logs goes, as long as the context lasts.

    Args:
        path: of a file to append to; None for stderr.
        form: the format of a line.

    Raises:
        OSError: the file cannot be opened.
    """

    def __init__(self, path: Path | None, form: LogFormat) -> None:
        self._path = path
        self._handler = _Handler(self._open())
        self._handler.setFormatter(JsonFormatter() if form == "json" else TextFormatter())
        self._logger = logging.getLogger("invalidator")

    def reopen(self) -> None:
        """Open the path anew, after the old file was renamed. If that raises OSError, the old file stays in use."""
        if self._path is None:
            return
        stream = self._open()
        with self._handler.lock or contextlib.nullcontext():  # not `setStream`, which flushes, and may not be able to
            old, self._handler.stream = self._handler.stream, stream
        with contextlib.suppress(OSError):
            old.close()

    def __enter__(self) -> Self:
        self._before = (self._logger.level, self._logger.propagate)
        self._logger.addHandler(self._handler)
        self._logger.setLevel(logging.INFO)
        self._logger.propagate = False
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._logger.removeHandler(self._handler)
        level, self._logger.propagate = self._before
        self._logger.setLevel(level)
        if self._path is not None:
            with contextlib.suppress(OSError):  # what was buffered for a full disk
                self._handler.stream.close()

    def _open(self) -> TextIO:
        if self._path is None:
            return sys.stderr
        # Open across statements and threads; closed by `reopen` and `__exit__`.
        return self._path.open("a", encoding="utf-8", errors="backslashreplace")


class _Handler(logging.StreamHandler[TextIO]):
    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - the base class' name
        """Rule 2."""


def _time(record: logging.LogRecord) -> str:
    at = datetime.fromtimestamp(record.created, UTC)
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _one_line(text: str) -> str:
    return "".join(char if char.isprintable() else json.dumps(char)[1:-1] for char in text)
