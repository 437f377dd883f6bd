"""
What a change is called.

`tags.py` and `columns.py` spell the tags of rows, tables and columns, and `keys.py` the primary keys in them. `plan.py`
turns a write into names: a `WritePlan` for each model and database knows what a written row makes stale, with what
`functions.py` has of `@invalidates`. `relations.py` and `watched.py` are what it knows of models; `names.py` holds the
names until they are published. Where naming fails, `fences.py` names more coarsely.
"""

from .fences import fence
from .functions import Target
from .names import Names
from .plan import WritePlan, add_target, plan_of, plan_of_row
from .relations import clone_of, concrete_of, ends_of, has_expressions, is_model
from .tags import TEXTS_ARE_EXACT, known_row_tag, label_in, model_tag, row_tag, row_tags, unknown_rows_tag
from .watched import closest_label, is_of_watched, is_watched, matches

__all__ = [
    "TEXTS_ARE_EXACT",
    "Names",
    "Target",
    "WritePlan",
    "add_target",
    "clone_of",
    "closest_label",
    "concrete_of",
    "ends_of",
    "fence",
    "has_expressions",
    "is_model",
    "is_of_watched",
    "is_watched",
    "known_row_tag",
    "label_in",
    "matches",
    "model_tag",
    "plan_of",
    "plan_of_row",
    "row_tag",
    "row_tags",
    "unknown_rows_tag",
]
