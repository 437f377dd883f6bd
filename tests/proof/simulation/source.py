"""The database: versions of names, commits, snapshots, and a replica that lags."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple


class Value(NamedTuple):
    """
    What a loader read, as the cache keeps it.

    Args:
        versions: of its key and of each of its tags.
        read_at: the time of the snapshot.
    """

    key: str
    versions: Mapping[str, int]
    read_at: int


class Source:
    """Every version of every name, with the time of its commit."""

    def __init__(self, names: Iterable[str]) -> None:
        self._commits: dict[str, list[tuple[int, int]]] = {name: [(0, 0)] for name in names}

    @property
    def names(self) -> list[str]:
        """All names."""
        return list(self._commits)

    def commit(self, names: Iterable[str], now: int) -> dict[str, int]:
        """Change *names*. Returns their new versions."""
        versions = {}
        for name in names:
            commits = self._commits[name]
            versions[name] = commits[-1][1] + 1
            commits.append((now, versions[name]))
        return versions

    def read(self, key: str, tags: Iterable[str], as_of: int, now: int) -> Value:
        """What a snapshot contains that was taken *now* and shows the data of *as_of*."""
        return Value(key, {name: self._version(name, as_of) for name in (key, *tags)}, now)

    def _version(self, name: str, as_of: int) -> int:
        return next(version for at, version in reversed(self._commits[name]) if at <= as_of)
