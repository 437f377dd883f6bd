"""
What a change is called.

`names.py` makes the names of a written row, `columns.py` those of its columns, and `functions.py` keeps what an
application adds by `@invalidates`.
"""

from .names import (
    MAX_NAMES,
    TEXTS_ARE_EXACT,
    Names,
    Target,
    closest_label,
    concrete_of,
    ends_of,
    family,
    is_model,
    is_watched,
    matches,
    model_tag,
    row_tag,
    row_tags,
    tables_of,
    unknown_rows_tag,
)

__all__ = [
    "MAX_NAMES",
    "TEXTS_ARE_EXACT",
    "Names",
    "Target",
    "closest_label",
    "concrete_of",
    "ends_of",
    "family",
    "is_model",
    "is_watched",
    "matches",
    "model_tag",
    "row_tag",
    "row_tags",
    "tables_of",
    "unknown_rows_tag",
]
