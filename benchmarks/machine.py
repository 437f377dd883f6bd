"""What the figures were measured on: nothing that names the machine, everything that explains a number."""

from __future__ import annotations

import os
import platform
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from invalidator.testing import EmbeddedServer


def describe(server: EmbeddedServer) -> dict[str, str]:
    """Return what to print above the tables, in order."""
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "machine": f"{_processor()}, {_cores()} cores, {platform.system()} {platform.machine()}",
        "load": f"{os.getloadavg()[0]:.1f} (1 min, at the start)",
        "Python": f"{platform.python_implementation()} {platform.python_version()}",
        "server": _server(server),
        "packages": ", ".join(f"{name} {version(name)}" for name in ("invalidator", "redis", "hiredis", "cachetools")),
    }


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else platform.processor() or "unknown processor"


def _server(server: EmbeddedServer) -> str:
    info = dict(line.split(":", 1) for line in str(server.command("INFO", "server")).splitlines() if ":" in line)
    if "valkey_version" in info:
        return f"Valkey {info['valkey_version']}, embedded, on loopback"
    return f"Redis {info.get('redis_version', '?')}, embedded, on loopback"
