"""
Objects of which only their own class knows how to make another: they are pickled, or copied with `copy.deepcopy`.

What they share with the rest of a value stays shared: where such an object leads back to a part of the value that has a
node, there is a hole, which is filled with the part of each clone.
"""

from __future__ import annotations

import copy
import io
import pickle
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from .drafts import Make, Node

Known = Mapping[int, "Node | None"]
Opaque = Callable[[Any, Known], "tuple[Make, list[Node]]"]


def pickled(value: Any, known: Known) -> tuple[Make, list[Node]]:
    """Keep bytes; each clone is loaded from them. Raises whatever pickling *value* raises."""
    buffer = io.BytesIO()
    pickler = _Pickler(buffer, known)
    pickler.dump(value)
    data = buffer.getvalue()
    if pickler.parts:
        return partial(_load, data), list(pickler.parts)
    return partial(pickle.loads, data), []


def deeply_copied(value: Any, known: Known) -> tuple[Make, list[Node]]:
    """Keep a deep copy; each clone is a copy of that. Raises whatever copying *value* raises."""
    memo = _Memo(known)
    master = copy.deepcopy(value, memo)
    return partial(_copy, master), list(memo.parts)


def pickled_or_copied(value: Any, known: Known) -> tuple[Make, list[Node]]:
    """`pickled`, or else `deeply_copied`. Raises what pickling raises, if that fails as well."""
    try:
        return pickled(value, known)
    except Exception as error:  # noqa: BLE001 - the application's classes may raise anything
        try:
            return deeply_copied(value, known)
        except Exception:  # noqa: BLE001
            raise error from None


class _Pickler(pickle.Pickler):
    """
    Attributes:
        parts: the nodes that were met, in the order of their numbers in the bytes.
    """

    def __init__(self, buffer: io.BytesIO, known: Known) -> None:
        super().__init__(buffer, pickle.HIGHEST_PROTOCOL)
        self._known = known
        self.parts: dict[Node, int] = {}

    def persistent_id(self, value: object) -> int | None:
        """The number of a part that has a node."""
        node = self._known.get(id(value))
        return None if node is None else self.parts.setdefault(node, len(self.parts))


class _Unpickler(pickle.Unpickler):
    def __init__(self, data: bytes, parts: tuple[Any, ...]) -> None:
        super().__init__(io.BytesIO(data))
        self._parts = parts

    def persistent_load(self, number: int) -> Any:
        """The part of this clone."""
        return self._parts[number]


def _load(data: bytes, *parts: Any) -> Any:
    return _Unpickler(data, parts).load()


_PARTS = "parts"


class _Hole:
    """Stands in a master for a part of the clone that is being made."""

    __slots__ = ("_number",)

    def __init__(self, number: int) -> None:
        self._number = number

    def __deepcopy__(self, memo: dict[Any, Any]) -> Any:
        return memo[_PARTS][self._number]


class _Memo(dict[Any, Any]):
    """
    The memory of a deep copy, which knows a hole for each part that has a node.

    Attributes:
        parts: the nodes that were met, in the order of their holes.
    """

    def __init__(self, known: Known) -> None:
        super().__init__()
        self._known = known
        self.parts: dict[Node, int] = {}

    def get(self, key: Any, default: Any = None) -> Any:
        """See `dict.get`."""
        node = self._known.get(key)
        if node is None:
            return super().get(key, default)
        return _Hole(self.parts.setdefault(node, len(self.parts)))


def _copy(master: Any, *parts: Any) -> Any:
    memo: dict[Any, Any] | None = {_PARTS: parts} if parts else None
    return copy.deepcopy(master, memo)
