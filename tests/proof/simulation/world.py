"""
The world of one seed: its processes and its server, the time, and the choice of what goes on next.

A step lets one thread go on, lets time pass, begins a read or a write, or lets something go wrong. A thread that is
left in the middle of something (`let_others_go_on`) stays there while others take some steps.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

from invalidator import loads
from invalidator.feeds import sidecar_feed
from invalidator.ledger import PROVEN_AT
from invalidator.link import Post
from invalidator.names import RedisNames
from invalidator.protocol import subscription
from invalidator.protocol.states import State

from . import operations
from .checks import Checks, Violation
from .choices import DURATIONS, MS, Choices, S
from .loop import Handle, SteppedLoop
from .network import SimConnection, SimServer, take_post
from .process import NOT_YET, Process, Thread
from .setup import Setup, draw_setup
from .source import Source
from .words import VisibleLock

DEEPEST = 4
"""How many threads may be in the middle of something while another one goes on."""
RECOVERY = 15 * S
"""Seconds of silence, a reconnect after the longest delay, and some latency, twice."""

READS = (
    (6, operations.read),
    (3, operations.look),
    (4, operations.get_then_set),
    (2, operations.look_at_many),
)

LateRequest = tuple[int, SimServer, Process, RedisNames, int, Post]


class World:
    """
    Everything there is.

    Args:
        choices: what is left to chance.
        traced: whether to keep a trace.
    """

    def __init__(self, choices: Choices, *, traced: bool = False) -> None:
        choices.begin_step()
        self.choices = choices
        self.setup: Setup = draw_setup(choices)
        self.now = 1_000 * S
        self.trace: list[str] = []
        self.traced = traced
        self.failure: Violation | None = None
        self.depth = 0
        self.calm = False
        self.loop = SteppedLoop()
        self.checks = Checks(self)
        self.connections: list[SimConnection] = []
        self.late_requests: list[LateRequest] = []
        self.info_refused = self.info_was_refused = self.setup.info_refused
        self.wall_jump_ms = 0
        self.back_at = 0
        self.sidecar_starts_at = 0
        self.ids_went_back = False
        self._highest_id = (0, 0)
        self._tokens = 0
        self._names = 0
        self.keys = [f"k{i}" for i in range(self.setup.keys)]
        self.tags = [f"t{i}" for i in range(self.setup.tags)]
        self.source = Source([*self.keys, *self.tags])
        self.primary = SimServer(self)
        self.sidecar: Process | None = None
        self._activities: dict[Process, dict[Any, Any]] = {}
        self.processes: list[Process] = []
        self._populate()

    def _populate(self) -> None:
        self.calm = True  # nobody is interrupted before there is anybody else
        if self.setup.server_starts_late:
            self.primary.reachable = False
            self.back_at = self.now + self.choices.duration()
        self.processes = [Process(self, self.next_name(), self._draw_offset()) for _ in range(self.setup.processes)]
        if self.setup.workers:
            self.sidecar = self._make_sidecar("sidecar", self._draw_offset())
            self._start_sidecar_soon()
            self.processes += [self._make_worker() for _ in range(self.setup.workers)]
        self.calm = False

    def _make_sidecar(self, name: str, offset: int) -> Process:
        """A sidecar that has created a file, and does not listen yet."""
        sidecar = Process(self, name, offset)
        sidecar.begin_file()
        return sidecar

    def _start_sidecar_soon(self) -> None:
        self.sidecar_starts_at = self.now + (self.choices.duration() if self.setup.sidecar_starts_late else 0)
        self._start_sidecar()

    def _start_sidecar(self) -> None:
        """Let the sidecar listen, if it is time."""
        if self.sidecar is not None and self.now >= self.sidecar_starts_at:
            self.sidecar.bus.start()

    def _make_worker(self) -> Process:
        sidecar = self.sidecar
        assert sidecar is not None
        return Process(self, self.next_name("w"), sidecar.offset, sidecar.words.memory, sidecar)

    def _draw_offset(self) -> int:
        """Some hosts have just been started, others run since long ago."""
        return self.choices.pick((0, -999 * S - 900 * MS, 10**15, 7 * S + 123_456_789))

    def next_name(self, kind: str = "p") -> str:
        """A name for a new process."""
        self._names += 1
        return f"{kind}{self._names}"

    def tags_of(self, key: str) -> tuple[str, ...]:
        """The tags of a key."""
        return (self.tags[int(key[1:]) % len(self.tags)],) if self.tags else ()

    def draw_ttl(self) -> float | None:
        """Most entries have no TTL."""
        return 0.5 * self.choices.draw(6) if self.choices.one_in(self.setup.ttl_one_in) else None

    def server_clock_ms(self) -> int:
        """The server's wall clock."""
        return 1_700_000_000_000 + self.wall_jump_ms + (0 if self.setup.wall_clock_stands else self.now // MS)

    def token(self) -> str:
        """Something nobody else has drawn: hexadecimal, and no two close to each other."""
        self._tokens += 1
        return f"{self._tokens << 24:012x}"

    def note(self, event: Callable[[], str]) -> None:
        """Write it into the trace."""
        if self.traced:
            self.trace.append(f"{self.now / S:12.6f} {'  ' * self.depth}{event()}")

    def note_id(self, id: tuple[int, int]) -> None:
        """A server gave this id to a message. They go back when a journal is deleted and the clock does not go on."""
        self.ids_went_back |= id <= self._highest_id
        self._highest_id = max(self._highest_id, id)

    def fail(self, rule: str, what: str) -> None:
        """The promise was broken."""
        if self.failure is None:
            self.failure = Violation(f"{rule}: {what}")
            self.note(lambda: f"VIOLATION {self.failure}")
        raise self.failure

    # Running.

    def run(self, steps: int) -> None:
        """Take so many steps (or those of the plan), then let everything recover. Raises Violation."""
        with self._in_place():
            for _ in range(steps):
                if self.choices.over:
                    break
                self.choices.begin_step()
                self.step()
                self._raise_failure()
            self.recover()

    @contextmanager
    def _in_place(self) -> Iterator[None]:
        loads._waiting.after_fork_in_child()
        with (
            self.loop.running(),
            patch.object(loads._waiting, "lock", VisibleLock()),
            patch.object(subscription, "PAGE", self.setup.page),
            patch.object(sidecar_feed, "SPINS", 1),
            patch.object(sidecar_feed, "time", self),
        ):
            try:
                yield
            finally:
                self.calm = True
                for process in list(self._activities):
                    self._end_activities(process)

    def _raise_failure(self) -> None:
        if self.failure is not None:
            raise self.failure

    def step(self) -> None:
        """Something happens."""
        self.advance_to(self.now)
        self._start_sidecar()
        match self.choices.weigh(self.setup.step_weights):
            case "run":
                self._let_somebody_go_on()
            case "advance":
                self._let_time_pass()
            case "begin":
                self._begin_operation()
            case "fault":
                self._let_something_go_wrong()

    def _let_somebody_go_on(self) -> None:
        ready = self._ready()
        if not ready:
            self.advance_to(max(self.now, self._next_event()))
            return
        chosen = self.choices.pick(ready)
        if isinstance(chosen, Handle):
            self.loop.ready.remove(chosen)  # type: ignore[arg-type]
            chosen.run()
            return
        for _ in range(self.choices.pick((1000, 1, 2, 5))):
            if not chosen.is_ready() or self.failure:
                break
            chosen.step()

    def _ready(self) -> list[Thread | Handle]:
        ready: list[Thread | Handle] = [
            thread for process in self.everybody() for thread in process.threads() if thread.is_ready()
        ]
        if not loads._waiting.lock.locked():
            owners = {owner for owner in {handle.owner for handle in self.loop.ready} if self._may_run(owner)}
            ready += [handle for handle in self.loop.ready if handle.owner in owners]
        return ready

    @staticmethod
    def _may_run(process: Process | None) -> bool:
        return process is None or (process.can_run() and not process.is_in_section())

    def everybody(self) -> list[Process]:
        """Every living process, the sidecar included."""
        return [*self.processes, self.sidecar] if self.sidecar else self.processes

    def _let_time_pass(self) -> None:
        if self.choices.one_in(2):
            self.advance_to(max(self.now, self._next_event()))
        else:
            self.advance_to(self.now + min(self.choices.duration(), self._longest_wait()))

    def _longest_wait(self) -> int:
        return DURATIONS[self.setup.longest_wait]

    def _begin_operation(self) -> None:
        process = self.choices.pick(self.processes)
        if self.choices.one_in(self.setup.write_one_in):
            names = list(dict.fromkeys(self.choices.pick(self.source.names) for _ in range(1 + self.choices.draw(2))))
            strictly = self.choices.one_in(self.setup.strict_one_in)
            coroutine = (operations.write_strictly if strictly else operations.write)(process, names)
        else:
            key = self.choices.pick(self.keys)
            coroutine = self.choices.weigh(READS)(process, key)
        self.note(lambda: f"{process.name} begins {coroutine.__name__} {locals_of(coroutine)}")
        self.begin(process, coroutine)

    def begin(self, process: Process, coroutine: Any) -> None:
        """Let a task of *process* become ready."""
        activities = self._activities.setdefault(process, {})

        async def act() -> None:
            try:
                await coroutine
            except Violation:
                pass  # noted
            except Exception as error:  # noqa: BLE001 - a finding
                self.failure = self.failure or Violation(f"crash: {process.name}: {error!r}")
                self.failure.__cause__ = error
            finally:
                activities.pop(activity)

        activity = act()
        activities[activity] = coroutine
        self.loop.begin(process, activity)

    def _let_something_go_wrong(self) -> None:
        fault = self.choices.pick(self.setup.faults)
        self.note(lambda: f"fault: {fault.__name__}")
        fault(self)

    def let_others_go_on(self, process: Process) -> None:
        """A thread of *process* may be left here for a while, or its whole process be stopped."""
        if self.calm or self.depth >= DEEPEST or self.failure or not self.choices.one_in(self.setup.switch_one_in):
            return
        self.depth += 1
        try:
            with self.loop.another_thread():
                if self.choices.one_in(8):
                    process.frozen_until = self.now + self.choices.duration()
                for _ in range(1 + self.choices.draw(8)):
                    self.step()
                    if self.failure:
                        return
                if process.frozen_until > self.now:
                    self.advance_to(process.frozen_until)
        finally:
            self.depth -= 1

    def sleep(self, seconds: float) -> None:
        """A thread of some process sleeps, in the middle of something."""
        if self.depth < DEEPEST:
            self.depth += 1
            try:
                with self.loop.another_thread():
                    if self.calm:
                        self._run_threads()
                    else:
                        self.step()
            finally:
                self.depth -= 1
        self.advance_to(max(self.now + int(seconds * S), min(self._next_event(), self.now + 100 * MS)))

    def _run_threads(self) -> None:
        self.advance_to(self.now)
        for process in self.everybody():
            for thread in process.threads():
                while thread.is_ready():
                    thread.step()

    # Time.

    def advance_to(self, until: int) -> None:
        """Let time pass. What arrives at a server meanwhile is served, in order."""
        while True:
            due, serve = min(self._arrivals(), key=lambda arrival: arrival[0], default=(NOT_YET, None))
            if due > until or serve is None:
                break
            self.now = max(self.now, due)
            serve()
        self.now = max(self.now, until)
        if self.back_at <= self.now:
            self.primary.reachable = True

    def _arrivals(self) -> Iterator[tuple[int, Callable[[], None]]]:
        self.connections = [c for c in self.connections if c.to_server or not c.closed]
        for connection in self.connections:
            if connection.to_server:
                yield (
                    max(connection.to_server[0][0], connection.server.paused_until),
                    lambda connection=connection: self._serve(connection),
                )
        for request in self.late_requests:
            yield max(request[0], request[1].paused_until), lambda request=request: self._take_late(request)

    def _serve(self, connection: SimConnection) -> None:
        _, command = connection.to_server.popleft()
        if connection.down_at is None and connection.server.reachable:
            connection.server.execute(command, connection.deliver)

    def _take_late(self, request: LateRequest) -> None:
        self.late_requests.remove(request)
        _, server, process, names, journal_length, post = request
        if server is self.primary and server.reachable and server.role == "master":
            take_post(process, server, names, journal_length, post)

    def _next_event(self) -> int:
        times = [due for due, _ in self._arrivals()]
        times += [at for c in self.connections if (at := c.next_event()) is not None]
        for process in self.everybody():
            times += [thread.next_time() for thread in process.threads()]
            times += [process.frozen_until, process.stalled_until, process.cut_until]
        times += [self.back_at, self.sidecar_starts_at]
        return min((at for at in times if self.now < at < NOT_YET), default=self.now)

    # Death and birth.

    def replace(self, process: Process) -> None:
        """Kill a process and start another one in its place."""
        process.kill()
        self._end_activities(process)
        at = self.processes.index(process)
        self.calm = True
        self.processes[at] = Process(self, self.next_name(), process.offset) if process.listens else self._make_worker()
        self.calm = False

    def replace_sidecar(self) -> None:
        """Kill the sidecar and start another one on the same memory."""
        old = self.sidecar
        assert old is not None
        old.kill()
        self.calm = True
        self.sidecar = new = Process(self, self.next_name("sidecar"), old.offset, old.words.memory)
        new.bus.start()
        self.calm = False
        if old.words.unstored:
            new.damages_known = -1  # it may have left a position of two halves
        new.applied = old.applied
        new.has_missed = old.has_missed
        for process in self.processes:
            if process.fed_by is old:
                process.fed_by = new

    def replace_file(self) -> None:
        """Kill the sidecar, and start another one that creates a new file in the place of the old."""
        old = self.sidecar
        assert old is not None
        old.kill()
        self.calm = True
        self.sidecar = new = self._make_sidecar(self.next_name("sidecar"), old.offset)
        self._start_sidecar_soon()
        self.calm = False
        new.applied = dict(old.applied)

    def _end_activities(self, process: Process) -> None:
        for activity, coroutine in list(self._activities.pop(process, {}).items()):
            activity.close()
            coroutine.close()
        self.loop.ready = [handle for handle in self.loop.ready if handle.owner is not process]

    # The end.

    def recover(self) -> None:
        """The faults are over. Everybody must have a lease again, and have applied everything."""
        self.choices.begin_step()
        self.note(lambda: "the faults are over")
        self.calm = True
        self.info_refused = False
        self.back_at = self.primary.paused_until = self.sidecar_starts_at = 0
        self._start_sidecar()
        self.primary.reachable = True
        for process in self.everybody():
            process.frozen_until = process.stalled_until = process.cut_until = 0
        for connection in self.connections:
            connection.hurry()
        began_at = self.now
        # A worker's invalidation waits for its sidecar, one after the other.
        patience = RECOVERY + sum(map(len, self._activities.values())) * S
        while unwell := self._who_is_not_well(began_at):
            if self.now > began_at + patience:
                self.fail("recovery", f"after {patience // S} s of calm: {unwell}")
            self._run_everybody()
        self._settle()

    def _settle(self) -> None:
        until = self.now + S // 2
        while self.now < until:
            self._run_everybody()
        for process in self.processes:
            fed_by = process.fed_by  # a dead one, if this worker has not looked for a new file yet
            if fed_by.listener_thread is not None and not (fed_by.has_missed or fed_by.dead):
                self.checks.settled(process)

    def _run_everybody(self) -> None:
        self.advance_to(self.now)
        ready = self._ready()
        for chosen in ready:
            if isinstance(chosen, Handle):
                self.loop.ready.remove(chosen)  # type: ignore[arg-type]
                chosen.run()
            else:
                for _ in range(100_000):
                    if not chosen.is_ready():
                        break
                    chosen.step()
                else:
                    self.fail("recovery", "a thread goes round in circles")
            self._raise_failure()
        if not ready:
            following = self._next_event()
            self.advance_to(following if following > self.now else self.now + S)

    def _who_is_not_well(self, began_at: int) -> list[str]:
        unwell = []
        for process in self.everybody():
            if process.listener_thread is not None:
                remaining = process.bus.make_rule().lease_remaining_ns()
                proven = process.words.memory[PROVEN_AT] >= process.local(began_at) and remaining > 0
                if not proven or process.subscription.state is not State.LIVE:
                    unwell.append(f"{process.name} is {process.subscription.state}, lease proven: {proven}")
            elif process.listens and process.bus.status().state != State.IDLE:
                unwell.append(f"{process.name} takes its parent's listener for its own")
            if queued := process.bus.status().queued:
                unwell.append(f"{process.name} has not delivered {queued} names")
            if waiting := [c for c in self.checks.waiting() if c.process is process]:
                unwell.append(f"{process.name} does not know what became of {len(waiting)} invalidations")
            if self._activities.get(process):
                unwell.append(f"{process.name} has not finished {len(self._activities[process])} operations")
        return unwell


def locals_of(coroutine: Any) -> str:
    """The arguments of a coroutine that has not begun."""
    return " ".join(str(value) for name, value in coroutine.cr_frame.f_locals.items() if name != "process")
