"""
Why hits of this process have to take the slow path.

Usually no thread is in a transaction that has written, and no loader is being recorded. Then `reasons` is empty, and a
hit asks no more than that.
"""

from __future__ import annotations

reasons: dict[int, object] = {}
"""
By `id`: recorders at work (`dependencies/recorder.py`). By negative numbers: batches of names that are not committed
(`transactions/uncommitted.py`).
"""
