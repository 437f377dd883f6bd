"""Clones are made from a drawing of the value, in four steps."""

from typing import Any

import pytest

from invalidator.copying.drafts import CannotDrawError, Draft, Node
from invalidator.copying.kinds import draw_of
from invalidator.copying.opaque import pickled


def draw(value: Any, find: Any = draw_of) -> Any:
    return Draft(find, fetch=False).draw(value, pickled)


class Part:
    pass


def test_what_is_handed_out_as_it_is_needs_no_node() -> None:
    value = (1, 2)
    assert draw(value)(None) is value


def test_each_clone_is_another() -> None:
    copier = draw([[], []])
    first, second = copier(None), copier(None)
    assert first is not second
    assert first[0] is not first[1]
    assert first[0] is not second[0]


def test_what_is_built_is_built_after_its_parts() -> None:
    """Whichever is met first."""
    inner = ([],)
    one = Part()
    one.a, one.b = (inner, 1), inner  # type: ignore[attr-defined]
    clone = draw([one, (inner, one)])(None)
    assert clone[0].a[0] is clone[0].b is clone[1][0]


def test_parts_that_need_each_other_cannot_be_drawn() -> None:
    one, two = Part(), Part()
    nodes: dict[Any, Node] = {}

    def find(kind: type) -> Any:
        def draw(value: Any, draft: Draft, node: Node) -> Node:
            nodes[value] = node
            other = draft.node_of(two if value is one else one)
            assert other is not None
            return draft.build(node, lambda other: Part(), other)

        return draw

    with pytest.raises(CannotDrawError):
        draw(one, find)


def test_what_a_kind_makes_while_it_draws_is_not_taken_for_something_else() -> None:
    """Python gives the `id` of what is gone to the next object."""

    def find(kind: type) -> Any:
        return (lambda value, draft, node: draft.node_of([value.x])) if kind is Part else draw_of(kind)

    value = [Part() for _ in range(20)]
    for number, part in enumerate(value):
        part.x = number  # type: ignore[attr-defined]
    assert draw(value, find)(None) == [[number] for number in range(20)]


def test_what_belongs_together_is_finished_together() -> None:
    met: list[Any] = []

    def find(kind: type) -> Any:
        def draw(value: Any, draft: Draft, node: Node) -> Node:
            draft.finish_together("group", lambda *parts: met.append(parts), node)
            return draft.object(node, kind, {})

        return draw if kind is Part else draw_of(kind)

    clone = draw([Part(), Part()], find)(None)
    assert met == [tuple(clone)]


def test_only_what_is_opaque_needs_a_look_at_its_clone() -> None:
    draft = Draft(draw_of, fetch=False)
    draft.draw([Part()], pickled)
    assert not draft.has_opaque
    draft = Draft(draw_of, fetch=False)
    draft.draw([ValueError()], pickled)
    assert draft.has_opaque
