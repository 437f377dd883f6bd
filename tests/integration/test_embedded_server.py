"""`EmbeddedServer`, with real processes."""

import os
import signal
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import pytest

from invalidator import testing
from invalidator.testing import EmbeddedServer, EmbeddedServerError


def wait_until_gone(pid: int) -> None:
    """Wait until process *pid*, which is no child of this one, has ended; pytest's time-out bounds the wait."""
    pause = threading.Event()
    while True:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return
        stat = Path(f"/proc/{pid}/stat")
        try:
            if stat.exists() and stat.read_text().rpartition(")")[2].split()[0] == "Z":
                return  # a zombie: its parent has not waited for it yet
        except (FileNotFoundError, ProcessLookupError):
            return
        pause.wait(0.005)


def start_owner(script: str) -> "subprocess.Popen[str]":
    """Run *script* in another Python, with `server`, an embedded server; its stdout is a pipe to this process."""
    prelude = """
        import os, signal, sys, threading
        from invalidator.testing import EmbeddedServer
        server = EmbeddedServer()
    """
    code = textwrap.dedent(prelude) + textwrap.dedent(script)
    return subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


class TestItsLife:
    def test_answers_when_start_returns(self, server: EmbeddedServer) -> None:
        """A caller need not wait or retry after start()."""
        assert server.running
        assert server.command("PING") == "PONG"

    @pytest.mark.parametrize("unix_socket", [False, True])
    def test_leaves_nothing_behind(self, unix_socket: bool) -> None:
        with EmbeddedServer(unix_socket=unix_socket) as server:
            pid, (_, data) = server.pid, server.command("CONFIG", "GET", "dir")
            assert Path(data).is_dir()
        wait_until_gone(pid)
        assert not Path(data).parent.exists()

    def test_stops_twice_and_unstarted(self) -> None:
        server = EmbeddedServer()
        server.stop()
        server.start()
        server.stop()
        server.stop()
        assert not server.running

    def test_stops_while_paused(self, own_server: EmbeddedServer) -> None:
        """A paused server ignores SIGTERM until it is resumed; only SIGKILL ends it."""
        pid = own_server.pid
        own_server.pause()
        own_server.stop()
        wait_until_gone(pid)

    def test_start_on_a_running_server_does_nothing(self, own_server: EmbeddedServer) -> None:
        pid = own_server.pid
        own_server.start()
        assert own_server.pid == pid

    def test_keeps_to_itself(self, own_server: EmbeddedServer) -> None:
        """It listens on loopback only, writes nothing to the disk, and takes no port that a Redis usually has."""
        assert own_server.command("CONFIG", "GET", "bind") == ["bind", "127.0.0.1"]
        assert own_server.command("CONFIG", "GET", "save") == ["save", ""]
        assert own_server.command("CONFIG", "GET", "appendonly") == ["appendonly", "no"]
        assert ":6379/" not in own_server.url
        assert 6379 not in testing.PORTS

    def test_a_unix_socket_opens_no_port(self) -> None:
        with EmbeddedServer(unix_socket=True) as server:
            assert server.url.startswith("unix:///")
            assert server.command("CONFIG", "GET", "port") == ["port", "0"]

    def test_two_at_once_share_nothing(self, server: EmbeddedServer, own_server: EmbeddedServer) -> None:
        assert server.url != own_server.url
        assert server.pid != own_server.pid
        own_server.command("SET", "only-here", 1)
        assert server.command("EXISTS", "only-here") == 0

    def test_takes_another_port_when_one_is_taken(
        self, server: EmbeddedServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """After a port was found free another process may take it, and may even answer PING."""
        taken = int(str(server.command("CONFIG", "GET", "port")[1]))
        offers = iter([taken, taken, testing._free_port()])
        monkeypatch.setattr(testing, "_free_port", lambda: next(offers))
        with EmbeddedServer() as second:
            assert second.url != server.url
            assert second.pid != server.pid
        assert server.command("PING") == "PONG"


class TestFaults:
    def test_kill_and_start_come_back_at_the_same_address(self, own_server: EmbeddedServer) -> None:
        url, pid = own_server.url, own_server.pid
        own_server.kill()
        assert not own_server.running
        assert own_server.url == url
        with pytest.raises(OSError):
            own_server.command("PING")
        own_server.start()
        assert own_server.url == url
        assert own_server.pid != pid
        assert own_server.command("PING") == "PONG"

    def test_a_server_that_died_by_itself_can_be_started_again(self, own_server: EmbeddedServer) -> None:
        os.kill(own_server.pid, signal.SIGKILL)
        own_server.kill()  # it waits for the end
        own_server.start()
        assert own_server.command("PING") == "PONG"

    @pytest.mark.parametrize("unix_socket", [False, True])
    def test_restart_forgets_or_keeps(self, unix_socket: bool) -> None:
        with EmbeddedServer(unix_socket=unix_socket) as server:
            url = server.url
            server.command("SET", "key", "value")
            server.restart(persist=True)
            assert server.command("GET", "key") == "value"
            server.restart()
            assert server.command("GET", "key") is None
            assert server.url == url

    def test_a_kill_rolls_back_to_what_was_saved(self, own_server: EmbeddedServer) -> None:
        """As a crash of a Redis with snapshots: an accepted write is lost, an older state is back."""
        own_server.command("SET", "key", "old")
        own_server.command("SAVE")
        own_server.command("SET", "key", "new")
        own_server.kill()
        own_server.start()
        assert own_server.command("GET", "key") == "old"

    def test_pause_answers_nothing_until_resume(self, own_server: EmbeddedServer) -> None:
        own_server.pause()
        with pytest.raises(TimeoutError):
            own_server.command("PING", timeout_s=0.05)
        assert own_server.running
        own_server.resume()
        assert own_server.command("PING") == "PONG"

    def test_a_dead_server_cannot_be_paused(self, own_server: EmbeddedServer) -> None:
        """A test whose fault was not injected would pass in vain."""
        own_server.kill()
        with pytest.raises(EmbeddedServerError, match="not running"):
            own_server.pause()


class TestItsOwner:
    """No server outlives the process that started it."""

    def test_dies_when_its_owner_is_killed(self) -> None:
        """Nothing in the owner runs after kill -9: neither atexit, nor a finally, nor a signal handler."""
        with start_owner("print(server.start().pid, server._directory, flush=True); sys.stdin.read()") as owner:
            pid, directory = owner.stdout.readline().split()
            os.kill(int(pid), 0)
            owner.kill()
            wait_until_gone(int(pid))
        while Path(directory).exists():
            threading.Event().wait(0.005)

    def test_dies_when_its_owner_just_ends(self) -> None:
        with start_owner("print(server.start().pid, flush=True); os._exit(0)") as owner:
            wait_until_gone(int(owner.stdout.readline()))

    def test_outlives_the_thread_that_started_it(self) -> None:
        """PR_SET_PDEATHSIG would kill the server when the thread ends."""
        server = EmbeddedServer()
        thread = threading.Thread(target=server.start)
        thread.start()
        thread.join()
        try:
            assert server.command("PING") == "PONG"
        finally:
            server.stop()

    def test_dies_with_its_owner_while_a_fork_lives_on(self) -> None:
        """A forked child inherits the pipe; holding it open would keep the server alive."""
        script = """
            server.start()
            if not os.fork():
                server.kill()
                server.stop()
                os.write(1, f"{server.command('PING')}\\n".encode())  # one write: print() makes two
                sys.stdin.read()
                os._exit(0)
            os.write(1, f"{server.pid}\\n".encode())
            signal.pause()
        """
        with start_owner(script) as owner:
            first, second = sorted(owner.stdout.readline().strip() for _ in range(2))
            assert second == "PONG"  # The child could use the server, and did not end it.
            owner.kill()
            wait_until_gone(int(first))
            owner.stdin.close()  # Now the child ends, too.

    def test_a_forked_child_cannot_start_it(self) -> None:
        script = """
            pid = os.fork()
            if not pid:
                try:
                    server.start()
                except Exception as error:
                    print(error, flush=True)
                os._exit(0)
            os.waitpid(pid, 0)
        """
        with start_owner(script) as owner:
            assert "belongs to the parent process" in owner.stdout.readline()

    def test_ctrl_c_is_for_the_owner(self, own_server: EmbeddedServer) -> None:
        """A terminal signals the whole process group, and the owner needs its server while it shuts down."""
        assert os.getpgid(own_server.pid) != os.getpgid(0)


class TestItsConfiguration:
    def test_takes_further_settings(self) -> None:
        limit = "normal 0 0 0 slave 268435456 67108864 60 pubsub 1048576 1048576 0"
        config = {"maxmemory": "20mb", "client-output-buffer-limit": limit}
        with EmbeddedServer(config=config) as server:
            assert server.command("CONFIG", "GET", "maxmemory") == ["maxmemory", str(20 * 2**20)]
            assert server.command("CONFIG", "GET", "client-output-buffer-limit")[1] == limit

    @pytest.mark.parametrize("name", ["port", "bind", "dir", "daemonize", "unixsocket"])
    def test_chooses_its_place_itself(self, name: str) -> None:
        with pytest.raises(ValueError, match=f"may not set {name}"):
            EmbeddedServer(config={name: 6379})

    def test_shows_the_log_of_a_server_that_dies_at_start(self) -> None:
        server = EmbeddedServer(config={"no-such-setting": 1})
        with pytest.raises(EmbeddedServerError, match=r"(?s)ended at its start.*no-such-setting"):
            server.start()
        assert not server.running

    def test_refuses_what_is_no_server(self) -> None:
        """A program that starts and ends without an error is no server either."""
        with pytest.raises(EmbeddedServerError, match="ended at its start"):
            EmbeddedServer(binary="true").start()

    def test_find_debug_allowed(self, own_server: EmbeddedServer) -> None:
        """Torture tests use DEBUG SLEEP, which servers refuse by default."""
        assert own_server.command("DEBUG", "SLEEP", 0) == "OK"
