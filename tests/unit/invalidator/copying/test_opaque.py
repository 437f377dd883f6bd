"""What only its own class can copy finds its way back to the parts of each clone."""

import pytest

from invalidator.copying.drafts import Node
from invalidator.copying.opaque import deeply_copied, pickled, pickled_or_copied

WAYS = [pickled, deeply_copied, pickled_or_copied]


class Holder:
    def __init__(self, *held: object) -> None:
        self.held = held


@pytest.mark.parametrize("way", WAYS)
class TestBoth:
    def test_without_parts_each_call_makes_another(self, way) -> None:
        make, parts = way(Holder([1]), {})
        assert not parts
        assert make().held == ([1],)
        assert make() is not make()

    def test_a_part_with_a_node_is_that_of_the_clone(self, way) -> None:
        one, two = Holder(), Holder()
        nodes = {id(one): Node(), id(two): Node()}
        make, parts = way(Holder(two, [one, two]), nodes)
        assert sorted(map(id, parts)) == sorted(map(id, nodes.values()))
        mine = {node: Holder() for node in parts}
        made = make(*mine.values())
        assert made.held[0] is made.held[1][1] is mine[nodes[id(two)]]
        assert made.held[1][0] is mine[nodes[id(one)]]

    def test_what_is_handed_out_as_it_is_has_no_hole(self, way) -> None:
        one = Holder(1)
        make, parts = way(Holder(one), {id(one): None})
        assert not parts
        assert make().held[0].held == (1,)


def test_the_error_of_pickle_is_the_one_that_is_told() -> None:
    class Neither:
        def __reduce__(self) -> object:
            raise TypeError("as pickle says")

        def __deepcopy__(self, memo: object) -> object:
            raise TypeError("as deepcopy says")

    with pytest.raises(TypeError, match="as pickle says"):
        pickled_or_copied(Neither(), {})
