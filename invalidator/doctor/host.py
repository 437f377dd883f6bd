"""
Checks of this host: the parser, the clock, and the place of a sidecar's ledger.

Each check is a function of facts, so that it can be tested on any machine. Some find the facts themselves.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from ..config import Config
from ..errors import LedgerFileError
from ..ledger import HEADER_WORDS, PROVEN_AT, now_ns
from ..ledger.file import LedgerFile
from ..requirements import LEAST_HIREDIS, version_numbers
from .findings import Finding


def check_hiredis(installed: str | None = None) -> Finding:
    """Check the parser: the *installed* version, or None for the one of this Python."""
    if installed is None:
        try:
            installed = version("hiredis")
        except PackageNotFoundError:
            installed = ""
    found = f"hiredis {installed or 'is not installed'}"
    if version_numbers(installed) < version_numbers(LEAST_HIREDIS):
        return Finding(
            check="hiredis",
            level="fail",
            found=found,
            means=f"hiredis before {LEAST_HIREDIS} leaks memory with every message that is received; without hiredis, "
            "Python parses them",
            repair=f"pip install --upgrade 'hiredis>={LEAST_HIREDIS}'",
        )
    return Finding(check="hiredis", level="ok", found=found)


def look_at_clock() -> Finding:
    """`check_clock`, of this host."""
    source = _read("/sys/devices/system/clocksource/clocksource0/current_clocksource")
    return check_clock(source, _has_own_time())


def check_clock(source: str, is_shifted: bool, platform: str = sys.platform) -> Finding:
    """
    Check the host's steady clock.

    Args:
        source: the hardware clock that the kernel uses for it; "" if that is not known.
        is_shifted: whether this process sees another steady clock than the rest of the host.
    """
    if platform == "linux" and not hasattr(time, "CLOCK_BOOTTIME"):
        return Finding(
            check="clock",
            level="fail",
            found="Python has no CLOCK_BOOTTIME here",
            means="the time that this host is suspended is not counted",
            repair="use a Python that was built on Linux 2.6.39 or newer",
        )
    name = "CLOCK_BOOTTIME" if platform == "linux" else "CLOCK_MONOTONIC"
    found = f"{name}, made from {source}" if source else name
    if is_shifted:
        return Finding(
            check="clock",
            level="fail",
            found=f"{found}, in a time namespace of its own (/proc/self/timens_offsets)",
            means="this process and a sidecar outside of it disagree about the time, so no lease is valid",
            repair="run workers and sidecar in the same time namespace (no `unshare --time` around one of them)",
        )
    if source in ("hpet", "acpi_pm", "jiffies"):
        return Finding(
            check="clock",
            level="warn",
            found=found,
            means="reading it takes about a microsecond, and every hit of a cache reads it",
            repair="echo tsc > /sys/devices/system/clocksource/clocksource0/current_clocksource, if that is offered in "
            "available_clocksource; on a virtual machine, its host's kvm-clock or hyperv_clocksource",
        )
    return Finding(check="clock", level="ok", found=found)


def check_ledger(path: Path, config: Config, *, slots: int, is_default: bool) -> Iterator[Finding]:
    """Check the place of the sidecar's ledger, and the ledger if there is one."""
    size = 8 * (HEADER_WORDS + slots)
    try:
        room = os.statvfs(path.parent)
    except OSError as error:
        yield Finding(
            check="ledger's place",
            level="fail",
            found=f"{path.parent}: {error.strerror}",
            means="a sidecar could not put its ledger there",
            repair=f"mount memory there (`mount -t tmpfs -o size=32m tmpfs {path.parent}`), or name another path",
        )
        return
    free = room.f_bavail * room.f_frsize
    yield check_room(path, free, size, _kind_of_file_system(path.parent))
    if not path.exists():
        yield Finding(
            check="sidecar",
            level="ok" if is_default else "fail",
            found=f"no ledger at {path}",
            means="each process listens for itself" if is_default else "a worker with this path does not start",
            repair="" if is_default else f"invalidator sidecar --namespace {config.namespace} --path {path}",
        )
        return
    try:
        file = LedgerFile(path, namespace=config.namespace, any_owner=not is_default)
    except LedgerFileError as error:
        yield Finding(
            check="sidecar",
            level="fail",
            found=str(error),
            means="workers refuse this ledger",
            repair="restart the sidecar, which puts a new one in its place; run it as root or as the workers' user, or "
            "name its path to the workers",
        )
        return
    except OSError as error:
        yield Finding(
            check="sidecar", level="fail", found=f"{path}: {error.strerror}", means="workers cannot read this ledger"
        )
        return
    yield check_lease(path, file.view.words[PROVEN_AT], now_ns(), config)


def check_room(path: Path, free: int, size: int, kind: str) -> Finding:
    """
    Check whether a ledger fits.

    Args:
        free: bytes that are free where *path* is.
        size: bytes that a ledger takes.
        kind: the kind of file system; "" if that is not known.
    """
    found = f"{path.parent} ({kind or 'unknown'}): {free / 2**20:,.0f} MiB free, a ledger takes {size / 2**20:,.1f} MiB"
    if free < size and not path.exists():
        return Finding(
            check="ledger's place",
            level="fail",
            found=found,
            means="a sidecar does not start there",
            repair=f"make room (Kubernetes: a larger sizeLimit; Docker: --shm-size), or take fewer slots: "
            f"--slots {2 ** max(10, (free // 16).bit_length())}",
        )
    if kind and kind not in ("tmpfs", "ramfs", "devtmpfs"):
        return Finding(
            check="ledger's place",
            level="warn",
            found=found,
            means="this is a disk: the kernel will write the ledger to it every few seconds",
            repair="name a path on a tmpfs, such as /dev/shm or /run",
        )
    return Finding(check="ledger's place", level="ok", found=found)


def check_lease(path: Path, proven_at: int, now: int, config: Config) -> Finding:
    """Check whether a sidecar keeps its ledger up to date."""
    age = (now - proven_at) / 1e9
    if proven_at and age < config.max_staleness:
        return Finding(check="sidecar", level="ok", found=f"{path}: proven {age:.1f} s ago")
    return Finding(
        check="sidecar",
        level="warn",
        found=f"{path}: {f'last proven {age:,.0f} s ago' if proven_at else 'never proven'}",
        means=f"its sidecar is dead or cannot reach Redis: workers keep each entry for {config.max_staleness:g} s",
        repair="see the sidecar's log and its /readyz, and start it if it does not run: "
        f"invalidator sidecar --namespace {config.namespace}; if there should be none, remove the file",
    )


def _kind_of_file_system(directory: Path) -> str:
    """Return the kind of file system of *directory*; "" where the kernel does not say."""
    best, kind = "", ""
    place = f"{directory.resolve()}/"
    for line in _read("/proc/self/mounts").splitlines():
        mounted, found = line.split()[1:3]
        if place.startswith(f"{mounted.rstrip('/')}/") and len(mounted) >= len(best):
            best, kind = mounted, found
    return kind


def _read(path: str) -> str:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return ""


def _has_own_time() -> bool:
    """Whether this process lives in a time namespace of its own, with another steady clock than the host's."""
    return any(line.split()[1:] not in (["0", "0"], []) for line in _read("/proc/self/timens_offsets").splitlines())
