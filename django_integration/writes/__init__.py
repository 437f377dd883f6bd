"""
From a write to the names that it makes stale.

`receivers.py` and `saves.py` see rows being saved and deleted, `statements.py` all other writes of the ORM, and
`raw_sql.py` the application's own SQL.
"""

from .decorator import invalidates
from .raw_sql import writes_to

__all__ = ["invalidates", "writes_to"]
