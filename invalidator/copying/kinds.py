"""
Which kinds of objects there are, and how each is drawn.

A class belongs to the first of its bases, itself included, that has a kind. An object of any other class is drawn by
its attributes if its class says nothing about copying, and is opaque if it does (`__reduce__`, `__getstate__`,
`__deepcopy__` …).
"""

from __future__ import annotations

import copyreg
import functools
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Iterable
from functools import partial
from typing import Any, cast

from .drafts import Draft, Draw, Node, slots_of
from .unchanging import is_named_tuple, is_unchanging

_by_base: dict[type, Draw] = {}


def add_kind(base: type, draw: Draw) -> None:
    """Draw objects of *base* and its subclasses by *draw*."""
    _by_base[base] = draw
    draw_of.cache_clear()


def as_it_is(value: Any, draft: Draft, node: Node) -> None:
    """Hand out the object itself: there is one for everybody, and nobody changes it."""


@functools.lru_cache(maxsize=4096)
def draw_of(kind: type) -> Draw:
    """Return what draws objects of exactly this class."""
    if kind in _EXACT:
        return _EXACT[kind]
    for base in kind.__mro__:
        if base in _by_base:
            return _by_base[base]
    if is_named_tuple(kind):
        return _draw_tuple
    return _draw_object if _says_nothing_about_copying(kind) else _draw_by_its_class


def is_drawn_by_attributes(kind: type) -> bool:
    """Whether the objects of a class are what their attributes are."""
    return draw_of(kind) is _draw_object


def slots_with_values(value: Any) -> list[tuple[str, Any]]:
    """What *value* has in its `__slots__`, by name."""
    return [(slot.__name__, slot.__get__(value)) for slot in slots_of(type(value)) if hasattr(value, slot.__name__)]


# Containers. Only exact types: a subclass may do anything.


def _draw_mapping(value: Any, draft: Draft, node: Node) -> Node:
    if getattr(value, "__dict__", None):
        return draft.opaque(node, value)
    master = value.copy()
    if all(draft.node_of(key) is None for key in value):
        return draft.container(node, master, list(value.items()))
    # A key is put in when it is complete: it is found by its hash.
    flat = [part for pair in value.items() for part in pair]
    parts, fixed, places = _parts(flat, draft)
    master.clear()
    draft.container(node, master)
    draft.finish(partial(_fill_mapping, fixed, places), node, *parts)
    return node


def _fill_mapping(fixed: list[Any], places: list[int], clone: Any, *parts: Any) -> None:
    flat = _with_parts(fixed, places, parts)
    clone.update(zip(flat[::2], flat[1::2], strict=True))


def _parts(items: Iterable[Any], draft: Draft) -> tuple[list[Node], list[Any], list[int]]:
    """The nodes of *items*, the items with holes in their places, and these places."""
    nodes = [(item, draft.node_of(item)) for item in items]
    places = [at for at, (_, part) in enumerate(nodes) if part is not None]
    return (
        [part for _, part in nodes if part is not None],
        [item if part is None else None for item, part in nodes],
        places,
    )


def _with_parts(fixed: list[Any], places: list[int], parts: Iterable[Any]) -> list[Any]:
    items = fixed.copy()
    for at, part in zip(places, parts, strict=True):
        items[at] = part
    return items


def _draw_sequence(value: Any, draft: Draft, node: Node) -> Node:
    return draft.container(node, value.copy(), list(enumerate(value)))


def _draw_bytearray(value: bytearray, draft: Draft, node: Node) -> Node:
    return draft.container(node, value.copy())


def _draw_set(value: set[Any], draft: Draft, node: Node) -> Node:
    parts, fixed, places = _parts(value, draft)
    draft.container(node, set() if parts else value.copy())
    if parts:
        draft.finish(lambda clone, *parts: clone.update(_with_parts(fixed, places, parts)), node, *parts)
    return node


def _draw_frozenset(value: frozenset[Any], draft: Draft, node: Node) -> Node | None:
    parts, fixed, places = _parts(value, draft)
    if not parts:
        return None
    return draft.build(node, lambda *parts: frozenset(_with_parts(fixed, places, parts)), *parts)


def _draw_tuple(value: tuple[Any, ...], draft: Draft, node: Node) -> Node | None:
    parts, fixed, places = _parts(value, draft)
    return draft.build(node, partial(_tuple_of, type(value), fixed, places), *parts) if parts else None


def _tuple_of(kind: type[tuple[Any, ...]], fixed: list[Any], places: list[int], *parts: Any) -> Any:
    return tuple.__new__(kind, _with_parts(fixed, places, parts))


def _draw_memoryview(value: memoryview, draft: Draft, node: Node) -> Node:
    content = value.tobytes()
    return draft.build(node, lambda: memoryview(content))


_EXACT: dict[type, Draw] = {
    **dict.fromkeys((dict, OrderedDict, defaultdict, Counter), _draw_mapping),
    **dict.fromkeys((list, deque), _draw_sequence),
    set: _draw_set,
    frozenset: _draw_frozenset,
    tuple: _draw_tuple,
    bytearray: _draw_bytearray,
    memoryview: _draw_memoryview,
}


# Objects.


def _draw_object(value: Any, draft: Draft, node: Node) -> Node | None:
    """An object that pickle, too, would make anew from its attributes."""
    if is_unchanging(value):
        return None
    kind = type(value)
    if not _is_all_attributes(value):
        return draft.opaque(node, value)
    if kind.__dictoffset__:
        draft.object(node, kind, vars(value).copy())
    else:
        draft.build(node, partial(object.__new__, kind))
    draft.slots(node, value)
    return node


def _is_all_attributes(value: object) -> bool:
    """Whether there is nothing in *value*, such as state of a class written in C, but its attributes."""
    try:
        _, arguments, _, items, pairs = cast("tuple[Any, ...]", object.__reduce_ex__(value, 2))
    except TypeError:
        return False
    return len(arguments) == 1 and items is None and pairs is None


def _draw_by_its_class(value: Any, draft: Draft, node: Node) -> Node | None:
    if is_unchanging(value) or issubclass(type(value), type):
        return None
    inside = _as_plain(value)
    return draft.opaque(node, value) if inside is None else draft.node_of(inside)


def _as_plain(value: Any) -> Any:
    """The dict, list, set or tuple that *value* says it becomes when it is pickled; else None."""
    if issubclass(type(value), dict | list | set | tuple):
        match value.__reduce_ex__(4):
            case (make, (inside,)) if make in (dict, list, set, tuple) and type(inside) is make:
                return inside
    return None


_SILENT = ("__reduce_ex__", "__reduce__", "__getstate__", "__new__")
_SPEAKING = ("__setstate__", "__getnewargs__", "__getnewargs_ex__", "__deepcopy__", "__copy__")


def _says_nothing_about_copying(kind: type) -> bool:
    """Whether a class leaves it to Python how its objects are copied."""
    return (
        all(getattr(kind, name) is getattr(object, name) for name in _SILENT)
        and not any(hasattr(kind, name) for name in _SPEAKING)
        and kind not in copyreg.dispatch_table
    )
