"""
Where writes are seen, and turned into the names that they make stale.

`receivers.py` and `saves.py` see rows being saved and deleted, `statements.py` all other writes of the ORM, and
`raw_sql.py` the application's own SQL. `decorator.py` registers what an application names by `@invalidates`. All of
them ask a write plan for the names (`names/plan.py`), and hand them to `transactions/outgoing.py`.
"""

from .decorator import invalidates
from .raw_sql import writes_to

__all__ = ["invalidates", "writes_to"]
