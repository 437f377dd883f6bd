"""What has to be installed beside this library. `pyproject.toml` repeats it, and a test compares the two."""

from __future__ import annotations

LEAST_HIREDIS = "3.5.0"
"""The parser of Redis' answers. Older versions leak memory with every RESP3 push, with each message received."""


def version_numbers(text: str) -> tuple[int, ...]:
    """Return the leading numbers of a version, for comparison: (3, 5) for "3.5.rc1"."""
    numbers = []
    for part in text.split("."):
        if not part.isdecimal():
            break
        numbers.append(int(part))
    return tuple(numbers)
