"""What lives, in the order it came, whatever other threads add meanwhile."""

import gc
import threading

from invalidator.weak_list import WeakList
from tests.support import Thread


class Item:
    """Something that can die."""

    def __eq__(self, other: object) -> bool:
        raise AssertionError("items are told apart by what they are")

    __hash__ = None  # type: ignore[assignment]


def names_of(items: WeakList) -> list[int]:
    return [id(item) for item in items]


def test_items_come_in_the_order_they_were_added() -> None:
    kept, items = [Item() for _ in range(5)], WeakList()
    for item in kept:
        items.add(item)
    assert names_of(items) == list(map(id, kept))


def test_an_item_that_nobody_keeps_is_gone() -> None:
    items, kept = WeakList(), Item()
    items.add(kept)
    items.add(Item())
    gc.collect()
    assert len(items) == 1
    assert names_of(items) == [id(kept)]


def test_adding_again_changes_nothing() -> None:
    items, one, two = WeakList(), Item(), Item()
    for item in (one, two, one):
        items.add(item)
    assert names_of(items) == [id(one), id(two)]


def test_a_discarded_item_is_gone_and_may_be_discarded_again() -> None:
    items, item = WeakList(), Item()
    items.add(item)
    items.discard(item)
    items.discard(item)
    assert len(items) == 0
    items.add(item)
    assert names_of(items) == [id(item)]


def test_an_item_in_a_circle_is_gone_after_a_collection() -> None:
    items, item = WeakList(), Item()
    item.itself = item
    items.add(item)
    del item
    gc.collect()
    assert len(items) == 0


def test_one_that_is_added_or_dies_during_an_iteration_disturbs_nobody() -> None:
    """A destructor may run at any allocation, and add something."""
    kept, items = [Item() for _ in range(3)], WeakList()
    for item in kept:
        items.add(item)
    seen = []
    for item in items:
        seen.append(id(item))
        kept.append(Item())
        items.add(kept[-1])
        items.add(Item())
    assert seen == list(map(id, kept[:3]))


def test_threads_may_add_while_others_read() -> None:
    """`list(WeakSet)` raises here."""
    items, stop = WeakList(), threading.Event()

    def add() -> None:
        kept = []
        while not stop.is_set():
            kept.append(Item())
            items.add(kept[-1])
            if len(kept) > 100:
                kept.clear()

    adding = [Thread(add) for _ in range(2)]
    for _ in range(2000):
        list(items)
    stop.set()
    for thread in adding:
        thread.outcome()
