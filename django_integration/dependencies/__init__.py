"""
Automatic dependencies: what a loader reads is recorded while it runs, and becomes the tags of its value.

`loading.py` runs a loader with a `Recorder` (`recorder.py`), and evaluates what its result would read later
(`results.py`). `hooks.py` is called where Django reads, and asks `queries.py` which tags a query gives. For that,
`conditions.py` looks at what decides which rows a query finds, `joins.py` at its other tables, `rows.py` records rows
by primary key, and `tables.py` knows the models of a table. `sending.py` knows whether a query is more than the ORM's
own; then `tables.py` asks its SQL, as it does all SQL in text.
"""

from .loading import aload, load
from .recorder import UnknownReads, current, depends_on

__all__ = ["UnknownReads", "aload", "current", "depends_on", "load"]
