"""
Keeping a value for several readers, each of whom is handed out a clone.

`copy` says what becomes of what can be changed:

- "clone", the default where values are copied at all: containers and objects by shape, and what only its own class can
  copy is pickled, or else copied deeply;
- "deep": the same, but that is copied deeply;
- "pickle": plain containers by shape, everything else is pickled as a whole;
- "none": the live object is handed out, and nobody may ever change it.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Mapping
from typing import Any, Literal, get_args

from .drafts import CannotDrawError, Draft
from .kinds import draw_of
from .opaque import Opaque, deeply_copied, pickled_or_copied
from .sharing import share
from .trees import Copier, NotPlainError, copier_of
from .unchanging import UNCHANGING, add_unchanging

Copy = Literal["clone", "deep", "pickle", "none"]
COPIES: tuple[Copy, ...] = get_args(Copy)

_OPAQUE: Mapping[str, Opaque] = {"clone": pickled_or_copied, "deep": deeply_copied}


class Kept:
    """A value of which readers get clones."""

    __slots__ = ("copy", "value")

    def __init__(self, copy: Copier, value: Any) -> None:
        self.copy = copy
        self.value = value


add_unchanging(Kept)  # a value that was kept already


clone_watchers: list[Callable[[str, Any], object]] = []
"""Called with the key and the value when a reader of a near cache is handed out a clone: for those who show that."""


def keep(value: Any, how: Copy = "clone", *, fetch: bool = False) -> Any:
    """
    Return what to store for *value*: itself, or a `Kept`, which nobody else can change. A value that is handed out live
    is prepared for that (`sharing.py`).

    Args:
        fetch: whether query sets that were not evaluated are evaluated now, instead of by each reader.

    Raises:
        Exception: whatever the classes in *value* raise when they are asked for a copy.
    """
    if type(value) in UNCHANGING:
        return value
    if how == "none":
        share(value)
        return value
    try:
        copier = copier_of(value)
    except NotPlainError:
        return _pickled(value) if how == "pickle" else _drawn(value, _OPAQUE[how], fetch=fetch)
    return value if copier is None else Kept(copier, copier(value))


def hand_out(kept: Any) -> Any:
    """Return a value for a caller to keep."""
    return kept.copy(kept.value) if type(kept) is Kept else kept


def may_do_io(value: Any) -> bool:
    """Whether `keep` may run code of classes in *value*, which may ask a database."""
    if type(value) in UNCHANGING:
        return False
    try:
        copier_of(value)
    except NotPlainError:
        return True
    return False


def _pickled(value: Any) -> Kept:
    return Kept(pickle.loads, pickle.dumps(value, pickle.HIGHEST_PROTOCOL))


def _drawn(value: Any, opaque: Opaque, *, fetch: bool) -> Kept:
    draft = Draft(draw_of, fetch=fetch)
    try:
        copier = draft.draw(value, opaque)
    except (CannotDrawError, RecursionError):  # its parts need each other, or lie too deep: then as a whole
        make, _ = opaque(value, {})
        return Kept(lambda _: make(), None)
    if draft.has_opaque:
        copier(None)  # many a class can only be pickled: its error is for whoever stores, not for readers
    return Kept(copier, None)
