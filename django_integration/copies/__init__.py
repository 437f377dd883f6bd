"""
What a hit hands out, for Django's kinds of values: rows, query sets, lazy objects.

Importing this package lets `invalidator.copying` know them (`rows.py`, `query_sets.py`, `fixtures.py`), and what to do
with rows that are handed out live (`live_rows.py`). `followed.py` tells of relations that readers follow, and
`guards.py` of values that they change.
"""

from . import fixtures, live_rows, query_sets, rows

fixtures.install()
rows.install()
query_sets.install()
live_rows.install()
