"""How values that live in each process follow the transactions that have set them; test_following.py has the rest."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from django_integration.backend.following import Made
from django_integration.backend.following_near import NearChanges
from invalidator import Invalidator
from invalidator.extending import Change, WritableCache
from invalidator.feeds.listener import apply_to_ledger
from invalidator.ledger import Ledger
from invalidator.ledger.file import writing
from invalidator.link import Accepted
from invalidator.message import decode
from tests.support import Clock, SilentLink


class Sidecar(SilentLink):
    """The server, and a sidecar that applies everything before the publisher has its answer."""

    def __init__(self, ledger: Ledger, clock: Clock) -> None:
        super().__init__()
        self.ledger = ledger
        self.clock = clock

    def publish(self, names: Any, journal_length: int, post: Any) -> Accepted:
        self.published.append(list(post.bodies))
        self.clock.advance(0.001)
        for body in post.bodies:
            apply_to_ledger(self.ledger, decode(body), self.clock())
        self.clock.advance(0.001)
        self.ledger.move((len(self.published), 0), 1, 1)
        return Accepted(f"{len(self.published)}-0", 1)


@pytest.fixture(params=["listens itself", "has a sidecar"])
def near(request: pytest.FixtureRequest, clock: Clock, tmp_path: Path) -> Iterator[WritableCache]:
    """A near cache with a lease, in a process that listens for itself and in a worker of a sidecar."""
    path = tmp_path / "ledger"
    with writing(path, namespace="shop", slots=1024, clock=clock) as ledger:
        clock.advance(0.001)
        ledger.prove(clock())
        clock.advance(0.001)
        if request.param == "has a sidecar":
            bus = Invalidator("memory://", namespace="shop", clock=clock, link=Sidecar(ledger, clock), sidecar=path)
        else:
            bus = Invalidator("memory://", namespace="shop", clock=clock, link=SilentLink())
            bus.ledger.prove(clock())
        with bus:
            yield WritableCache(bus)


@pytest.fixture
def changes(near: WritableCache) -> NearChanges:
    return NearChanges(near, "place")


def made(change: Change) -> Made:
    """What `OneLevel` notes of a change of "k"."""
    change.publish()
    return Made(change.entries["k"], change.at, is_clean=True)


def commit(changes: NearChanges, near: WritableCache) -> None:
    """What `transactions/sending.py` does."""
    again = changes.committed()
    receipt = near.bus.announce(*again.names.keys, tags=again.names.tags, elsewhere=again.elsewhere)()
    changes.published(receipt)


def test_the_new_value_survives_the_second_message(near, changes, clock) -> None:
    """In a worker of a sidecar it survives the echo, which stamps the key as it does with what others publish."""
    changes.note("k", made(near.replace({"k": "new"})), falls=True)
    clock.advance(0.1)
    commit(changes, near)
    assert near.get("k") == "new"
    near.bus.invalidate("k")
    assert near.get("k") is None, "and it falls as ever"


def test_what_others_have_invalidated_does_not(near, changes, clock) -> None:
    changes.note("k", made(near.replace({"k": "new"})), falls=True)
    clock.advance(0.1)
    near.bus.invalidate("k")
    clock.advance(0.1)
    commit(changes, near)
    assert near.get("k") is None


def test_a_fill_of_the_old_row_does_not(near, changes, clock) -> None:
    """The value that was set had to make room."""
    changes.note("k", made(near.replace({"k": "new"})), falls=True)
    near.evict("k")
    clock.advance(0.1)
    assert near.set("k", "old")
    clock.advance(0.1)
    commit(changes, near)
    assert near.get("k") is None


def test_after_a_rollback_it_is_void_and_what_somebody_else_has_set_is_not(near, changes, clock) -> None:
    changes.note("k", made(near.replace({"k": "uncommitted"})), falls=True)
    clock.advance(0.1)
    changes.rolled_back()
    assert near.get("k") is None
    changes.note("k", made(near.replace({"k": "uncommitted"})), falls=True)
    clock.advance(0.1)
    near.replace({"k": "another"}).publish()
    clock.advance(0.1)
    changes.rolled_back()
    assert near.get("k") == "another"


def test_what_comes_after_the_rollback_falls_at_once(near, changes, clock) -> None:
    """A coroutine may set a value while the thread whose transaction it belongs to rolls back."""
    changes.rolled_back()
    set_late = made(near.replace({"k": "uncommitted"}))
    clock.advance(0.1)
    changes.note("k", set_late, falls=True)
    assert near.get("k") is None


def test_a_hold_is_not_asked_for_the_keys_of_new_values(near, changes) -> None:
    """It would void them."""
    changes.note("k", made(near.replace({"k": "new"})), falls=True)
    changes.note("deleted", Made(None), falls=False)
    assert list(changes.names().keys) == ["deleted"]


def test_a_released_savepoint_belongs_to_what_is_around_it(near, changes, clock) -> None:
    later = NearChanges(near, "place")
    later.note("k", made(near.replace({"k": "uncommitted"})), falls=True)
    changes.absorb(later)
    clock.advance(0.1)
    changes.rolled_back()
    assert near.get("k") is None
