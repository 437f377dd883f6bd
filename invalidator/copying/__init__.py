"""
What a reader is handed out: the value itself if nobody can change it, else a clone of the reader's own.

A value is looked at once, when it is stored. What is stored then is a **master** that no caller ever sees, and what
makes clones of it. docs/values.md has a table of what happens to each kind of value.

- `unchanging.py`: what is handed out as it is.
- `trees.py`: dicts, lists, sets and tuples of such, at the speed of `dict.copy`.
- `drafts.py`: everything else, as a graph: what is shared inside a value, or points back at it, does so in its clone.
- `kinds.py`: which kinds of objects there are, and how each is drawn into that graph; integrations add theirs.
- `opaque.py`: objects of which only their own class knows: they are pickled, or copied deeply.
- `keeping.py`: `keep` and `hand_out`, which put these together.
- `parts.py`: what is in a value, by name.
- `sharing.py`: what becomes of objects that are handed out live.
"""

from .drafts import Draft, Node
from .keeping import COPIES, Copy, Kept, clone_watchers, hand_out, keep, may_do_io
from .kinds import add_kind, as_it_is
from .parts import add_parts, attributes_of, may_appear, parts_of
from .sharing import add_shared_kind, share
from .unchanging import add_cached_property, add_unchanging, is_unchanging

__all__ = [
    "COPIES",
    "Copy",
    "Draft",
    "Kept",
    "Node",
    "add_cached_property",
    "add_kind",
    "add_parts",
    "add_shared_kind",
    "add_unchanging",
    "as_it_is",
    "attributes_of",
    "clone_watchers",
    "hand_out",
    "is_unchanging",
    "keep",
    "may_appear",
    "may_do_io",
    "parts_of",
    "share",
]
