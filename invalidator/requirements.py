"""What has to be installed beside this library. `pyproject.toml` repeats it, and a test compares the two."""

from __future__ import annotations

import re

LEAST_HIREDIS = "3.5.0"
"""The parser of Redis' answers. Older versions leak memory with every RESP3 push, with each message received."""


def version_numbers(version: str) -> tuple[int, ...]:
    """Return the first three numbers in *version*, to be compared; () for a text without numbers."""
    return tuple(map(int, re.findall(r"\d+", version)[:3]))
