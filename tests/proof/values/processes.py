"""
Several processes in one interpreter: what a process has for itself is put in place when one of its threads has the
turn.

Each has a bus of its own (its ledger, its listener, its publisher) and near caches of its own: the default one, those
of the cache backend, and those of `coherent_lru_cache`. They share a server in memory, the database and the second
level. A listener is no thread here: its steps are taken by `receive`.

What this does not cover: what these processes share though real ones do not (the reasons of the slow path, the list of
connections that a coroutine looks at, Django's own caches of models) makes the library more careful, never less.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from django.core.cache import caches

from django_integration import near_caches, runtime
from django_integration.backend import places
from django_integration.conf import conf
from django_integration.reads import default_cache
from invalidator.extending import CONFIG_OPTIONS
from invalidator.feeds.listener import Listener, Receive, make_listener
from invalidator.steps import Steps

Slot = tuple[Any, str]
"""An object and the name of an attribute that every process has for itself."""


class SteppedWorker:
    """Takes the steps of a listener when it is told to."""

    def __init__(self, name: str, steps: Steps) -> None:
        self.steps = steps
        self.listener: Listener | None = None
        self._is_receiving = False

    def start(self) -> None:
        """Nothing begins by itself."""

    def join(self, timeout_s: float) -> bool:
        """There is nothing to wait for."""
        return True

    def take(self) -> None:
        """Take steps until there is nothing to receive."""
        while not (self._is_receiving and self._nothing_came()):
            step = next(self.steps)
            self._is_receiving = isinstance(step, Receive)

    def _nothing_came(self) -> bool:
        assert self.listener is not None
        connection: Any = self.listener._connection
        return bool(connection._arrived.empty())


class WorldBus(runtime.Bus):
    """
    The bus of one process.

    Args:
        published: called after each publish, by whoever published.
        may_be_left: called before and after it.
    """

    def __init__(self, url: str, published: Callable[[], None], may_be_left: Callable[[str], None]) -> None:
        self._published = published
        self._may_be_left = may_be_left
        self.worker: SteppedWorker | None = None
        super().__init__(url, **{name: getattr(conf, name) for name in CONFIG_OPTIONS})

    def _make_listener(self, ledger: Any, journal: Any) -> Listener:
        def make_worker(name: str, steps: Steps) -> SteppedWorker:
            self.worker = SteppedWorker(name, steps)
            return self.worker

        listener = make_listener(
            self.config,
            self._link,
            ledger,
            self,
            node=self.node,
            clock=self.clock,
            journal=journal,
            make_worker=make_worker,
        )
        assert self.worker is not None
        self.worker.listener = listener
        return listener

    def _publish(self, *given: Any) -> Any:
        self._may_be_left("before a publish")
        receipt = super()._publish(*given)
        self._published()
        self._may_be_left("after a publish")
        return receipt


class Process:
    """One process: what it has for itself, while it is not its turn."""

    def __init__(self, name: str, bus: WorldBus, slots: list[Slot]) -> None:
        self.name = name
        self.bus = bus
        self.is_behind = False
        """Whether something was published that it has not received."""
        self._slots = slots
        self._values: list[Any] = []

    def receive(self) -> None:
        """Receive everything that was published."""
        self.bus.start()
        assert self.bus.worker is not None
        self.bus.worker.take()
        self.is_behind = False

    def put(self) -> None:
        """Put what it has for itself in place."""
        for (owner, name), value in zip(self._slots, self._values, strict=True):
            setattr(owner, name, value)

    def take(self) -> None:
        """Take what it has for itself away."""
        self._values = [getattr(owner, name) for owner, name in self._slots]


class Processes:
    """
    All processes.

    Args:
        lrus: functions decorated with `coherent_lru_cache`.
    """

    def __init__(
        self, names: list[str], url: str, may_be_left: Callable[[str], None], *, lrus: list[Any], prompt: bool
    ) -> None:
        self._prompt = prompt
        self._current: Process | None = None
        slots = list(_slots(lrus))
        self.all: list[Process] = []
        runtime.reset()
        for name in names:
            bus = WorldBus(url, self._published, may_be_left)
            runtime._runtime.bus = bus
            for callback in runtime._runtime.on_made:
                callback(bus)
            near_caches._opened = {}
            default_cache._forget()
            for lru in lrus:
                lru._results = None
            for place in places._places.values():
                place._near = None
                place.forget()
            default_cache.default_cache()
            process = Process(name, bus, slots)
            process.receive()
            assert bus.status().leased, "a process has no lease"
            process.take()
            self.all.append(process)

    def switch_to(self, process: Process) -> None:
        """Let *process* be the one that runs."""
        if process is not self._current:
            if self._current is not None:
                self._current.take()
            process.put()
            self._current = process

    def _published(self) -> None:
        for process in self.all:
            process.is_behind = True
            if self._prompt or process is self._current:
                process.receive()

    def close(self) -> None:
        """End all of them."""
        for process in self.all:
            self.switch_to(process)
            runtime.reset()


def _slots(lrus: list[Any]) -> Iterator[Slot]:
    for alias in ("default", "one", "two"):
        caches[alias]  # so that its place is known
    yield runtime._runtime, "bus"
    yield near_caches, "_opened"
    yield default_cache, "_cache"
    yield default_cache.front, "cache"
    for place in places._places.values():
        for name in ("_near", "read", "read_many"):
            yield place, name
    for lru in lrus:
        yield lru, "_results"
