"""
Fixtures for every test.

Each pytest process (one, or one per xdist worker) starts one Redis server. Tests share it and do not meet: each takes a
namespace of its own. A test that breaks its server takes `own_server`.
"""

import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import settings

from invalidator.testing import EmbeddedServer
from tests.scheduling import Scheduling, place_of
from tests.support import Clock

# A slow machine is no failure; pytest's own time-out ends a test that hangs.
settings.register_profile("invalidator", deadline=None)
settings.load_profile("invalidator")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Scheduling | None:
    """With `--dist=loadfile`, share tests as tests/scheduling.py describes."""
    return Scheduling(config, log) if config.getoption("dist") == "loadfile" else None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Let several processes begin with what takes long."""
    if hasattr(config, "workerinput"):
        items.sort(key=lambda item: place_of(item.nodeid))


@pytest.fixture(scope="session")
def server() -> Iterator[EmbeddedServer]:
    """A running server, shared by all tests: do not stop, pause or flush it. Where none can start, the test fails."""
    with EmbeddedServer() as server:
        yield server


@pytest.fixture
def own_server() -> Iterator[EmbeddedServer]:
    """A running server that this test may kill, pause, flush and restart."""
    with EmbeddedServer() as server:
        yield server


@pytest.fixture
def redis_url(server: EmbeddedServer) -> str:
    """The URL of the shared server."""
    return server.url


@pytest.fixture
def namespace() -> str:
    """A namespace that no other test uses."""
    return f"test-{uuid.uuid4().hex}"


@pytest.fixture
def clock() -> Clock:
    """A clock that stands still until the test lets time pass."""
    return Clock()
