"""
Whether the near caches of this process have to look closer at hits.

Usually nobody is in a transaction that has written, and nobody records what a loader reads. Then a hit asks no more
than whether this is empty.
"""

from __future__ import annotations

reasons: dict[int, object] = {}
"""By `id`: the batches that were neither sent nor rolled back (`transactions.py`), and the recorders at work."""
