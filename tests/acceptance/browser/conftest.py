"""A browser, and a server that it looks at. Without a browser the tests are skipped, unless REQUIRE_BROWSER is set."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from .chromium import NAMES, Chromium, find

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="session")
def browser() -> Iterator[Chromium]:
    """Chromium, or a reason why there is none."""
    program = find()
    if program is None:
        missing = f"there is no browser ({', '.join(NAMES)}) on PATH; Debian's: apt-get install chromium"
        if os.environ.get("REQUIRE_BROWSER"):
            pytest.fail(missing)
        pytest.skip(missing)
    with Chromium(program) as browser:
        yield browser


@pytest.fixture(scope="session")
def url(browser: Chromium) -> Iterator[str]:
    """Where the test project is served, by a process of its own."""
    server = subprocess.Popen(
        [sys.executable, "-m", "tests.acceptance.browser.server"],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with server:
        assert server.stdin
        assert server.stdout
        yield server.stdout.readline().strip()
        server.stdin.close()
        server.wait(20)
