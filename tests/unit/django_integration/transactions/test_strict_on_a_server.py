"""Strict writes with a real server, that goes away; and with a real writer, that is killed."""

import contextlib
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

import pytest
from django.conf import settings
from django.db import connection, transaction
from django.test import override_settings

from django_integration import bus, cache, row_tags
from invalidator import HoldEnded, Invalidator, NearCache, PublishError
from invalidator.testing import EmbeddedServer
from tests.support import wait_until

from ..conftest import ROOT, WAIT_S
from ..zoo.models import Cage

HOLD_S = 2.0
"""Long enough for some thousand reads, short enough to wait for its end."""


def on(server: EmbeddedServer, namespace: str, **others: object) -> Any:
    strict = {"URL": server.url, "NAMESPACE": namespace, "WRITES": "strict", **others}
    return override_settings(INVALIDATOR={**settings.INVALIDATOR, **strict})


def name_in_cache(cage: Cage) -> str:
    return cache.get_or_set("cage", lambda: Cage.objects.get(pk=cage.pk).name, tags=row_tags(cage))


# ------------------------------------------------------------------------------------------------ a server that goes


@pytest.mark.usefixtures("db")
@pytest.mark.parametrize("gone", ["killed", "paused"])
def test_without_a_server_a_write_is_refused_and_afterwards_everything_works(
    own_server: EmbeddedServer, namespace: str, gone: str
) -> None:
    def rename() -> None:
        with transaction.atomic():
            cage.name = "new"
            cage.save()

    with on(own_server, namespace):
        cage = Cage.objects.create(name="old")
        assert bus().wait_until_leased(WAIT_S)
        assert name_in_cache(cage) == "old"
        own_server.kill() if gone == "killed" else own_server.pause()
        writes = (rename, cage.save, cage.delete, lambda: Cage.objects.create(name="more"))
        for write in writes if gone == "killed" else (rename,):  # to wait for a time-out once is enough
            with pytest.raises(PublishError, match="try again when Redis can be reached"):
                write()
        assert list(Cage.objects.values_list("name", flat=True)) == ["old"]
        own_server.start() if gone == "killed" else own_server.resume()
        wait_until(lambda: name_in_cache(cage) == "old" and "cage" in cache)  # nothing is held here
        wait_until(lambda: _succeeds(rename))
        assert name_in_cache(cage) == "new"
        assert name_in_cache(Cage.objects.get()) == "new"
        assert "cage" in cache


def _succeeds(write: Callable[[], None]) -> bool:
    try:
        write()
    except PublishError:  # its connections are of the time before
        return False
    return True


@pytest.mark.usefixtures("db")
def test_a_server_that_goes_between_the_write_and_the_commit_stops_nobody(
    own_server: EmbeddedServer, namespace: str
) -> None:
    """The hold is announced; the release waits in the queue until the server is back."""
    with on(own_server, namespace), Invalidator(own_server.url, namespace=namespace, max_staleness=60) as other:
        assert other.wait_until_leased(WAIT_S)
        released = threading.Event()
        with transaction.atomic():
            cage = Cage.objects.create(name="new")
            other.on_invalidate(lambda said: released.set() if said.tags else None, tags=row_tags(cage))
            own_server.pause()
        assert not released.is_set()
        assert Cage.objects.get() == cage
        own_server.resume()
        assert released.wait(WAIT_S)


@pytest.mark.usefixtures("db")
def test_a_hold_that_ended_before_the_commit_refuses_it(server: EmbeddedServer, namespace: str) -> None:
    def rename() -> None:
        with transaction.atomic():
            cage.name = "new"
            cage.save()
            wait_until(lambda: connection._invalidator_hold._hold.remaining_s < 0)  # type: ignore[attr-defined]

    with on(server, namespace):
        cage = Cage.objects.create(name="old")
    with on(server, namespace, HOLD=0.1), pytest.raises(HoldEnded):
        rename()
    with on(server, namespace):
        assert Cage.objects.get().name == "old"
        cage.save()
    assert Cage.objects.get().name == "new"


@pytest.mark.usefixtures("db")
def test_two_writers_hold_one_name_and_their_releases_leave_nothing_behind(
    server: EmbeddedServer, namespace: str
) -> None:
    with on(server, namespace), Invalidator(server.url, namespace=namespace, max_staleness=60) as other:
        near = NearCache(other)
        assert other.wait_until_leased(WAIT_S)

        def caches() -> bool:
            """Whether the other server, having received all that was published so far, caches the table."""
            heard = threading.Event()
            stop = other.on_invalidate(lambda said: heard.set(), keys=["mark"])
            bus().invalidate("mark")
            assert heard.wait(WAIT_S)
            stop()
            near.get_or_set("cages", list, tags=["zoo.cage"])
            return "cages" in near

        second = other.hold(tags=["zoo.cage"], duration=60)
        with transaction.atomic():
            Cage.objects.create()
            assert not caches()
        assert not caches()
        second.release()
        assert caches()
        with transaction.atomic():
            Cage.objects.create()
            second = other.hold(tags=["zoo.cage"], duration=60)
            second.release()
            assert not caches()
        assert caches()


# ------------------------------------------------------------------------------------------------ a writer that dies


class Writer:
    """The process of `writer.py`."""

    def __init__(self, *arguments: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.unit.django_integration.writer", *arguments],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def says(self, word: str) -> None:
        """Wait until it has come that far."""
        assert _pipe(self._process.stdout).readline() == f"{word}\n"

    def go_on(self) -> None:
        """Let it do the next thing."""
        _pipe(self._process.stdin).write("\n")
        _pipe(self._process.stdin).flush()

    def kill(self) -> None:
        """As `kill -9` does."""
        self._process.kill()
        self._process.wait(WAIT_S)

    def end(self) -> None:
        """Clean up."""
        self.kill()
        for pipe in (self._process.stdin, self._process.stdout):
            _pipe(pipe).close()


def _pipe(pipe: IO[str] | None) -> IO[str]:
    assert pipe is not None
    return pipe


class Server:
    """Another application server: a near cache with a listener of its own."""

    def __init__(self, url: str, namespace: str, path: Path) -> None:
        # A bound that outlives any pause of a loaded machine: what leaves the cache was invalidated.
        self._bus = Invalidator(url, namespace=namespace, max_staleness=60)
        self._cache = NearCache(self._bus)
        self._path = path
        self.loads = 0
        assert self._bus.wait_until_leased(WAIT_S)

    def read(self) -> str:
        """The cage's name."""
        return self._cache.get_or_set("cage", self._load, tags=row_tags(Cage, 1))

    def has_a_copy(self) -> bool:
        return "cage" in self._cache

    def _load(self) -> str:
        self.loads += 1
        with contextlib.closing(sqlite3.connect(self._path, timeout=WAIT_S)) as database:
            [name] = database.execute("SELECT name FROM zoo_cage WHERE id = 1").fetchone()
        return str(name)

    def close(self) -> None:
        self._bus.close()


@pytest.fixture
def start(server: EmbeddedServer, namespace: str, tmp_path: Path) -> Iterator[Callable[[str], Any]]:
    """Starts a writer and, with the old name in their caches, two servers."""
    path = tmp_path / "shop.sqlite3"
    with contextlib.ExitStack() as stack:

        def start(writes: str) -> tuple[Writer, list[Server]]:
            writer = Writer(server.url, namespace, str(path), writes, str(HOLD_S))
            stack.callback(writer.end)
            writer.says("ready")
            servers = [Server(server.url, namespace, path) for _ in range(2)]
            for one in servers:
                stack.callback(one.close)
                wait_until(lambda one=one: one.read() == "old" and one.has_a_copy())
            return writer, servers

        yield start


def test_a_writer_killed_between_commit_and_publish_leaves_nothing_stale(start: Callable[[str], Any]) -> None:
    writer, servers = start("strict")
    writer.go_on()
    writer.says("written")
    for server in servers:
        wait_until(lambda server=server: not server.has_a_copy())
        assert server.read() == "old"  # not committed yet
    writer.go_on()
    writer.says("committed")
    writer.kill()
    for server in servers:
        loads = server.loads
        assert server.read() == "new"
        assert server.loads == loads + 1, "what it read while the name was held must not be cached"
    # Nobody ever releases. Every read is asserted, until the hold has ended by itself everywhere.
    wait_until(lambda: _all_read_the_new_name(servers) and all(server.has_a_copy() for server in servers))
    for server in servers:
        loads = server.loads
        assert server.read() == "new"
        assert server.loads == loads


def _all_read_the_new_name(servers: list[Server]) -> bool:
    for server in servers:
        assert server.read() == "new"
    return True


def test_without_strict_writes_the_same_death_leaves_the_old_value(start: Callable[[str], Any]) -> None:
    """What strict writes are for; and the test above can fail."""
    writer, servers = start("after_commit")
    writer.go_on()
    writer.says("written")
    writer.go_on()
    writer.says("committed")
    writer.kill()
    assert [server.read() for server in servers] == ["old", "old"]
