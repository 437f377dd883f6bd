"""A near cache on a clock that stands still and a link on which nothing is received."""

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from invalidator.bus import Invalidator
from invalidator.names import name_slots
from invalidator.near_cache import NearCache
from tests.support import Clock, SilentLink


class Fixture:
    """A cache, and everything it stands on."""

    def __init__(self, kind: type[NearCache], clock: Clock, bus_options: dict[str, Any], **options: Any) -> None:
        self.clock = clock
        self.link = SilentLink()
        self.evicted: list[tuple[str, object, str]] = []
        self.bus = Invalidator("memory://", namespace="shop", clock=clock, link=self.link, **bus_options)
        options = {"on_evict": lambda *facts: self.evicted.append(facts), **options}
        self.cache: Any = kind(self.bus, **options)
        self.prove()

    def prove(self) -> None:
        """Renew the lease."""
        self.bus.ledger.prove(self.clock())

    def receive(self, *keys: str, tags: tuple[str, ...] = ()) -> None:
        """Another server has invalidated these names, just now."""
        self.clock.advance(0.001)
        self.bus.ledger.stamp(slots_of(self.bus, keys, tags), self.clock())
        self.clock.advance(0.001)

    async def joins(self, number: int) -> None:
        """Return when so many callers wait for a load."""
        while self.cache.stats().joins < number:  # noqa: ASYNC110 - there is no event for it
            await asyncio.sleep(0)


def slots_of(bus: Invalidator, keys: tuple[str, ...], tags: tuple[str, ...]) -> tuple[int, ...]:
    return name_slots(keys, tags, bus.ledger.slots)


@pytest.fixture
def kind() -> type[NearCache]:
    """Of the caches that `make` makes."""
    return NearCache


@pytest.fixture
def make(clock: Clock, kind: type[NearCache]) -> Iterator[Callable[..., Fixture]]:
    """Make a cache with options, those of its bus included."""
    made: list[Fixture] = []

    def make(*, bus: dict[str, Any] | None = None, **options: Any) -> Fixture:
        made.append(Fixture(kind, clock, bus or {}, **options))
        return made[-1]

    yield make
    for it in made:
        it.bus.close()


@pytest.fixture
def it(make) -> Fixture:
    return make()
