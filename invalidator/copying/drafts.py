"""
A value as a graph, drawn once when it is stored; its clones are made from the drawing.

Each part of the value that somebody could change is a `Node`. A clone has its own object for every node, made in four
steps, so that what is shared inside of the value is shared inside of the clone, and circles close:

1. dicts, lists and the like are copied, with holes where nodes belong;
2. objects are made, whose `__dict__` is one of these dicts;
3. what has to be made of its parts (tuples, say) is made;
4. the holes are filled, and what needs finished parts (a set, which asks them for their hash) is finished.

Rule 1: a drawing holds masters that nobody else has: whoever has the value that was drawn may go on changing it.
Rule 2: no code of a class runs for its clones, unless its kind says so: neither `__init__`, nor `__new__`, nor
`__setattr__`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from types import MemberDescriptorType
from typing import Any, TypeVar

from .unchanging import UNCHANGING

T = TypeVar("T")

Make = Callable[..., Any]
Copier = Callable[[Any], Any]

_make = object.__new__
_set = object.__setattr__


class CannotDrawError(Exception):
    """A value has parts that need each other before either is made."""


class Node:
    """A part of a value of which every clone has its own. `at` is its place among the parts of a clone."""

    __slots__ = ("at",)

    def __init__(self) -> None:
        self.at = -1


Draw = Callable[[Any, "Draft", Node], "Node | None"]
"""
Draws a value: tells the draft how *node* is made, and returns it. It may return another node instead, for which the
value stands, or None if the value is handed out as it is.
"""


class Draft:
    """
    A drawing under way.

    Args:
        find: returns what draws a value of some class.
        fetch: whether what asks the database when it is first used (a query set) is to do so now.
    """

    def __init__(self, find: Callable[[type], Draw], *, fetch: bool) -> None:
        self.fetch = fetch
        self.known: dict[int, Node | None] = {}
        """The nodes of what was met, by `id`."""
        self._find = find
        self._alive: list[object] = []  # so that no `id` is given to a second object meanwhile
        self._ahead: list[tuple[Node, Iterable[tuple[Any, Any]]]] = []
        self._containers: list[tuple[Node, Any]] = []
        self._objects: list[tuple[Node, type, Node]] = []
        self._built: dict[Node, tuple[Make, Sequence[Node]]] = {}
        self._links: list[tuple[Node, Any, Node]] = []
        self._late: list[tuple[Make, Sequence[Node]]] = []
        self._opaque: list[tuple[Node, Any]] = []
        self._together: dict[Any, tuple[Make, list[Node]]] = {}

    def node_of(self, value: Any) -> Node | None:
        """Return the node of a part, or None if it is handed out as it is."""
        kind = type(value)
        if kind in UNCHANGING:
            return None
        if id(value) in self.known:
            return self.known[id(value)]
        node = self.known[id(value)] = Node()
        self._alive.append(value)
        drawn = self.known[id(value)] = self._find(kind)(value, self, node)
        return drawn

    # What a kind can be made of.

    def container(self, node: Node, master: Any, items: Iterable[tuple[Any, Any]] = ()) -> Node:
        """
        *node* is a `master.copy()`, into which `container[key] = …` puts the clones of those *items* that have one.
        *master* is nobody else's.
        """
        self._containers.append((node, master))
        self._ahead.append((node, items))
        return node

    def object(self, node: Node, kind: type, attributes: dict[str, Any]) -> Node:
        """*node* is an object of the class *kind* with these *attributes*, a dict that is nobody else's."""
        own = self.container(Node(), attributes, list(attributes.items()))
        if getattr(kind, "__setattr__") is _set:  # noqa: B009 - mypy takes the two for different
            self._objects.append((node, kind, own))
        else:
            self.build(node, partial(_object_of, kind), own)
        return node

    def build(self, node: Node, make: Make, *parts: Node) -> Node:
        """*node* is what *make* returns for the clones of *parts*."""
        self._built[node] = (make, parts)
        return node

    def opaque(self, node: Node, value: Any) -> Node:
        """*node* is for *value*'s own class to make: it is pickled, or copied deeply."""
        self._opaque.append((node, value))
        return node

    def finish(self, function: Make, *parts: Node) -> None:
        """At the end, call *function* with the clones of *parts*."""
        self._late.append((function, parts))

    def finish_together(self, key: Any, function: Make, part: Node) -> None:
        """At the end, call *function* once with the clones of all parts that were given with this *key*."""
        self._together.setdefault(key, (function, []))[1].append(part)

    def slots(self, node: Node, value: Any) -> None:
        """The object of *node* has what *value* has in its `__slots__`."""
        for slot in slots_of(type(value)):
            try:
                held = slot.__get__(value)
            except AttributeError:
                continue
            part = self.node_of(held)
            if part is None:
                self.finish(partial(_set_slot, slot, held), node)
            else:
                self.finish(slot.__set__, node, part)

    # Drawing.

    @property
    def has_opaque(self) -> bool:
        """Whether a part is for its own class to make."""
        return bool(self._opaque)

    def draw(self, value: Any, opaque: Callable[[Any, Mapping[int, Node | None]], tuple[Make, list[Node]]]) -> Copier:
        """
        Return what makes clones of *value*, whatever its argument is.

        Args:
            opaque: returns what makes an opaque value, and the nodes that it needs for that.

        Raises:
            CannotDrawError: its parts need each other.
            Exception: what *opaque* and what the application's classes raise.
        """
        root = self.node_of(value)
        self._draw_ahead()
        for node, left in self._opaque:
            # Last, so that it finds the nodes of everything else; but not its own.
            del self.known[id(left)]
            self._built[node] = opaque(left, self.known)
            self.known[id(left)] = node
        for function, parts in self._together.values():
            self.finish(function, *parts)
        return _unchanged(value) if root is None else self._copier(root)

    def _draw_ahead(self) -> None:
        while self._ahead:
            node, items = self._ahead.pop()
            for key, item in items:
                if type(item) not in UNCHANGING and (part := self.node_of(item)) is not None:
                    self._links.append((node, key, part))

    def _copier(self, root: Node) -> Copier:
        built = self._in_order()
        order = [*(each[0] for each in self._containers), *(each[0] for each in self._objects), *built]
        for at, node in enumerate(order):
            node.at = at
        for node, key, _ in self._links:
            self._containers[node.at][1][key] = None  # a hole, so that no master keeps what a caller has
        return _copier(
            tuple(master.copy for _, master in self._containers),
            tuple((kind, own.at) for _, kind, own in self._objects),
            tuple((make, _places(parts)) for make, parts in map(self._built.__getitem__, built)),
            tuple((node.at, key, part.at) for node, key, part in self._links),
            tuple((function, _places(parts)) for function, parts in self._late),
            root.at,
        )

    def _in_order(self) -> list[Node]:
        """What has to be built, each after its parts."""
        order: dict[Node, None] = {}
        open_: set[Node] = set()
        ahead = list(self._built)
        while ahead:
            node = ahead[-1]
            missing = [part for part in self._built[node][1] if part in self._built and part not in order]
            if node in order or not missing:
                order.setdefault(node)
                ahead.pop()
            elif node in open_:
                raise CannotDrawError
            else:
                open_.add(node)
                ahead += missing
        return list(order)


def _places(nodes: Sequence[Node]) -> tuple[int, ...]:
    return tuple(node.at for node in nodes)


def _unchanged(value: T) -> Callable[[Any], T]:
    return lambda _: value


def _copier(
    copies: tuple[Callable[[], Any], ...],
    objects: tuple[tuple[type, int], ...],
    built: tuple[tuple[Make, tuple[int, ...]], ...],
    links: tuple[tuple[int, Any, int], ...],
    late: tuple[tuple[Make, tuple[int, ...]], ...],
    root: int,
) -> Copier:
    """The four steps. A closure: a hit of one row takes about a microsecond, and a method would add to it."""

    def clone(_: Any) -> Any:
        made: list[Any] = [copy() for copy in copies]
        for kind, own in objects:
            each: Any = _make(kind)
            each.__dict__ = made[own]
            made.append(each)
        for make, parts in built:
            made.append(make(*[made[at] for at in parts]))
        for into, key, at in links:
            made[into][key] = made[at]
        for function, parts in late:
            function(*[made[at] for at in parts])
        return made[root]

    return clone


def _object_of(kind: type, attributes: dict[str, Any]) -> Any:
    """An object of a class that may have a `__setattr__` of its own, which is not called."""
    made: Any = _make(kind)
    _set(made, "__dict__", attributes)
    return made


def _set_slot(slot: MemberDescriptorType, held: Any, clone: Any) -> None:
    slot.__set__(clone, held)


def slots_of(kind: type) -> list[MemberDescriptorType]:
    """The slots of a class and its bases."""
    return [
        descriptor
        for base in kind.__mro__
        if "__slots__" in vars(base)
        for descriptor in vars(base).values()
        if isinstance(descriptor, MemberDescriptorType)
    ]
