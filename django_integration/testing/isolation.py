"""A bus for one test: `memory://`, which nothing else uses, and near caches that start empty."""

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
A lease that outlives the pauses of a loaded machine, so that an entry leaves a cache in a test only if it was
invalidated; and as long as the default HOLD asks for (check W001).
"""
PATIENCE_S = 30.0
"""How long to wait for what takes a millisecond."""


class IsolatedBus(MemoryBus):
    """The bus of one test; `lose`, `delayed`, `repeat`, `cut` and `down` break it, see `MemoryBus`."""

    def __init__(self) -> None:
        super().__init__()
        self._others = contextlib.ExitStack()

    def other_server(self, **options: Any) -> NearCache:
        """
        Return the near cache of another server of this application, which receives what this process publishes.

        Args:
            options: of `NearCache` and `Invalidator`, such as `max_staleness=0.5`.
        """
        namespace, max_staleness = conf.conf.namespace, conf.conf.max_staleness
        cache = NearCache(self.url, **{"namespace": namespace, "max_staleness": max_staleness, **options})
        self._others.callback(cache.close)
        if not cache.bus.wait_until_leased(PATIENCE_S):
            raise TimeoutError(f"no lease on {self.url}: is it delayed?")
        return cache

    @contextlib.contextmanager
    def delayed(self) -> Iterator[None]:
        """See `MemoryBus.delayed`."""
        runtime.bus()  # made now, it waits until it has a lease
        with super().delayed():
            yield

    def close(self) -> None:
        """See `MemoryBus.close`; the other servers end as well."""
        self._others.close()
        super().close()


@contextlib.contextmanager
def isolated(**settings: Any) -> Iterator[IsolatedBus]:
    """
    Inside the block this process has a bus of its own and empty near caches: the default one and those of every
    `NearCacheBackend`. A second level is not isolated.

    Args:
        settings: keys of INVALIDATOR that differ from the project's, such as `WRITES="strict"`.
    """
    with IsolatedBus() as memory:
        own = {"URL": memory.url, "SIDECAR": None, "MAX_STALENESS": MAX_STALENESS_S, **settings}
        # At its beginning and at its end, the bus of the process and the near caches on it are closed.
        with override_settings(**{conf.SETTING: {"NAMESPACE": "tests", "GUARD": 1.0, **conf.given(), **own}}):
            try:
                yield memory
            finally:
                settling.abandon()


def _wait_for_the_lease(bus: Invalidator) -> None:
    # The first proof voids what was stored before it, and a test would see a second load.
    if bus.url.startswith("memory://") and bus.status().listener == "own":
        bus.wait_until_leased(PATIENCE_S)


runtime.on_made(_wait_for_the_lease)
