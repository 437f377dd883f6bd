"""A browser, and a server for it. Without a browser these tests are skipped; with REQUIRE_BROWSER they fail."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Self

import pytest

from .chromium import NAMES, Chromium, find

ROOT = Path(__file__).resolve().parents[3]


class Server:
    """
    The test project, served by a process of its own (`server.py`).

    Attributes:
        url: where it is served.
    """

    def __init__(self, errors: IO[bytes]) -> None:
        self._errors = errors
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.acceptance.browser.server"],
            cwd=ROOT,
            env={**os.environ, "PYTHONFAULTHANDLER": "1"},  # a crash names the line, too
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )
        assert self._process.stdout
        self.url = self._process.stdout.readline().strip()
        self.must_run()

    def must_run(self) -> None:
        """Fail, with its exit code and what it wrote to its standard error, if the process has ended."""
        if not self.url or self._process.poll() is not None:
            code = self._process.wait(20)
            self._errors.seek(0)
            pytest.fail(f"the server has ended with exit code {code}:\n{self._errors.read().decode()}", pytrace=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin
        self._process.stdin.close()
        try:
            self._process.wait(20)
        finally:
            self._process.kill()
            with self._process:
                pass


@pytest.fixture(scope="session")
def browser() -> Iterator[Chromium]:
    """Chromium. Where there is none, the test is skipped or fails, see above."""
    program = find()
    if program is None:
        missing = f"there is no browser ({', '.join(NAMES)}) on PATH; Debian's: apt-get install chromium"
        if os.environ.get("REQUIRE_BROWSER"):
            pytest.fail(missing)
        pytest.skip(missing)
    with Chromium(program) as browser:
        yield browser


@pytest.fixture(scope="session")
def server(browser: Chromium, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The server of all tests. Without a browser none is started."""
    path = tmp_path_factory.mktemp("server") / "stderr"
    with path.open("w+b") as errors, Server(errors) as server:
        yield server


@pytest.fixture(scope="session")
def url(server: Server) -> str:
    """Where the test project is served."""
    return server.url


@pytest.fixture(autouse=True)
def server_must_run(server: Server) -> Iterator[None]:
    """A test during which the server's process ends fails with the reason."""
    yield
    server.must_run()
