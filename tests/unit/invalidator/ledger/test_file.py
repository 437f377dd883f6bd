"""The ledger in a file: created whole, written by one, read by many, and refused when it is not what it should be."""

import errno
import os
import random
import signal
import stat
import subprocess
import sys
import textwrap
from collections.abc import Callable
from contextlib import suppress
from hashlib import blake2b
from pathlib import Path
from typing import Any

import pytest

import invalidator.ledger.table as ledger_module
from invalidator.entry import Entry, ValidityRule
from invalidator.errors import InvalidSetting, LedgerFileError
from invalidator.ledger import (
    BOOT,
    CHANGES,
    EPOCH,
    FLUSHED_AT,
    HEADER_WORDS,
    LAYOUT_WORD,
    LISTENING_SINCE,
    MAGIC_WORD,
    POSITION_MS,
    POSITION_SEQ,
    PROVEN_AT,
    RING,
    SERVER_RUN,
    SLOTS_WORD,
    WRITER,
    Ledger,
    LedgerView,
    now_ns,
)
from invalidator.ledger.file import MODE, LedgerFile, boot, default_path, writing
from tests.support import PATIENCE_S, RecordingWords

SLOTS = 64


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger"


def write(path: Path, *, namespace: str = "shop", slots: int = SLOTS) -> Any:
    return writing(path, namespace=namespace, slots=slots)


def read(path: Path, *, any_owner: bool = False) -> LedgerFile:
    return LedgerFile(path, namespace="shop", any_owner=any_owner)


class TestANewFile:
    def test_is_whole_when_it_is_seen(self, path) -> None:
        """It is made beside its place and renamed: a reader finds all of it or nothing."""
        before = now_ns()
        with write(path) as ledger:
            found = path.stat()
            assert found.st_size == 8 * (HEADER_WORDS + SLOTS)
            assert found.st_blocks * 512 >= found.st_size
            assert stat.S_IMODE(found.st_mode) == MODE == 0o640
            assert ledger.words[WRITER] == os.getpid()
            assert before <= ledger.words[CHANGES] == ledger.words[FLUSHED_AT] <= now_ns()
            assert ledger.words[LISTENING_SINCE] == ledger.words[FLUSHED_AT]
            assert ledger.words[RING] == 0
            assert ledger.words[PROVEN_AT] == 0

    def test_is_dated_by_the_clock_of_its_owner(self, path, clock) -> None:
        """What was loaded before is void by the clock that dates loads, too."""
        with writing(path, namespace="shop", slots=SLOTS, clock=clock) as ledger:
            assert ledger.words[CHANGES] == ledger.words[FLUSHED_AT] == clock()
            ledger.prove(clock.advance(1))
            LedgerFile(path, namespace="shop", clock=clock)
            clock.advance(-1)
            with pytest.raises(LedgerFileError, match="its clock is not ours"):
                LedgerFile(path, namespace="shop", clock=clock)

    def test_its_mode_does_not_depend_on_the_umask(self, path) -> None:
        """A worker of the same group must be able to read it."""
        before = os.umask(0o077)
        try:
            with write(path):
                assert stat.S_IMODE(path.stat().st_mode) == MODE
        finally:
            os.umask(before)

    def test_it_names_the_boot(self, path) -> None:
        """As docs/ledger-format.md says, so that other languages can check it."""
        boot_id = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        text = boot_id + str(Path("/proc/self/ns/time").readlink())
        with write(path) as ledger:
            digest = blake2b(text.encode(), digest_size=8).digest()
            assert ledger.words[BOOT] == boot() == int.from_bytes(digest, "big") >> 1

    def test_a_full_disk_is_an_error_and_leaves_nothing_behind(self, path, monkeypatch) -> None:
        """Its blocks are reserved: otherwise the first stamp on an unreserved page would be a SIGBUS."""

        def full(descriptor: int, offset: int, size: int) -> None:
            assert size == 8 * (HEADER_WORDS + SLOTS)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        monkeypatch.setattr(os, "posix_fallocate", full)
        with (
            pytest.raises(LedgerFileError, match="No space left on device; make room or take fewer slots"),
            write(path),
        ):
            pass
        assert [it.name for it in path.parent.iterdir()] == ["ledger.lock"]

    def test_a_place_that_cannot_be_written_is_named(self, tmp_path) -> None:
        with (
            pytest.raises(LedgerFileError, match=r"cannot write beside .*nowhere/ledger"),
            write(tmp_path / "nowhere/ledger"),
        ):
            pass

    def test_what_a_killed_writer_left_half_done_is_removed(self, path) -> None:
        """A crash loop must not fill the memory."""
        (path.parent / ".ledger.new").write_bytes(b"half")
        with write(path):
            assert sorted(it.name for it in path.parent.iterdir()) == ["ledger", "ledger.lock"]


class TestReading:
    def test_a_reader_sees_what_is_written(self, path) -> None:
        with write(path) as ledger:
            view = read(path).view
            ledger.stamp([3], 2**62)
            ledger.prove(7)
            assert view.slots == SLOTS
            assert view.newest_stamp([3]) == 2**62
            assert view.read_lease() == (7, ledger.words[CHANGES])

    def test_it_cannot_write(self, path) -> None:
        """A bug in a worker must not make the others believe it."""
        with write(path), pytest.raises(TypeError, match="read-only"):
            read(path).view.words[CHANGES] = 1

    def test_it_keeps_what_it_mapped(self, path) -> None:
        """Sidecars come and go, and so do files."""
        with write(path) as ledger:
            file = read(path)
            ledger.stamp([3], 2**62)
        assert not file.was_replaced()
        path.unlink()
        assert file.was_replaced()
        with write(path):
            assert file.was_replaced()
            assert file.view.newest_stamp([3]) == 2**62
            assert read(path).view.newest_stamp([3]) < 2**62

    @pytest.mark.parametrize(
        ("word", "value", "why"),
        [
            (MAGIC_WORD, 1, "its magic is 1"),
            (LAYOUT_WORD, 1, "its layout version is 1, not 2"),
            (SLOTS_WORD, 65, "its size in slots is 65, not 64"),
            (RING, 1, "its size in slots is 65, not 64"),
            (BOOT, 7, "its boot is 7"),
            (PROVEN_AT, 2**62, "its last proof lies in the future"),
            (24, int.from_bytes(b"bank", "little"), "its namespace is 'bank', not 'shop'"),
        ],
    )
    def test_a_header_that_does_not_fit_is_refused(self, path, word, value, why) -> None:
        """Each by itself would be misread: as another table, another clock, another application."""
        with write(path) as ledger:
            ledger.words[word] = value
            with pytest.raises(LedgerFileError, match=why):
                read(path)

    @pytest.mark.parametrize("size", [0, 8, 8 * HEADER_WORDS - 8, 8 * (HEADER_WORDS + SLOTS) - 1])
    def test_a_size_that_no_ledger_has_is_refused(self, path, size) -> None:
        with write(path):
            pass
        os.truncate(path, size)
        with pytest.raises(LedgerFileError, match=f"no ledger: it has {size} bytes"):
            read(path)

    def test_a_truncated_table_is_refused(self, path) -> None:
        """The header is whole, the last slots are not there: reading them would be a SIGBUS."""
        with write(path):
            pass
        os.truncate(path, 8 * (HEADER_WORDS + SLOTS - 1))
        with pytest.raises(LedgerFileError, match="its size in slots is 64, not 63"):
            read(path)

    def test_a_ring_behind_the_slots_is_room_for_a_later_version(self, path) -> None:
        """Whoever does not know it reads the slots. A writer that would not go on with it makes a new file."""
        with write(path, slots=SLOTS + 16) as ledger:
            ledger.words[SLOTS_WORD], ledger.words[RING] = SLOTS, 16
            file = read(path)
            assert file.view.slots == SLOTS
        with write(path):
            assert file.was_replaced()

    @pytest.mark.parametrize("mode", [0o660, 0o642, 0o666])
    def test_a_file_that_others_can_write_is_refused(self, path, mode) -> None:
        """Whoever writes it says what is valid."""
        with write(path):
            path.chmod(mode)
            with pytest.raises(LedgerFileError, match=f"can be written by others .mode {mode:o}., it should be 640"):
                read(path)

    def test_a_strangers_file_is_refused_unless_its_path_was_named(self, path, monkeypatch) -> None:
        """In /dev/shm whoever comes first owns the name."""
        fstat = os.fstat
        with write(path):
            monkeypatch.setattr(os, "fstat", lambda it: os.stat_result((*(found := fstat(it))[:4], 4711, *found[5:])))
            with pytest.raises(LedgerFileError, match="belongs to user 4711"):
                read(path)
            assert read(path, any_owner=True).view.slots == SLOTS

    def test_what_is_no_file_is_refused_without_waiting(self, path) -> None:
        """A FIFO at the default place, put there by anybody, must not hang every worker of the host."""
        with pytest.raises(LedgerFileError, match="No such file"):
            read(path)
        os.mkfifo(path)
        with pytest.raises(LedgerFileError, match="is not a regular file"):
            read(path)
        path.unlink()
        path.mkdir()
        with pytest.raises(LedgerFileError, match="is not a regular file"):
            read(path)

    def test_a_link_is_not_followed(self, path, tmp_path) -> None:
        with write(tmp_path / "other"):
            path.symlink_to(tmp_path / "other")
            with pytest.raises(LedgerFileError, match="no ledger at"):
                read(path)

    def test_a_32_bit_python_gets_none(self, path, monkeypatch) -> None:
        """It would see halves of words."""
        with write(path):
            monkeypatch.setattr(sys, "maxsize", 2**31 - 1)
            with pytest.raises(LedgerFileError, match="not a 64-bit one"):
                read(path)

    def test_a_failing_map_is_a_refusal_too(self, path, monkeypatch) -> None:
        """Out of memory or descriptors while looking for a new file: a request must not fail for it."""

        def fail(*arguments: object, **options: object) -> None:
            raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))

        with write(path):
            monkeypatch.setattr("invalidator.ledger.file.mmap.mmap", fail)
            with pytest.raises(LedgerFileError, match=r"cannot map .* Cannot allocate memory"):
                read(path)


class TestOneWriter:
    def test_a_second_one_is_refused_and_told_who_is_first(self, path) -> None:
        refusal = pytest.raises(LedgerFileError, match=rf"another sidecar \(pid {os.getpid()}\) writes")
        with write(path), refusal, write(path):
            pass

    def test_who_has_ended_makes_room_though_his_map_lives_on(self, path) -> None:
        """A sidecar that mends a ledger in the same process."""
        with write(path) as ledger:
            pass
        with write(path):
            assert ledger.words[SLOTS_WORD] == SLOTS

    def test_also_when_somebody_has_deleted_the_lock(self, path) -> None:
        """Two writers of one count lose each other's changes, and readers miss a stamp for ever."""
        with write(path):
            path.with_name("ledger.lock").unlink()
            with pytest.raises(LedgerFileError, match="another sidecar"), write(path):
                pass

    def test_readers_do_not_keep_the_next_writer_away(self, path) -> None:
        with write(path):
            file = read(path)
        with write(path) as ledger:
            ledger.prove(9)
            assert file.view.read_lease()[0] == 9

    def test_a_killed_one_makes_room_at_once(self, path) -> None:
        """The system frees its locks. What it wrote is taken over, and every reader looks again."""
        script = """
            import sys, signal
            from pathlib import Path
            from invalidator.ledger.file import writing
            with writing(Path(sys.argv[1]), namespace="shop", slots=64) as ledger:
                ledger.stamp([5], 2**62)
                ledger.prove(7)
                ledger.move((12, 3), 4, 5)
                print("ready", flush=True)
                signal.pause()
        """
        command = [sys.executable, "-c", textwrap.dedent(script), str(path)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[4]) as writer:
            assert writer.stdout is not None
            assert writer.stdout.readline() == "ready\n"
            with pytest.raises(LedgerFileError, match=rf"\(pid {writer.pid}\)"), write(path):
                pass
            view = read(path).view
            writer.kill()
            writer.wait(PATIENCE_S)
        _, changes = view.read_lease()
        with write(path) as ledger:
            words = ledger.words
            assert [words[index] for index in (POSITION_MS, POSITION_SEQ, SERVER_RUN, EPOCH)] == [12, 3, 4, 5]
            assert view.newest_stamp([5]) == 2**62
            assert view.read_lease() == (7, changes + 1)

    @pytest.mark.parametrize(
        "spoil",
        [
            lambda path: path.write_bytes(b"\0" * 4096),
            lambda path: os.truncate(path, 8 * HEADER_WORDS),
            lambda path: path.chmod(0o666),
            lambda path: _poke(path, BOOT, 7),
            lambda path: _poke(path, PROVEN_AT, 2**62),
            lambda path: _poke(path, LAYOUT_WORD, 9),
            lambda path: (path.unlink(), path.symlink_to("elsewhere")),
            lambda path: (path.unlink(), os.mkfifo(path)),
        ],
    )
    def test_what_does_not_fit_is_replaced(self, path, spoil) -> None:
        """By a new file, never by writing into it: somebody may have it mapped."""
        with write(path) as ledger:
            ledger.move((12, 3), 4, 5)
            before = ledger.words[CHANGES]
        spoil(path)
        with write(path) as ledger:
            assert ledger.words[POSITION_MS] == 0
            assert ledger.words[CHANGES] > before
            assert read(path).view.slots == SLOTS

    def test_another_size_or_namespace_is_another_file(self, path) -> None:
        with write(path):
            old = read(path)
        with write(path, slots=128):
            assert old.was_replaced()
            assert read(path).view.slots == 128
        with write(path, namespace="bank"), pytest.raises(LedgerFileError, match="its namespace is 'bank'"):
            read(path)

    def test_a_directory_in_its_place_is_an_error(self, path) -> None:
        path.mkdir()
        (path / "something").touch()
        with pytest.raises(LedgerFileError, match="cannot create a ledger"), write(path):
            pass


class TestTheDefaultPlace:
    def test_is_in_memory_and_named_for_the_namespace(self) -> None:
        assert default_path("shop:1") == Path("/dev/shm/invalidator.shop:1.ledger")

    def test_a_namespace_cannot_lead_elsewhere(self) -> None:
        with pytest.raises(InvalidSetting):
            default_path("../etc/passwd")


# ------------------------------------------------------------------------------------ order, and real processes


class TestOrderOnOtherMachines:
    """Where loads and stores may be reordered, a fence stands between the two of each pair."""

    @pytest.fixture
    def recorded(self, monkeypatch) -> RecordingWords:
        ledger = Ledger.private(slots=SLOTS, namespace="shop")
        words = RecordingWords(ledger.words)
        monkeypatch.setattr(ledger_module, "IN_ORDER", False)
        monkeypatch.setattr(ledger_module, "fence", lambda: (words.read.append("fence"), words.written.append(-1)))
        return words

    def test_a_reader(self, recorded) -> None:
        view = LedgerView(recorded)
        recorded.read.clear()
        view.read_lease()
        assert recorded.read == [PROVEN_AT, "fence", CHANGES, "fence"]
        recorded.read.clear()
        view.read_position()
        assert recorded.read == [POSITION_MS, "fence", POSITION_SEQ]

    @pytest.mark.parametrize(
        ("change", "word"),
        [
            (lambda it: it.stamp([1], 5), HEADER_WORDS + 1),
            (lambda it: it.flush(5), FLUSHED_AT),
            (lambda it: it.hold([1], "me", 9, 5), HEADER_WORDS + 1),
            (lambda it: it.release([1], "me", 5), HEADER_WORDS + 1),
        ],
    )
    def test_a_writer(self, recorded, change, word) -> None:
        ledger = Ledger(recorded, slots=SLOTS, namespace="shop")
        recorded.written.clear()
        change(ledger)
        assert recorded.written == [word, -1, CHANGES]

    def test_a_writer_of_positions(self, recorded) -> None:
        ledger = Ledger(recorded, slots=SLOTS, namespace="shop")
        recorded.written.clear()
        ledger.move((1, 2), 3, 4)
        assert recorded.written == [POSITION_SEQ, -1, POSITION_MS, SERVER_RUN, EPOCH]

    def test_a_fence_is_made_of_the_interpreters_own_lock(self) -> None:
        """That of gevent is a counter in one thread, and orders nothing."""
        script = """
            from gevent import monkey
            monkey.patch_all()
            import threading
            from invalidator.ledger import table
            assert type(threading.Lock()).__module__.startswith("gevent")
            assert type(table.RLock()).__module__ == "_thread"
            table.fence()
        """
        command = [sys.executable, "-c", textwrap.dedent(script)]
        subprocess.run(command, check=True, cwd=Path(__file__).parents[4], timeout=PATIENCE_S)


STEPS = 60_000
READERS = 2


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
class TestManyProcesses:
    """
    One process writes random stamps, flushes and positions; others know from the seed what is written at which step,
    and check what they see against that. Time is the number of the step: it stamps, moves and proves step after step.
    """

    @pytest.mark.parametrize("in_order", [True, False], ids=["as here", "with fences"])
    def test_nobody_sees_less_than_the_model(self, path, monkeypatch, in_order) -> None:
        """A lease, a count or a position that is seen before its stamps lets a stale value be served."""
        monkeypatch.setattr(ledger_module, "IN_ORDER", in_order and ledger_module.IN_ORDER)
        with write(path) as ledger:
            first = ledger.words[CHANGES]
            ledger.words[FLUSHED_AT] = 0
            ready, go = os.pipe()

            def run_writer() -> None:
                for _ in range(READERS):
                    os.read(ready, 1)
                for step, slots in enumerate(_steps(7), 1):
                    if slots:
                        ledger.stamp(slots, 2 * step)
                    else:
                        ledger.flush(2 * step)
                    ledger.move(divmod(step, 10), 1, 1)
                    ledger.prove(2 * step)

            def run_reader(number: int) -> None:
                reader = _Reader(read(path).view, first, random.Random(number))
                os.write(go, b".")
                reader.run()

            _at_once(run_writer, *[lambda number=number: run_reader(number) for number in range(READERS)])

    def test_a_file_that_is_replaced_or_removed_crashes_nobody(self, path) -> None:
        """SIGBUS is how a process dies that reads a page which is no longer there."""
        stop, stopping = os.pipe()
        os.set_blocking(stop, False)

        def run_reader() -> None:
            seen = 0
            file = None
            while True:
                with suppress(BlockingIOError):
                    os.read(stop, 1)
                    break
                if file is None or file.was_replaced():
                    with suppress(LedgerFileError):
                        file = read(path)
                        seen += 1
                if file is not None:
                    file.view.read_lease()
                    file.view.newest_stamp(range(SLOTS))
            assert seen > 1

        def run_writer() -> None:
            for number in range(300):
                with write(path, slots=SLOTS + number % 2) as ledger:
                    ledger.stamp(range(SLOTS), now_ns())
                if number % 3 == 0:
                    path.unlink()
            os.write(stopping, b".." * READERS)

        _at_once(run_writer, run_reader, run_reader)


def _steps(seed: int) -> list[tuple[int, ...]]:
    """What is stamped at each step; nothing is a flush."""
    choose = random.Random(seed)
    return [
        () if choose.random() < 0.02 else tuple(choose.sample(range(SLOTS), choose.randint(1, 4))) for _ in range(STEPS)
    ]


class _Reader:
    """Knows the model as far as it has been told that it is written."""

    def __init__(self, view: LedgerView, first: int, choose: random.Random) -> None:
        self.view = view
        self.first = first
        self.choose = choose
        self.steps = _steps(7)
        self.known = 0
        self.model = [0] * SLOTS
        self.rule = ValidityRule(view, lambda: 0, max_staleness_ns=2**60)
        self.entries: dict[int, Entry[None]] = {}
        self.served = 0

    def run(self) -> None:
        words = self.view.words
        while self.known < STEPS:
            proven_at, changes = self.view.read_lease()
            self.know(max(proven_at // 2, changes - self.first))
            for slot in self.choose.sample(range(SLOTS), 3):
                stamp = self.view.newest_stamp([slot])
                assert stamp >= self.model[slot], (
                    f"slot {slot}: {stamp} at step {self.known}, {self.model[slot]} written"
                )
            ms, seq = self.view.read_position()
            self.know(words[CHANGES] - self.first)
            assert 10 * ms + seq <= self.known, f"position {ms}-{seq} is ahead of step {self.known}"
            self.serve(self.choose.randrange(SLOTS))
        assert self.served

    def know(self, step: int) -> None:
        """Everything up to *step* is written."""
        for number in range(self.known, step):
            for slot in self.steps[number] or range(SLOTS):
                self.model[slot] = 2 * (number + 1)
        self.known = max(self.known, step)

    def serve(self, slot: int) -> None:
        """As a near cache does: by the count alone if it stands still."""
        entry = self.entries.get(slot)
        if entry is not None:
            self.know(self.view.words[CHANGES] - self.first)
            is_hit = self.view.words[CHANGES] == entry.changes
            if is_hit or self.rule.check(entry) == "valid":
                assert self.model[slot] < entry.loaded_at, f"slot {slot} served at step {self.known}: {entry.loaded_at}"
                self.served += 1
                return
        self.entries[slot] = Entry(None, loaded_at=2 * (self.view.words[CHANGES] - self.first) + 1, slots=(slot,))


def _at_once(*actions: Callable[[], object]) -> None:
    """Run each action in a forked process of its own, all at the same time, and fail with what any of them raised."""
    pids = []
    for number, action in enumerate(actions):
        pid = os.fork()
        if pid == 0:
            signal.alarm(int(2 * PATIENCE_S))
            try:
                action()
            except BaseException as error:  # noqa: BLE001 - told to the parent
                sys.__stderr__.write(f"process {number}: {error!r}\n")  # type: ignore[union-attr]
                os._exit(1)
            os._exit(0)
        pids.append(pid)
    endings = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]
    assert endings == [0] * len(actions), "a negative ending is the signal that killed it"


def _poke(path: Path, word: int, value: int) -> None:
    with path.open("r+b") as file:
        file.seek(8 * word)
        file.write(value.to_bytes(8, sys.byteorder))
