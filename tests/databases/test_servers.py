"""The server that this run's database tests are on: it answers, and leaves nothing behind."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.databases.chosen import chosen
from tests.databases.servers import DATABASES, GUARDIAN, DatabaseServer, DatabaseServerError
from tests.support import in_child, wait_until

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def kind() -> type[DatabaseServer]:
    """That of this run; of SQLite there is a directory, and what holds its place."""
    return DATABASES[chosen()]


OWNER = """
import sys, time
from tests.databases.servers import DATABASES
server = DATABASES[sys.argv[1]]().start()
print(server.directory, flush=True)
time.sleep(600)
"""


def processes_in(directory: Path) -> list[int]:
    """The processes that name *directory* on their command line."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                line = (entry / "cmdline").read_bytes()
            except OSError:  # it has just ended
                continue
            if str(directory).encode() in line:
                found.append(int(entry.name))
    return found


def test_stopped_it_is_gone(kind: type[DatabaseServer]) -> None:
    with kind() as server:
        directory = server.directory
        assert server.running
        assert len(processes_in(directory)) >= 2
    assert not directory.exists()
    assert processes_in(directory) == []


def test_a_signal_to_every_process_of_a_run_leaves_nothing(kind: type[DatabaseServer]) -> None:
    """Its guardian gets the signal, too, and must outlive it: the server ends with its owner."""
    with kind() as server:
        directory = server.directory
        assert server._guardian is not None
        server._guardian.send_signal(signal.SIGTERM)
    assert processes_in(directory) == []


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_it_dies_with_its_owner(kind: type[DatabaseServer], how: signal.Signals) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", OWNER, kind.name], cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as owner:
        assert owner.stdout is not None
        directory = Path(owner.stdout.readline().strip())
        assert len(processes_in(directory)) >= 2
        owner.send_signal(how)
    wait_until(lambda: not directory.exists() and not processes_in(directory))


def test_an_owner_killed_while_it_prepares_leaves_nothing(kind: type[DatabaseServer], tmp_path: Path) -> None:
    owner = "import sys; from tests.databases.servers import DATABASES; DATABASES[sys.argv[1]]().start()"
    with subprocess.Popen(
        [sys.executable, "-c", owner, kind.name], cwd=ROOT, env={**os.environ, "TMPDIR": str(_open_to_all(tmp_path))}
    ) as process:
        wait_until(lambda: len(processes_in(tmp_path)) >= 2 or process.poll() is not None)  # SQLite is ready at once
        process.kill()
    wait_until(lambda: not processes_in(tmp_path) and not list(tmp_path.iterdir()))


def test_an_owner_that_reads_nothing_any_more_leaves_nothing(tmp_path: Path) -> None:
    directory = tmp_path / "data"
    directory.mkdir()
    log = directory / "server.log"
    log.touch()
    what = {"directory": str(directory), "user": None, "group": None, "prepare": []}
    what |= {"serve": ["tail", "-f", str(log)], "end": signal.SIGKILL}
    reading, writing = os.pipe()
    os.close(reading)
    with subprocess.Popen(
        [sys.executable, "-I", "-S", GUARDIAN, json.dumps(what)],
        stdin=subprocess.PIPE,
        stdout=writing,
        stderr=subprocess.DEVNULL,
    ) as guardian:
        os.close(writing)
        wait_until(lambda: len(processes_in(directory)) >= 2 or guardian.poll() is not None)
    assert not directory.exists()
    assert not processes_in(directory)


def _open_to_all(directory: Path) -> Path:
    """The server's user goes through here."""
    for one in (directory, *directory.parents):
        if one.stat().st_uid == os.getuid() and one != Path("/"):
            one.chmod(one.stat().st_mode | 0o011)
    return directory


def test_a_forked_child_neither_holds_nor_ends_it(kind: type[DatabaseServer]) -> None:
    with kind() as server:
        in_child(server.stop)
        assert server.running
        server._connect()


def test_a_server_that_cannot_prepare_says_why(kind: type[DatabaseServer], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kind, "_commands", lambda *_: ([["ls", "--no-such-option"]], ["true"]))
    with pytest.raises(DatabaseServerError, match=r"could not prepare its data[\s\S]*no-such-option"):
        kind().start()


def refuse(server: DatabaseServer) -> None:
    raise ConnectionError("nobody is there")


def test_a_server_that_ends_at_its_start_says_why(kind: type[DatabaseServer], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kind, "_commands", lambda *_: ([], ["ls", "--no-such-option"]))
    monkeypatch.setattr(kind, "_connect", refuse)  # it may end before it is asked, or after
    with pytest.raises(DatabaseServerError, match=r"ended at its start[\s\S]*no-such-option"):
        kind().start()
