"""
A ledger in a file that the processes of one host share: the sidecar writes it, workers map it read-only.

docs/ledger-format.md specifies the file byte for byte. A reader trusts nothing it has not checked: a file that does
not fit is refused with the reason, never misread.

Rule 1: a file is created beside its place, sized (its blocks reserved, so that a full disk is an error and not a
SIGBUS), filled in, and then renamed into place. It is never truncated or resized: who maps it keeps what he mapped.
Rule 2: one writer. It holds a lock on a file of its own beside the ledger, which the system frees when the writer
dies, however it dies.
Rule 3: `CHANGES` of a new file begins at the time of its creation, in nanoseconds: above whatever an earlier file
counted up to.

Memory ordering. A reader takes `PROVEN_AT`, then `CHANGES`, then the slots; the writer stores them the other way
round. On x86-64 loads are not reordered with loads, nor stores with stores (Intel SDM vol. 3, 8.2). On arm64 they may
be. There the interpreter
itself keeps the order: between any two of these accesses CPython executes hundreds of instructions with data and
control dependencies, and takes and releases locks or atomics on the writer's side (`Ledger.lock` is acquired, an
acquire barrier, and released, a release barrier, around slots and `CHANGES`, and again around `PROVEN_AT`); a reader
that saw the new `PROVEN_AT` a whole release-store later cannot see slots older than that release except by
speculation past hundreds of dependent loads. Should it, what is lost is one bound's precision: the next read looks
again. A reader in C uses acquire loads.
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

from .errors import LedgerFileError
from .ledger import (
    BOOT,
    CHANGES,
    FLUSHED_AT,
    HEADER_WORDS,
    LAYOUT,
    LAYOUT_WORD,
    MAGIC,
    MAGIC_WORD,
    SLOTS_WORD,
    Ledger,
    LedgerView,
    now_ns,
    read_namespace,
)
from .names import check_namespace, fingerprint

MODE = 0o640


def default_path(namespace: str) -> Path:
    """Where the sidecar and the workers of this host meet, unless they are told: in memory, never on a disk."""
    for directory in ("/dev/shm", os.environ.get("XDG_RUNTIME_DIR", "")):  # noqa: S108 - shared memory is the point
        if directory and Path(directory).is_dir():
            return Path(directory) / f"invalidator.{check_namespace(namespace)}.ledger"
    return Path(tempfile.gettempdir()) / f"invalidator.{check_namespace(namespace)}.ledger"


class LedgerFile:
    """
    A mapped file, seen by a reader.

    Raises:
        LedgerFileError: there is none, or it is not what it should be.
    """

    def __init__(self, path: Path, *, namespace: str, any_owner: bool = False) -> None:
        self.path = path
        descriptor = _open(path, os.O_RDONLY)
        try:
            self.identity = _check_file(path, descriptor, any_owner=any_owner)
            self._map = mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ)
        finally:
            os.close(descriptor)
        words = memoryview(self._map).cast("q")
        _check_header(path, words, namespace)
        self.view = LedgerView(words)

    def was_replaced(self) -> bool:
        """Whether another file has taken its place, or none."""
        try:
            found = os.lstat(self.path)
        except OSError:
            return True
        return (found.st_dev, found.st_ino) != self.identity


@contextlib.contextmanager
def writing(path: Path, *, namespace: str, slots: int) -> Iterator[Ledger]:
    """
    Own the ledger at *path* as its only writer; take it over if it fits, else put a new one in its place.

    Raises:
        LedgerFileError: another writer owns it, there is no room, or it cannot be written.
    """
    lock = _lock(path)
    try:
        descriptor = _adopt(path, namespace, slots)
        is_new = descriptor is None
        if descriptor is None:
            descriptor = _create(path, namespace, slots)
        try:
            mapped = mmap.mmap(descriptor, 0, access=mmap.ACCESS_WRITE)
        finally:
            os.close(descriptor)
        ledger = Ledger(memoryview(mapped).cast("q"), slots=slots, namespace=namespace)
        if not is_new:
            ledger.touch()  # the last writer may have died between a stamp and its count
        yield ledger
    finally:
        os.close(lock)


def _create(path: Path, namespace: str, slots: int) -> int:
    size = 8 * (HEADER_WORDS + slots)
    try:
        descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    except OSError as error:
        raise LedgerFileError(f"cannot create a ledger in {path.parent}: {error.strerror}") from error
    try:
        os.fchmod(descriptor, MODE)
        if sys.platform == "linux":
            os.posix_fallocate(descriptor, 0, size)
        else:
            os.ftruncate(descriptor, size)
        with mmap.mmap(descriptor, size, access=mmap.ACCESS_WRITE) as mapped:
            words = memoryview(mapped).cast("q")
            Ledger(words, slots=slots, namespace=namespace)
            words[BOOT] = boot()
            words[CHANGES] = words[FLUSHED_AT] = now_ns()
            words.release()
        Path(name).rename(path)
    except OSError as error:
        os.close(descriptor)
        with contextlib.suppress(OSError):
            Path(name).unlink()
        raise LedgerFileError(
            f"cannot create a ledger of {size:,} bytes at {path}: {error.strerror}; make room or take fewer slots"
        ) from error
    return descriptor


def _adopt(path: Path, namespace: str, slots: int) -> int | None:
    """Open the ledger that an earlier writer left, if it is one that we would have written."""
    try:
        descriptor = _open(path, os.O_RDWR)
    except LedgerFileError:
        return None
    try:
        _check_file(path, descriptor, any_owner=False)
        with mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ) as mapped, memoryview(mapped).cast("q") as words:
            _check_header(path, words, namespace)
            fits = words[SLOTS_WORD] == slots
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
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        owner = os.pread(descriptor, 20, 0).decode(errors="replace").strip() or "unknown"
        os.close(descriptor)
        raise LedgerFileError(
            f"another sidecar (pid {owner}) writes {path}: stop it, or give this one another path"
        ) from error
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, str(os.getpid()).encode(), 0)
    return descriptor


def _open(path: Path, flags: int) -> int:
    try:
        return os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        raise LedgerFileError(f"no ledger at {path}: {error.strerror}") from error


def _check_file(path: Path, descriptor: int, *, any_owner: bool) -> tuple[int, int]:
    """What can be told without reading: returns (device, inode)."""
    found = os.fstat(descriptor)
    if not stat.S_ISREG(found.st_mode):
        raise LedgerFileError(f"{path} is not a regular file")
    if not any_owner and found.st_uid not in (0, os.geteuid()):
        raise LedgerFileError(
            f"{path} belongs to user {found.st_uid}, neither to root nor to us: name the path to trust it"
        )
    if found.st_mode & 0o022:
        raise LedgerFileError(
            f"{path} can be written by others (mode {found.st_mode & 0o777:o}), it should be {MODE:o}"
        )
    if found.st_size < 8 * HEADER_WORDS or found.st_size % 8:
        raise LedgerFileError(f"{path} is no ledger: it has {found.st_size} bytes")
    return found.st_dev, found.st_ino


def _check_header(path: Path, words: memoryview[int], namespace: str) -> None:
    expectations = (
        ("magic", words[MAGIC_WORD], MAGIC),
        ("layout version", words[LAYOUT_WORD], LAYOUT),
        ("size in slots", words[SLOTS_WORD], len(words) - HEADER_WORDS),
        ("boot", words[BOOT], boot()),
        ("namespace", read_namespace(words), namespace),
    )
    for what, found, expected in expectations:
        if found != expected:
            raise LedgerFileError(f"{path} does not fit: its {what} is {found!r}, not {expected!r}")


def boot() -> int:
    """A fingerprint of this boot of the host: the steady clock begins anew with each."""
    with contextlib.suppress(OSError):
        return fingerprint(Path("/proc/sys/kernel/random/boot_id").read_text().strip())
    return 0
