"""The console script as a process, on a real server. Reading a line waits for it; pytest's time-out bounds that."""

import array
import fcntl
import json
import os
import queue
import signal
import subprocess
import sys
import termios
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from invalidator import Invalidation, Invalidator
from invalidator.testing import EmbeddedServer

SCRIPT = Path(sys.executable).with_name("invalidator")

Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def environment(redis_url: str, namespace: str) -> dict[str, str]:
    """Variables with URL and namespace. Output is buffered, as by default; a CI often turns that off."""
    ours = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    return {**ours, "INVALIDATOR_URL": redis_url, "INVALIDATOR_NAMESPACE": namespace}


@pytest.fixture
def bus(redis_url: str, namespace: str) -> Iterator[Invalidator]:
    with Invalidator(redis_url, namespace=namespace, publish="raise") as bus:
        yield bus


@pytest.fixture
def start(environment: dict[str, str]) -> Iterator[Start]:
    """Start the script with arguments; at the end of the test it is killed, if it still runs."""
    with ExitStack() as stack:

        def start(*arguments: str, **more: str) -> "subprocess.Popen[str]":
            process = subprocess.Popen(
                [SCRIPT, *arguments],
                env={**environment, **more},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            stack.enter_context(process)
            stack.callback(process.kill)
            return process

        yield start


def finish(process: "subprocess.Popen[str]") -> tuple[int, str, str]:
    """Wait for the end; return the exit code, and the output that has not been read yet."""
    out, err = process.communicate()
    return process.returncode, out, err


def read_line(process: "subprocess.Popen[str]") -> str:
    """The next line of stdout."""
    assert process.stdout is not None
    return process.stdout.readline().rstrip("\n")


def read_json(process: "subprocess.Popen[str]", kind: str) -> dict[str, Any]:
    """The next line of `watch --json` of that *kind*."""
    assert process.stdout is not None
    for line in process.stdout:
        record: dict[str, Any] = json.loads(line)
        if record["type"] == kind:
            return record
    raise AssertionError(f"the end came before {kind}: {finish(process)}")


def read_news(process: "subprocess.Popen[str]", kind: str) -> str:
    """The next line of stderr with this *kind* of news about the connection of `watch`."""
    assert process.stderr is not None
    for line in process.stderr:
        if line.split("  ")[1] == kind:
            return line.rstrip("\n")
    raise AssertionError(f"the end came before {kind}: {finish(process)}")


def channel(namespace: str) -> str:
    return f"invalidator:{{{namespace}}}:messages"


def wait_until_stuck(process: "subprocess.Popen[str]") -> None:
    """Return when *process* has written to its stdout, and then nothing more for a while."""
    assert process.stdout is not None
    pause = threading.Event()
    before = 0
    while not before or before != unread(process.stdout.fileno()):
        before = unread(process.stdout.fileno())
        pause.wait(0.05)


def unread(pipe: int) -> int:
    """How many bytes wait in a pipe."""
    count = array.array("i", [0])
    fcntl.ioctl(pipe, termios.FIONREAD, count)
    return count[0]


class TestInvalidate:
    def test_is_received(self, start: Start, bus: Invalidator) -> None:
        received: queue.SimpleQueue[Invalidation] = queue.SimpleQueue()
        bus.on_invalidate(received.put, keys=["product:42"])
        assert bus.wait_until_leased(timeout=60)
        code, out, err = finish(start("invalidate", "product:42", "--tag", "prices", "--json"))
        assert (code, err) == (0, "")
        printed = json.loads(out)
        messages = iter(received.get, None)
        message = next(message for message in messages if message.reason == "invalidate")
        assert (message.keys, message.tags, message.id) == (("product:42",), ("prices",), printed["id"])
        assert printed["listeners"] == 1

    def test_clears(self, start: Start, bus: Invalidator) -> None:
        received: queue.SimpleQueue[Invalidation] = queue.SimpleQueue()
        bus.on_invalidate(received.put)
        assert bus.wait_until_leased(timeout=60)
        code, _, _ = finish(start("invalidate", "--clear", "--yes"))
        assert code == 0
        while received.get().reason != "clear":
            pass

    def test_options_name_the_place(self, start: Start, redis_url: str, namespace: str) -> None:
        nowhere = {"INVALIDATOR_URL": "", "INVALIDATOR_NAMESPACE": ""}
        code, out, _ = finish(start("--url", redis_url, "invalidate", "a", "--namespace", namespace, **nowhere))
        assert code == 0
        assert out.startswith("accepted  keys a  listeners 0  id ")

    def test_redis_away_is_one_line(self, start: Start, own_server: EmbeddedServer) -> None:
        own_server.kill()
        code, out, err = finish(start("--url", own_server.url, "invalidate", "product:42"))
        assert (code, out) == (1, "")
        (line,) = err.splitlines()
        assert line.startswith("invalidator: Redis did not accept the invalidation: ")

    def test_a_server_that_does_not_answer_is_one_line(self, start: Start, own_server: EmbeddedServer) -> None:
        own_server.pause()
        code, out, err = finish(start("--url", own_server.url, "invalidate", "product:42"))
        assert (code, out, len(err.splitlines())) == (1, "", 1)

    @pytest.mark.parametrize("name", [b"", b"k" * 513, b"\xff"])
    def test_a_bad_name_is_one_line(self, name: bytes, environment: dict[str, str]) -> None:
        """Bytes: a shell passes nothing else."""
        result = subprocess.run(
            [os.fsencode(SCRIPT), b"invalidate", name], env=environment, capture_output=True, text=True, check=False
        )
        assert (result.returncode, result.stdout, len(result.stderr.splitlines())) == (2, "", 1)
        assert result.stderr.startswith("invalidator: a key m")

    def test_a_reader_that_has_gone_is_no_failure(self, environment: dict[str, str]) -> None:
        """`invalidator invalidate a | true`: the invalidation was accepted."""
        reader, writer = os.pipe()
        os.close(reader)
        command = [SCRIPT, "invalidate", "a"]
        result = subprocess.run(command, env=environment, stdout=writer, stderr=subprocess.PIPE, check=False)
        os.close(writer)
        assert (result.returncode, result.stderr) == (0, b"")


class TestWatch:
    def test_prints_a_line_for_each_message_at_once(self, start: Start, bus: Invalidator, namespace: str) -> None:
        watch = start("watch")
        assert read_news(watch, "listening").endswith(f"namespace {namespace}")
        id = bus.invalidate("product:42", tags=["prices"]).id
        time, *words = read_line(watch).split("  ")
        assert words == ["invalidate", "keys product:42", "tags prices", f"node {bus.node}", f"id {id}"]
        assert len(time) == len("12:34:56.789")
        id = bus.clear().id
        assert read_line(watch).split("  ")[1:] == ["clear", f"node {bus.node}", f"id {id}"]

    def test_prints_json_lines(self, start: Start, bus: Invalidator, namespace: str) -> None:
        watch = start("watch", "--json")
        assert read_json(watch, "listening")["namespace"] == namespace
        id = bus.invalidate("product:42", tags=["prices"]).id
        printed = json.loads(read_line(watch))
        assert printed.pop("at")
        assert printed == {"type": "invalidate", "keys": ["product:42"], "tags": ["prices"], "node": bus.node, "id": id}

    def test_shows_only_what_concerns_a_name_and_ends_after_count(self, start: Start, bus: Invalidator) -> None:
        watch = start("watch", "--key", "product:42", "--tag", "prices", "--count", "3")
        read_news(watch, "listening")
        bus.invalidate("product:43", tags=["stock"])
        first = bus.invalidate("product:42")
        second = bus.invalidate("product:43", tags=["prices"])
        third = bus.clear()  # it concerns every name
        bus.invalidate("product:42")
        code, out, err = finish(watch)
        assert [line.rpartition("  id ")[2] for line in out.splitlines()] == [first.id, second.id, third.id]
        assert (code, err) == (0, "")

    def test_what_was_typed_into_redis_cli_stays_one_line(
        self, start: Start, server: EmbeddedServer, namespace: str
    ) -> None:
        watch = start("watch")
        read_news(watch, "listening")
        body = json.dumps({"v": 1, "keys": ["line\nbreak\x1b[2J"], "node": "\r"})
        server.command("PUBLISH", channel(namespace), body)
        assert read_line(watch).split("  ")[1:] == ["invalidate", r'keys "line\nbreak\u001b[2J"', r"node \r"]

    def test_prints_why_everything_is_void(
        self, start: Start, bus: Invalidator, server: EmbeddedServer, namespace: str
    ) -> None:
        """An unreadable message may have been an invalidation: every listener flushes, and `watch` prints the flush."""
        watch = start("watch")
        read_news(watch, "listening")
        server.command("PUBLISH", channel(namespace), "nonsense")
        assert "  reason unreadable message" in read_news(watch, "flush")

    def test_prints_a_gap(self, start: Start, bus: Invalidator, server: EmbeddedServer, namespace: str) -> None:
        watch = start("watch", "--json")
        read_json(watch, "listening")
        server.command("PUBLISH", channel(namespace), '9-9 9-8 {"v":1,"keys":["a"]}')
        assert "9-8" in read_json(watch, "gap")["reason"]
        id = bus.invalidate("product:42").id
        assert read_json(watch, "invalidate")["id"] == id

    def test_prints_a_cut_connection_and_what_was_published_since(
        self, start: Start, own_server: EmbeddedServer, namespace: str
    ) -> None:
        with Invalidator(own_server.url, namespace=namespace) as bus:
            watch = start("watch", "--json", "--url", own_server.url)
            read_json(watch, "listening")
            own_server.command("CLIENT", "KILL", "TYPE", "pubsub")
            id = bus.invalidate("product:42").id
            assert read_json(watch, "disconnected")["reason"]
            # It comes live or from the journal, so before or after the news of the new connection.
            printed = [json.loads(read_line(watch)) for _ in range(2)]
            assert {line["type"] for line in printed} == {"reconnected", "invalidate"}
            assert {line["id"] for line in printed if line["type"] == "invalidate"} == {id}

    def test_waits_for_a_server_that_is_away(self, start: Start, own_server: EmbeddedServer) -> None:
        own_server.kill()
        watch = start("watch", "--url", own_server.url)
        assert "refused" in read_news(watch, "disconnected")
        own_server.start()
        read_news(watch, "listening")

    def test_prints_a_restart_and_the_flush_that_it_costs(self, start: Start, own_server: EmbeddedServer) -> None:
        watch = start("watch", "--json", "--url", own_server.url)
        read_json(watch, "listening")
        own_server.restart()
        for kind in ("disconnected", "flush", "reconnected"):
            read_json(watch, kind)


class TestTheEndOfWatch:
    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
    @pytest.mark.parametrize("options", [[], ["--json"]])
    def test_a_signal_ends_it_quietly(self, number: signal.Signals, options: list[str], start: Start) -> None:
        watch = start("watch", *options)
        read_json(watch, "listening") if options else read_news(watch, "listening")
        watch.send_signal(number)
        assert finish(watch) == (0, "", "")

    def test_a_signal_ends_it_while_redis_is_away(self, start: Start, own_server: EmbeddedServer) -> None:
        own_server.kill()
        watch = start("watch", "--json", "--url", own_server.url)
        read_json(watch, "disconnected")
        watch.send_signal(signal.SIGTERM)
        code, _, err = finish(watch)
        assert (code, err) == (0, "")

    def test_a_signal_ends_it_while_its_output_is_not_read(self, start: Start, bus: Invalidator) -> None:
        """Piped into a pager that is not scrolled: the pipe is full, and `print` does not return."""
        watch = start("watch", "--json")
        assert watch.stdout is not None
        read_json(watch, "listening")
        keys = [f"product:{n}" for n in range(1000)]
        for _ in range(40):  # half a megabyte; a pipe holds 64 KiB
            bus.invalidate(*keys)
        wait_until_stuck(watch)
        watch.send_signal(signal.SIGTERM)
        assert watch.wait() == 0

    def test_a_reader_that_has_gone_ends_it_quietly(self, start: Start, bus: Invalidator) -> None:
        """`invalidator watch | head -1`."""
        watch = start("watch")
        read_news(watch, "listening")
        assert watch.stdout is not None
        watch.stdout.close()
        bus.invalidate("product:42")
        assert watch.stderr is not None
        assert watch.stderr.read() == ""
        assert watch.wait() == 0
