"""Callbacks by themselves; tests/unit/invalidator/test_bus.py sees them fire."""

from typing import Any

import pytest

from invalidator.callbacks import Callbacks
from invalidator.errors import InvalidName
from invalidator.names import Tag
from invalidator.status import Invalidation


def message(*keys: str, tags: tuple[str, ...] = (), everything: bool = False) -> Invalidation:
    return Invalidation(keys, tags, everything, "invalidate", "1-0", "node")


@pytest.mark.parametrize(
    ("names", "wanted"),
    [
        ({"keys": [], "tags": []}, [True, True, True]),
        ({"keys": ["a"], "tags": []}, [True, False, True]),
        ({"keys": [], "tags": [Tag("t")]}, [False, True, True]),
        ({"keys": ["a"], "tags": ["t"]}, [True, True, True]),
        ({"keys": ["t"], "tags": ["a"]}, [False, False, True]),
    ],
)
def test_a_callback_is_called_for_its_names_and_for_everything(names: dict[str, Any], wanted: list[bool]) -> None:
    callbacks, received = Callbacks(), []
    callbacks.add(received.append, **names)
    sent = [message("a", "b"), message(tags=("t",)), message(everything=True)]
    for invalidation in sent:
        callbacks.call(invalidation)
    assert received == [invalidation for invalidation, is_wanted in zip(sent, wanted, strict=True) if is_wanted]


def test_one_callback_may_be_added_twice_and_each_ends_by_itself() -> None:
    callbacks, received = Callbacks(), []
    ends = [callbacks.add(received.append, [], []) for _ in range(2)]
    ends[0]()
    ends[0]()
    callbacks.call(message("a"))
    assert (len(received), len(callbacks)) == (1, 1)


def test_one_that_adds_another_meanwhile_disturbs_nobody() -> None:
    callbacks, received = Callbacks(), []
    callbacks.add(lambda it: callbacks.add(received.append, [], []), [], [])
    callbacks.call(message("a"))
    assert received == []
    callbacks.call(message("b"))
    assert received == [message("b")]


def test_a_bad_name_adds_nothing() -> None:
    callbacks = Callbacks()
    for names in ({"keys": "a", "tags": ()}, {"keys": [""], "tags": ()}, {"keys": (), "tags": "t"}):
        with pytest.raises(InvalidName):
            callbacks.add(print, **names)
    assert len(callbacks) == 0
