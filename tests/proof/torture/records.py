"""
What a process did, as records of fixed size in a mapped file.

Rule 1: a record is a store to shared memory. It costs no system call, and what was recorded outlives a kill -9.
Rule 2: the last word of a record is stored last, and is not 0 in a whole one: a log ends at the first that is not.
Rule 3: a log is bounded (`room` records). Whoever fills it stops.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterator
from pathlib import Path
from struct import Struct
from typing import NamedTuple

READ = Struct("<IIqq")
"""key, version, when the read began, when it returned."""
CHANGE = Struct("<IIqqqq")
"""
key, version, when its invalidation was accepted (0: not yet, or nobody knows), when its hold was (0: not strict),
when its commit had returned (0: died before), when its transaction began.
"""
_TIME = Struct("<q")
_ACCEPTED, _COMMITTED = 8, 24


class LogFull(Exception):
    """There is no room for another record."""


class Read(NamedTuple):
    """One read."""

    key: int
    version: int
    began: int
    returned: int


class Change(NamedTuple):
    """One version of one key, on its way."""

    key: int
    version: int
    accepted: int
    held: int
    committed: int
    began: int


class Log:
    """A log to write to. One thread appends."""

    def __init__(self, path: Path, record: Struct, room: int) -> None:
        with path.open("xb+") as file:
            os.ftruncate(file.fileno(), record.size * room)  # sparse: it costs what is written
            self._memory = mmap.mmap(file.fileno(), record.size * room)
        self._size = record.size
        self._pack_into = record.pack_into
        self._end = 0
        self._limit = record.size * room

    def append(self, *fields: int) -> int:
        """Write one record; returns its place. Raises LogFull."""
        at = self._end
        if at == self._limit:
            raise LogFull
        self._pack_into(self._memory, at, *fields)
        self._end = at + self._size
        return at

    def note_committed(self, at: int, now: int) -> None:
        """Complete a change."""
        _TIME.pack_into(self._memory, at + _COMMITTED, now)

    def note_accepted(self, at: int, now: int) -> None:
        """Complete a change; from any thread."""
        _TIME.pack_into(self._memory, at + _ACCEPTED, now)


def read_log(path: Path, record: Struct) -> Iterator[tuple[int, ...]]:
    """The whole records of a log."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as memory:
        for fields in record.iter_unpack(memory):
            if not fields[-1]:
                return
            yield fields
