"""Plain containers are copied by a copier of their very shape; everything else is left to others."""

from typing import Any

import pytest

from invalidator.copying.trees import NotPlainError, copier_of


def test_what_cannot_be_changed_needs_no_copier() -> None:
    assert copier_of((1, "a", frozenset({2}))) is None


def test_flat_containers_are_copied_by_their_own_method() -> None:
    assert copier_of({"a": 1}) is dict.copy
    assert copier_of([1]) is list.copy
    assert copier_of({1}) is set.copy


def test_a_copier_copies_every_container_of_the_shape_it_was_made_for() -> None:
    value: Any = {"rows": [{"id": 1}, {"id": 2}], "mixed": ([1], 2), "plain": "text"}
    copier = copier_of(value)
    assert copier is not None
    copied = copier(value)
    assert copied == value
    copied["rows"][0]["id"] = 3
    copied["mixed"][0].append(2)
    assert value == {"rows": [{"id": 1}, {"id": 2}], "mixed": ([1], 2), "plain": "text"}


class Own(list[int]):
    pass


shared: list[int] = []


@pytest.mark.parametrize("value", [Own(), [shared, shared], [object(), Own()], ([Own()],)])
def test_what_is_not_plain_is_refused(value) -> None:
    with pytest.raises(NotPlainError):
        copier_of(value)
