"""What every benchmark gets: how thorough to be, a server of its own, and a place to report progress."""

from __future__ import annotations

import secrets
import sys

from invalidator.testing import EmbeddedServer


class Run:
    """
    One run of some benchmarks.

    Args:
        server: started by the caller, shared by the benchmarks, each in a namespace of its own.
        quick: a short look instead of a measurement.
    """

    def __init__(self, server: EmbeddedServer, *, quick: bool) -> None:
        self.server = server
        self.quick = quick
        self._name = ""

    @property
    def url(self) -> str:
        """Where the server listens."""
        return self.server.url

    def rounds(self, full: int, quick: int) -> int:
        """How often to measure."""
        return quick if self.quick else full

    def namespace(self) -> str:
        """A namespace nobody else uses."""
        return f"bench-{secrets.token_hex(4)}"

    def begin(self, name: str) -> None:
        """A benchmark begins."""
        self._name = name
        if not sys.stderr.isatty():
            print(f"{name} …", file=sys.stderr, flush=True)

    def progress(self, done: int, of: int) -> None:
        """*done* rounds *of* so many are done. Call it outside of what is timed."""
        if sys.stderr.isatty():
            print(f"\r\033[K{self._name} … {100 * done // of} %", end="", file=sys.stderr, flush=True)

    def end(self) -> None:
        """The benchmark has ended."""
        if sys.stderr.isatty():
            print("\r\033[K", end="", file=sys.stderr, flush=True)
