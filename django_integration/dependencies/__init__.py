"""
Automatic dependencies: what a cached value was made from is written down while it is made.

`recorder.py` keeps what one loader reads, `queries.py` says which tags a query gives, `hooks.py` is where Django reads,
`loading.py` runs loaders with a recorder.
"""

from .loading import aload, load
from .recorder import UnknownReads, current, depends_on

__all__ = ["UnknownReads", "aload", "current", "depends_on", "load"]
