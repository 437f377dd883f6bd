"""What goes wrong, each under the name that a trace shows."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from invalidator.names import redis_names
from invalidator.protocol.frames import Push

from .network import SimConnection, SimServer

if TYPE_CHECKING:
    from .process import Process
    from .world import World

NAMES = redis_names("sim")
MOST_PROCESSES = 7

Fault = Callable[["World"], None]


def _connection(world: World) -> SimConnection | None:
    open_ones = [c for c in world.connections if not c.closed and c.down_at is None and not c.half_open]
    return world.choices.pick(open_ones) if open_ones else None


def _process(world: World) -> Process:
    return world.choices.pick(world.processes)


def _cut_all(world: World, server: SimServer) -> None:
    """The end of a server's run: some connections are reset, of others nobody hears again."""
    for connection in world.connections:
        if connection.server is server and connection.down_at is None:
            connection.to_server.clear()
            if world.choices.one_in(4):
                connection.go_silent()
            else:
                connection.drop(lost=world.choices.draw(len(connection.to_client) + 1))
    world.late_requests = [request for request in world.late_requests if request[1] is not server]


# Connections.


def drop(world: World) -> None:
    """A connection is reset; the newest frames on their way are lost."""
    if connection := _connection(world):
        connection.drop(lost=world.choices.draw(len(connection.to_client) + 1))


def half_open(world: World) -> None:
    """A connection goes silent."""
    if connection := _connection(world):
        connection.go_silent()


def slow(world: World) -> None:
    """A connection becomes slow."""
    if connection := _connection(world):
        connection.latency = world.choices.duration(4)


def cut(world: World) -> None:
    """A process cannot reach the server for a while."""
    process = _process(world)
    process.cut_until = world.now + world.choices.duration(5)
    if process.connection is not None and not world.choices.one_in(3):
        process.connection.go_silent()


def lose_message(world: World) -> None:
    """A message never arrives, on a connection that stands."""
    if connection := _connection(world):
        connection.losing += 1


# The server.


def pause_server(world: World) -> None:
    """The server stops for a while."""
    world.primary.paused_until = world.now + world.choices.duration(4)


def outage(world: World) -> None:
    """The server is away and comes back as another run, with all, part, or none of its data."""
    old = world.primary
    old.reachable = False
    _cut_all(world, old)
    new = SimServer(world)
    if not world.choices.one_in(3):
        new.take_over(old)
        new.lose_suffix(world.choices.draw(4))
    world.primary = new
    new.reachable = False
    world.back_at = world.now + world.choices.duration()
    world.checks.damage()


def fail_over(world: World) -> None:
    """A replica takes over, without the newest writes. The old primary dies, or lives on as a replica."""
    old = world.primary
    new = SimServer(world)
    new.take_over(old)
    new.lose_suffix(world.choices.draw(4))
    if world.choices.one_in(2):
        old.role = "slave"
    else:
        old.reachable = False
        _cut_all(world, old)
    world.late_requests = [request for request in world.late_requests if request[1] is not old]
    world.primary = new
    world.checks.damage()


def demote_and_promote(world: World) -> None:
    """The same run is primary again, with another history."""
    _cut_all(world, world.primary)
    world.primary.lose_suffix(world.choices.draw(4))
    world.primary.replid = world.token()
    world.checks.damage()


def flush_all(world: World) -> None:
    """FLUSHALL."""
    for key in (NAMES.journal, NAMES.epoch, NAMES.holds):
        world.primary.delete(key)
    world.checks.damage()


def delete_key(world: World) -> None:
    """One of our keys is deleted or evicted."""
    world.primary.delete(world.choices.pick((NAMES.journal, NAMES.epoch, NAMES.holds)))
    world.checks.damage()


def trim(world: World) -> None:
    """XTRIM."""
    world.primary.trim(NAMES.journal, 1 + world.choices.draw(3))


def delete_entry(world: World) -> None:
    """XDEL."""
    world.primary.delete_entry(NAMES.journal, world.choices.draw(8))
    world.checks.damage()


def change_wall_clock(world: World) -> None:
    """The server's wall clock jumps."""
    world.wall_jump_ms += (world.choices.draw(5) - 2) * 3_000
    world.checks.damage()  # holds end by that clock


def refuse_info(world: World) -> None:
    """ACL: INFO is refused, or allowed again."""
    world.info_refused = not world.info_refused
    world.info_was_refused = True


def publish_nonsense(world: World) -> None:
    """Somebody publishes what is no message."""
    payload = world.choices.pick((b'{"v":1,"keys":["k0"]}', b"1-1 1-0 {}", b"\xff", b'{"v":9}'))
    for deliver in list(world.primary.subscribers.get(NAMES.channel, [])):
        deliver(Push(b"message", NAMES.channel.encode(), payload))
    world.checks.damage()


# Processes.


def freeze(world: World) -> None:
    """SIGSTOP: nothing of a process runs, its clock goes on."""
    _process(world).frozen_until = world.now + world.choices.duration(4)


def stall_listener(world: World) -> None:
    """A listener's thread does not run, though the others do."""
    _process(world).fed_by.stalled_until = world.now + world.choices.duration(4)


def kill(world: World) -> None:
    """kill -9, and a new process in its place."""
    if world.depth == 0:
        world.replace(_process(world))


def kill_sidecar(world: World) -> None:
    """kill -9 of the sidecar, perhaps in the middle of a store, and a new one on the same memory."""
    if world.depth == 0 and world.sidecar is not None:
        world.replace_sidecar()


def replace_file(world: World) -> None:
    """The ledger's file is lost, and a new sidecar creates another."""
    if world.depth == 0 and world.sidecar is not None:
        world.replace_file()


def fork(world: World) -> None:
    """A process forks."""
    process = _process(world)
    if world.depth == 0 and process.listens and process.can_run() and len(world.processes) < MOST_PROCESSES:
        world.processes.append(process.fork(world.next_name()))


FAULTS: tuple[Fault, ...] = (
    drop,
    half_open,
    slow,
    cut,
    lose_message,
    pause_server,
    outage,
    fail_over,
    demote_and_promote,
    flush_all,
    delete_key,
    trim,
    delete_entry,
    change_wall_clock,
    refuse_info,
    publish_nonsense,
    freeze,
    stall_listener,
    kill,
    kill_sidecar,
    replace_file,
    fork,
)
