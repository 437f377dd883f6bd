"""What the application does: reads and writes, as coroutines that can be left at every `await`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from invalidator import Hold, Loaded
from invalidator.errors import HoldEnded, PublishError

from .checks import Change
from .choices import S
from .loop import Pause
from .source import Value

if TYPE_CHECKING:
    from .process import Process


class LoaderFailed(Exception):
    """The database is away."""


async def pause(process: Process) -> None:
    """Be left alone for a while, or not."""
    for _ in range(process.world.choices.draw(3)):
        await Pause()


async def load(process: Process, key: str) -> Value:
    """What a loader does: take a snapshot, look, and come back."""
    world = process.world
    await pause(process)
    snapshot = world.now
    as_of = snapshot - world.choices.draw(3) * world.setup.replica_lag_ns // 2
    await pause(process)
    if world.choices.one_in(24):
        raise LoaderFailed
    return world.source.read(key, world.tags_of(key), as_of, snapshot)


async def read(process: Process, key: str) -> None:
    """`get_or_set`: the loader may know the tags, or the caller."""
    world = process.world
    expected = world.checks.expect(process)
    tags = world.tags_of(key)
    loader_knows = world.choices.one_in(3)

    async def loader() -> object:
        value = await load(process, key)
        return Loaded(value, tags=tags) if loader_knows else value

    try:
        value = await process.cache.aget_or_set(key, loader, tags=() if loader_knows else tags, ttl=world.draw_ttl())
    except LoaderFailed:
        return
    world.checks.served(process, value, expected)


async def get_then_set(process: Process, key: str) -> None:
    """The plain way: look, compute, store."""
    world = process.world
    expected = world.checks.expect(process)
    value = process.cache.get(key)
    if value is not None:
        world.checks.served(process, value, expected)
        return
    try:
        value = await load(process, key)
    except LoaderFailed:
        return
    process.cache.set(key, value, tags=world.tags_of(key), ttl=world.draw_ttl())


async def look(process: Process, key: str) -> None:
    """Only look: nobody loads, so that idle keys stay as they are."""
    expected = process.world.checks.expect(process)
    value = process.cache.get(key)
    if value is not None:
        process.world.checks.served(process, value, expected)


async def look_at_many(process: Process, key: str) -> None:
    """`get_many`, of that key and all others."""
    expected = process.world.checks.expect(process)
    keys = [key, *(other for other in process.world.keys if other != key)]
    for value in process.cache.get_many(keys).values():
        process.world.checks.served(process, value, expected)


async def write(process: Process, names: list[str]) -> None:
    """Change names in one transaction, and invalidate them after the commit."""
    world = process.world
    await pause(process)
    if world.choices.one_in(8):
        return  # rolled back: nothing changed, nothing is published
    versions = world.source.commit(names, world.now)
    committed_at = world.now
    world.note(lambda: f"{process.name} commits {versions}")
    await pause(process)
    publish(process, versions, committed_at)


def publish(process: Process, versions: dict[str, int], committed_at: int) -> None:
    """Invalidate what was changed."""
    world = process.world
    called_at = world.now
    keys, tags = split(versions)
    everything = len(versions) == len(world.source.names) and world.choices.one_in(2)
    try:
        receipt = process.bus.clear() if everything else process.bus.invalidate(*keys, tags=tags)
    except PublishError:
        receipt = None
    process.has_written(versions)
    if receipt is not None:
        world.checks.watch(Change(process, versions, committed_at, called_at, receipt))


async def write_strictly(process: Process, names: list[str]) -> None:
    """Hold, commit, release; or die in between."""
    world = process.world
    keys, tags = split(names)
    damages, began_at = world.checks.damages, world.now
    try:
        hold = process.bus.hold(*keys, tags=tags, duration=world.choices.pick((0.5, 3.0, 1.5, 0.1)))
    except (PublishError, HoldEnded):
        return  # nothing was held, so nothing is committed
    process.holds(names, hold.owner, began_at + int(hold.duration * S))
    await pause(process)
    await pause(process)
    try:
        hold.check()
    except HoldEnded:
        hold_release(process, hold)
        return
    commits = not world.choices.one_in(6) and hold.remaining_s > 0
    versions = world.source.commit(names, world.now) if commits else {}
    committed_at = world.now
    if commits:
        world.note(lambda: f"{process.name} commits {versions}, held")
        world.checks.committed_under_hold(versions, committed_at, damages)
    await pause(process)
    if world.choices.one_in(2):
        world.note(lambda: f"{process.name}'s writer dies before it releases")
        return
    called_at = world.now
    receipt = hold_release(process, hold)
    if receipt is not None and versions:
        world.checks.watch(Change(process, versions, committed_at, called_at, receipt))
    process.has_written(versions)


def hold_release(process: Process, hold: Hold) -> object:
    """Release, though Redis may refuse it."""
    process.released(hold.owner)
    try:
        return hold.release()
    except PublishError:
        return None


def split(names: object) -> tuple[list[str], list[str]]:
    """Keys and tags: tags begin with "t"."""
    names = list(names)  # type: ignore[call-overload]
    return [name for name in names if not name.startswith("t")], [name for name in names if name.startswith("t")]
