"""What is about to be handed out live is prepared, wherever it is in a value."""

from dataclasses import dataclass
from typing import Any

import pytest

from invalidator.copying import add_shared_kind, share, sharing


class Row:
    pass


class Special(Row):
    pass


@dataclass
class Page:
    rows: Any


@pytest.fixture
def prepared(monkeypatch) -> list[Row]:
    monkeypatch.setattr(sharing, "_by_base", {})
    met: list[Row] = []
    add_shared_kind(Row, met.append)
    return met


def test_it_is_found_wherever_it_is_and_prepared_once(prepared) -> None:
    one, two = Row(), Special()
    one.next = two  # type: ignore[attr-defined]
    share({"page": Page([one, (two, {one})]), "n": 1})
    assert sorted(map(id, prepared)) == sorted(map(id, (one, two)))


def test_without_such_a_kind_nobody_looks(monkeypatch) -> None:
    monkeypatch.setattr(sharing, "_by_base", {})
    monkeypatch.setattr(sharing, "parts_of", None)
    share([Row()])


def test_there_is_an_end_to_it(prepared, monkeypatch) -> None:
    monkeypatch.setattr(sharing, "MOST", 10)
    share([Row() for _ in range(100)])
    assert len(prepared) < 10
