"""
Why hits of this process have to take the slow path.

Usually no thread is in a transaction that has written, and no loader is being recorded. Then `reasons` is empty, and a
hit asks no more than that.
"""

from __future__ import annotations

reasons: dict[int, object] = {}
"""
By `id`: batches that were neither published nor rolled back (`transactions/batches.py`), and recorders at work
(`dependencies/recorder.py`).
"""
