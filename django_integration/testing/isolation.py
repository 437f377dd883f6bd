"""A bus for one test: `memory://`, with nobody else on it, and near caches that start empty."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from django.test import override_settings

from invalidator import Invalidator, NearCache
from invalidator.testing import MemoryBus

from .. import conf, runtime
from ..backend import settling

MAX_STALENESS_S = 7.5
"""
A lease that outlives the pauses of a loaded machine, so that what leaves a cache in a test was invalidated; and as long
as the default HOLD asks for (check W001).
"""
PATIENCE_S = 30.0
"""For what takes a millisecond."""


# A bus of one's own.


class IsolatedBus(MemoryBus):
    """The bus of one test; `lose`, `delayed`, `repeat`, `cut` and `down` break it, see `MemoryBus`."""

    def __init__(self) -> None:
        super().__init__()
        self._others = contextlib.ExitStack()

    def other_server(self, **options: Any) -> NearCache:
        """
        Return the near cache of another server of this application, which hears what this process tells.

        Args:
            options: of `NearCache` and `Invalidator`, such as `max_staleness=0.5`.
        """
        namespace, max_staleness = conf.conf.namespace, conf.conf.max_staleness
        cache = NearCache(self.url, **{"namespace": namespace, "max_staleness": max_staleness, **options})
        self._others.callback(cache.close)
        if not cache.bus.wait_until_leased(PATIENCE_S):
            raise TimeoutError(f"nothing is heard on {self.url}: is it delayed?")
        return cache

    @contextlib.contextmanager
    def delayed(self) -> Iterator[None]:
        """See `MemoryBus.delayed`."""
        runtime.bus()  # if there was none: it waits until it hears
        with super().delayed():
            yield

    def close(self) -> None:
        """See `MemoryBus.close`; the other servers end as well."""
        self._others.close()
        super().close()


@contextlib.contextmanager
def isolated_bus(**settings: Any) -> Iterator[IsolatedBus]:
    """
    Inside the block this process has a bus of its own and empty near caches: the default one and those of every
    `NearCacheBackend`. (What a second level holds is that cache's own.)

    Args:
        settings: keys of INVALIDATOR that differ from the project's, such as `WRITES="strict"`.
    """
    with IsolatedBus() as memory:
        own = {"URL": memory.url, "SIDECAR": None, "MAX_STALENESS": MAX_STALENESS_S, **settings}
        # Both ends of it close whatever bus there is, and the near caches on it.
        with override_settings(**{conf.SETTING: {"NAMESPACE": "tests", **conf.given(), **own}}):
            try:
                yield memory
            finally:
                settling.abandon()


def _hear_from_the_beginning(bus: Invalidator) -> None:
    # What is stored before the first proof is void with it, and a test would see a second load. (A sidecar's proof is
    # its own affair.)
    if bus.url.startswith("memory://") and bus.status().listener == "own":
        bus.wait_until_leased(PATIENCE_S)


runtime.on_made(_hear_from_the_beginning)
