"""
A ledger in a file that the processes of one host share: the sidecar writes it, workers map it read-only.

docs/ledger-format.md specifies the file byte for byte. A reader trusts nothing that it has not checked: a file that
does not fit is refused with the reason, never misread.

Rule 1: a file is created beside its place, sized (its blocks are reserved, so that a full disk is an error and not a
SIGBUS), filled in, and then renamed into place. It is never truncated or resized, so a process that maps it keeps the
whole map.
Rule 2: there is one writer. It holds a lock on a file of its own beside the ledger. The system frees the lock when the
writer dies, however it dies.
Rule 3: `CHANGES` of a new file begins at the time of its creation, in nanoseconds, which is more than any earlier file
has counted.
Rule 4: the writer locks the ledger itself as well, so that the lock holds even if somebody deletes the file of rule 2.

Memory ordering. Every word is aligned, and is loaded and stored by one instruction, so no reader sees half of one
(64-bit machines only; on others there are no ledger files). The rules of `table.py` need four pairs in order: writer
`slots, CHANGES` and `CHANGES, PROVEN_AT`; reader `PROVEN_AT, CHANGES` and `CHANGES, slots`; and `POSITION_*` likewise.
`LISTENING_SINCE` is stored before `PROVEN_AT` and `POSITION_*`, and read after them.

- On x86-64 loads are not reordered with loads, nor stores with stores (Intel SDM vol. 3, 8.2.2): the order in which
  the interpreter executes them is the order that every processor sees.
- Elsewhere, on arm64 above all, `fence()` stands between the two of a pair. It takes and frees a lock twice. What is
  above it is done before the first is freed, which is a release; what is below it is done after the second was taken,
  which is an acquire; and an acquire does not overtake a release above it (Arm ARM, B2.3 "barrier-ordered-before":
  the interpreter's locks are made of LDAXR/STLXR or CASA/CASL). Once would not do: both sides may move *into* a
  locked region, and pass each other there. `CHANGES, PROVEN_AT` needs no fence, nor does `LISTENING_SINCE` before
  either: the writer frees `Ledger.lock` after the one and takes it before the other. It costs 0.7 µs, twice on each
  look at the whole rule.
- A hit (one look at `CHANGES`, one at the clock) needs no order anywhere: its `good_until` ends within
  `max_staleness` of a proof that was read before the stamps were, whatever count it compares with.
"""

from __future__ import annotations

import contextlib
import fcntl
import mmap
import os
import stat
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from ..errors import LedgerFileError
from ..names import check_namespace, fingerprint
from .table import (
    BOOT,
    CHANGES,
    FLUSHED_AT,
    HEADER_WORDS,
    LAYOUT,
    LAYOUT_WORD,
    LISTENING_SINCE,
    MAGIC,
    MAGIC_WORD,
    PROVEN_AT,
    RING,
    SLOTS_WORD,
    Clock,
    Ledger,
    LedgerView,
    now_ns,
    read_namespace,
)

MODE = 0o640


def default_path(namespace: str) -> Path:
    """Return where the sidecar and the workers of this host look for the ledger, unless a path is given: in memory."""
    for directory in ("/dev/shm", os.environ.get("XDG_RUNTIME_DIR", "")):  # noqa: S108 - shared memory is the point
        if directory and Path(directory).is_dir():
            return Path(directory) / f"invalidator.{check_namespace(namespace)}.ledger"
    return Path(tempfile.gettempdir()) / f"invalidator.{check_namespace(namespace)}.ledger"


class LedgerFile:
    """
    A mapped file, as a reader sees it.

    Args:
        any_owner: trust a file that belongs to somebody else than root or the user of this process.
        clock: a proof that is later than this clock was dated by another one, and the file is refused.

    Raises:
        LedgerFileError: there is no file, or it does not fit.
    """

    def __init__(self, path: Path, *, namespace: str, any_owner: bool = False, clock: Clock = now_ns) -> None:
        self.path = path
        descriptor = _open(path, os.O_RDONLY)
        try:
            self.identity = _check_file(path, descriptor, any_owner=any_owner)
            words = _map(path, descriptor, mmap.ACCESS_READ)
        finally:
            os.close(descriptor)
        _check_header(path, words, namespace, clock)
        self.view = LedgerView(words)

    def was_replaced(self) -> bool:
        """Whether there is another file at the path now, or none."""
        try:
            found = os.lstat(self.path)
        except OSError:
            return True
        return (found.st_dev, found.st_ino) != self.identity


@contextlib.contextmanager
def writing(path: Path, *, namespace: str, slots: int, clock: Clock = now_ns) -> Iterator[Ledger]:
    """
    Be the only writer of the ledger at *path*: take over a ledger that fits, else put a new one in its place.

    Args:
        clock: dates a new file, which voids everything that was loaded before. (Its proofs cover what is loaded after
            its writer has begun to listen, which is later.)

    Raises:
        LedgerFileError: there is another writer, there is no room, or the file cannot be written.
    """
    with contextlib.ExitStack() as stack:
        stack.callback(os.close, _lock(path))
        descriptor = _adopt(path, namespace, slots, clock)
        is_new = descriptor is None
        if descriptor is None:
            descriptor = _create(path, namespace, slots, clock)
        stack.callback(os.close, descriptor)
        _lock_or_refuse(path, descriptor, "unknown")
        stack.callback(fcntl.flock, descriptor, fcntl.LOCK_UN)  # the mapping keeps the descriptor alive
        ledger = Ledger(_map(path, descriptor, mmap.ACCESS_WRITE), slots=slots, namespace=namespace)
        if not is_new:
            ledger.touch()  # the last writer may have died between a stamp and its count
        yield ledger


def _create(path: Path, namespace: str, slots: int, clock: Clock) -> int:
    size = 8 * (HEADER_WORDS + slots)
    new = path.with_name(f".{path.name}.new")  # always the same name, so that what a killed writer left is removed
    try:
        new.unlink(missing_ok=True)
        descriptor = os.open(new, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, MODE)
    except OSError as error:
        raise LedgerFileError(f"cannot create a ledger in {path.parent}: {error.strerror}") from error
    try:
        os.fchmod(descriptor, MODE)
        if sys.platform == "linux":
            os.posix_fallocate(descriptor, 0, size)
        else:
            os.ftruncate(descriptor, size)
        words = _map(path, descriptor, mmap.ACCESS_WRITE)
        Ledger(words, slots=slots, namespace=namespace)
        words[BOOT] = boot()
        words[CHANGES] = words[FLUSHED_AT] = words[LISTENING_SINCE] = clock()
        new.rename(path)
    except (OSError, LedgerFileError) as error:
        os.close(descriptor)
        with contextlib.suppress(OSError):
            new.unlink()
        if isinstance(error, LedgerFileError):
            raise
        raise LedgerFileError(
            f"cannot create a ledger of {size:,} bytes at {path}: {error.strerror}; make room or take fewer slots"
        ) from error
    return descriptor


def _adopt(path: Path, namespace: str, slots: int, clock: Clock) -> int | None:
    """Open the ledger that an earlier writer left, if it fits."""
    try:
        descriptor = _open(path, os.O_RDWR)
    except LedgerFileError:
        return None
    try:
        _check_file(path, descriptor, any_owner=False)
        words = _map(path, descriptor, mmap.ACCESS_READ)
        _check_header(path, words, namespace, clock)
        fits = (words[SLOTS_WORD], words[RING]) == (slots, 0)  # a ring that nobody goes on with would mislead readers
    except LedgerFileError:
        fits = False
    if not fits:
        os.close(descriptor)
        return None
    return descriptor


def _lock(path: Path) -> int:
    lock_path = path.with_name(path.name + ".lock")
    try:
        descriptor = os.open(lock_path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, MODE)
    except OSError as error:
        raise LedgerFileError(f"cannot write beside {path}: {error.strerror}") from error
    try:
        _lock_or_refuse(path, descriptor, os.pread(descriptor, 20, 0).decode(errors="replace").strip() or "unknown")
    except LedgerFileError:
        os.close(descriptor)
        raise
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, str(os.getpid()).encode(), 0)
    return descriptor


def _lock_or_refuse(path: Path, descriptor: int, owner: str) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        raise LedgerFileError(
            f"another sidecar (pid {owner}) writes {path}: stop it, or give this one another path"
        ) from error


def _open(path: Path, flags: int) -> int:
    try:
        return os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)  # a FIFO would wait for its writer
    except OSError as error:
        raise LedgerFileError(f"no ledger at {path}: {error.strerror}") from error


def _check_file(path: Path, descriptor: int, *, any_owner: bool) -> tuple[int, int]:
    """Check everything but the content. Returns device and inode."""
    found = os.fstat(descriptor)
    if not stat.S_ISREG(found.st_mode):
        raise LedgerFileError(f"{path} is not a regular file")
    if not any_owner and found.st_uid not in (0, os.geteuid()):
        raise LedgerFileError(
            f"{path} belongs to user {found.st_uid}, not to root or to this process' user: name the path to trust it"
        )
    if found.st_mode & 0o022:
        raise LedgerFileError(
            f"{path} can be written by others (mode {found.st_mode & 0o777:o}), it should be {MODE:o}"
        )
    if found.st_size < 8 * HEADER_WORDS or found.st_size % 8:
        raise LedgerFileError(f"{path} is no ledger: it has {found.st_size} bytes")
    return found.st_dev, found.st_ino


def _map(path: Path, descriptor: int, access: int) -> memoryview[int]:
    if sys.maxsize < 2**63 - 1:
        raise LedgerFileError(f"cannot map {path}: this Python is not a 64-bit one, and would see halves of words")
    try:
        return memoryview(mmap.mmap(descriptor, 0, access=access)).cast("q")
    except (OSError, ValueError) as error:  # ValueError: it has become empty
        raise LedgerFileError(f"cannot map {path}: {error}") from error


def _check_header(path: Path, words: memoryview[int], namespace: str, clock: Clock) -> None:
    expectations = (
        ("magic", words[MAGIC_WORD], MAGIC),
        ("layout version", words[LAYOUT_WORD], LAYOUT),
        ("size in slots", words[SLOTS_WORD] + max(0, words[RING]), len(words) - HEADER_WORDS),
        ("boot", words[BOOT], boot()),
        ("namespace", read_namespace(words), namespace),
    )
    for what, found, expected in expectations:
        if found != expected:
            raise LedgerFileError(f"{path} does not fit: its {what} is {found!r}, not {expected!r}")
    if words[PROVEN_AT] > clock():
        raise LedgerFileError(f"{path} does not fit: its last proof lies in the future, so its clock is not ours")


def boot() -> int:
    """
    Return a fingerprint of where the steady clock begins: this boot of the host and, since containers may have clocks
    of their own, this time namespace. 0 where that is not known.
    """
    try:
        boot_id = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return 0
    with contextlib.suppress(OSError):
        boot_id += str(Path("/proc/self/ns/time").readlink())
    return fingerprint(boot_id)
