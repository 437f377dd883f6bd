"""
Everything that is done to a round's world, by name.

A fault is a function of the stage and a random source. It does one thing once, undoes what must be undone, and
returns; the round repeats it. All its random numbers are drawn before anything that depends on time, so that a
seed draws the same faults again. (What they meet depends on the machine.)

Rule 1: a fault undoes itself, whatever happens in it.
Rule 2: `evidence` names what must have been counted in a round of this fault alone. Where it is missing the round
has proved nothing, and that is a failure of the suite.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from .stage import Member, Stage

Inject = Callable[[Stage, Random], None]

MOST_KILLS = 3
"""Processes replaced in one round: starting one takes the machine half a second."""


@dataclass(frozen=True, slots=True)
class Fault:
    """
    Args:
        name: for the command line and the table.
        inject: does it once.
        lanes: whether processes must talk through the proxy.
        persistent: whether the server must keep its data on disk, True or False; None if it does not matter.
        strict: whether writers must announce holds.
        sidecar: whether a sidecar must listen for some of the processes.
        by_hold: whether a hold alone already makes older versions stale (`checker.Truth`).
        voids: whether it may remove from the journal what a reader has not received, so that the reader flushes. No
            other fault may flush anything.
        evidence: counts of the round that must not be 0.
    """

    name: str
    inject: Inject
    lanes: bool = False
    persistent: bool | None = None
    strict: bool = False
    by_hold: bool = False
    sidecar: bool = False
    voids: bool = False
    evidence: tuple[str, ...] = ()


FAULTS: dict[str, Fault] = {}


def fault(
    name: str,
    *,
    lanes: bool = False,
    persistent: bool | None = None,
    strict: bool = False,
    by_hold: bool = False,
    sidecar: bool = False,
    voids: bool = False,
    evidence: tuple[str, ...] = (),
) -> Callable[[Inject], Inject]:
    """Register a fault under its name."""

    def register(inject: Inject) -> Inject:
        FAULTS[name] = Fault(name, inject, lanes, persistent, strict, by_hold, sidecar, voids, evidence)
        return inject

    return register


def _breath(stage: Stage, random: Random, most: float = 0.6) -> float:
    """Seconds between 0.05 and *most* bounds."""
    return random.uniform(0.05, most * max(stage.max_staleness, 0.5))


def _outage(stage: Stage, random: Random) -> float:
    """Seconds: mostly longer than a bound, sometimes much shorter."""
    return random.choice((0.2, 0.7, 1.2, 1.7)) * stage.max_staleness * random.uniform(0.8, 1.2)


def _one(stage: Stage, random: Random, role: str) -> Member:
    return random.choice(stage.living(role))


def _a_listener(stage: Stage, random: Random) -> Member:
    return random.choice(stage.listeners())


# ------------------------------------------------------------------------------------------ none


@fault("none")
def nothing(stage: Stage, random: Random) -> None:
    """Nothing is done: what the suite itself costs."""
    stage.sleep(0.5)


# ------------------------------------------------------------------------------------------ connections


@fault("kill-pubsub", evidence=("reconnects", "replays"))
def kill_pubsub(stage: Stage, random: Random) -> None:
    """CLIENT KILL TYPE pubsub: every subscription is gone, the journal is intact."""
    pause_s = _breath(stage, random)
    if stage.command("CLIENT", "KILL", "TYPE", "pubsub"):
        stage.note("kill-pubsub")
    stage.sleep(pause_s)


@fault("kill-normal")
def kill_normal(stage: Stage, random: Random) -> None:
    """CLIENT KILL TYPE normal: publishers lose their connections, perhaps an answer."""
    pause_s = _breath(stage, random)
    if stage.command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"):
        stage.note("kill-normal")
    stage.sleep(pause_s)


@fault("overflow", evidence=("reconnects",))
def overflow(stage: Stage, random: Random) -> None:
    """A stopped subscriber falls behind by more than Redis' output buffer, and is dropped."""
    reader, pause_s = _a_listener(stage, random), _breath(stage, random)
    stage.command("CONFIG", "SET", "client-output-buffer-limit", "pubsub 65536 0 0")
    try:
        with stage.stopped(reader):
            stage.note(f"overflow {reader.name}")
            stage.shout()
    finally:
        stage.command("CONFIG", "SET", "client-output-buffer-limit", "pubsub 33554432 8388608 60")
    stage.sleep(pause_s)


# ------------------------------------------------------------------------------------------ a slow server


@fault("client-pause")
def client_pause(stage: Stage, random: Random) -> None:
    """CLIENT PAUSE, of everything or of writes."""
    for_s, what = _outage(stage, random), random.choice(("ALL", "WRITE"))
    if stage.command("CLIENT", "PAUSE", int(for_s * 1000), what):
        stage.note(f"client-pause {what} {for_s:.2f} s")
    stage.sleep(for_s + 0.2)
    stage.command("CLIENT", "UNPAUSE")


@fault("debug-sleep")
def debug_sleep(stage: Stage, random: Random) -> None:
    """DEBUG SLEEP: the server does nothing at all for a while."""
    for_s, pause_s = _outage(stage, random), _breath(stage, random)
    with stage.server_lock:
        stage.note(f"debug-sleep {for_s:.2f} s")
        stage.command("DEBUG", "SLEEP", for_s)
    stage.sleep(pause_s)


@fault("stop-server")
def stop_server(stage: Stage, random: Random) -> None:
    """SIGSTOP of the server: connections stay open, nothing is answered."""
    for_s, pause_s = _outage(stage, random), _breath(stage, random)
    with stage.server_lock:
        stage.note(f"stop-server {for_s:.2f} s")
        stage.server.pause()
        try:
            stage.sleep(for_s)
        finally:
            stage.server.resume()
    stage.sleep(pause_s)


# ------------------------------------------------------------------------------------------ readers


@fault("stop-reader")
def stop_reader(stage: Stage, random: Random) -> None:
    """SIGSTOP of a reader, listener and all: messages meanwhile wait in its socket."""
    reader, for_s, pause_s = _one(stage, random, "reader"), _outage(stage, random), _breath(stage, random, 0.3)
    with stage.stopped(reader):
        stage.note(f"stop-reader {reader.name} {for_s:.2f} s")
        stage.sleep(for_s)
    stage.sleep(pause_s)


@fault("stop-and-drop", evidence=("reconnects", "replays"))
def stop_and_drop(stage: Stage, random: Random) -> None:
    """A stopped reader loses its connection and, with it, messages."""
    _while_away(stage, random, "stop-and-drop")


def _while_away(stage: Stage, random: Random, what: str, *commands: tuple[str, ...]) -> None:
    """Stop a reader, drop its connection, let writers write, do *commands*, let it go on."""
    reader, before_s, after_s = _a_listener(stage, random), _breath(stage, random), _breath(stage, random)
    drop_all_again, pause_s = random.random() < 0.5, _breath(stage, random)
    with stage.stopped(reader):
        stage.command("CLIENT", "KILL", "TYPE", "pubsub")
        stage.sleep(before_s)
        for command in commands:
            stage.command(*command)
        stage.note(f"{what} {reader.name} away")
        stage.sleep(after_s)
        if drop_all_again:
            stage.command("CLIENT", "KILL", "TYPE", "pubsub")
    stage.sleep(pause_s)


@fault("kill-reader")
def kill_reader(stage: Stage, random: Random) -> None:
    """kill -9 of a reader; another takes its place."""
    reader, pause_s = _one(stage, random, "reader"), _breath(stage, random, 2.0)
    if stage.counts["kill-reader"] < MOST_KILLS:
        stage.note(f"kill-reader {reader.name}")
        stage.kill_and_replace(reader)
    stage.sleep(pause_s + 0.5)


@fault("fork", evidence=("forks",))
def fork(stage: Stage, random: Random) -> None:
    """A reader forks, and both go on as readers; sometimes connections are dropped at that moment."""
    reader, drop, pause_s = _one(stage, random, "reader"), random.random() < 0.5, _breath(stage, random, 2.0)
    if stage.counts["fork"] < MOST_KILLS:
        stage.note(f"fork {reader.name}")
        reader.say("f")
        if drop:
            stage.command("CLIENT", "KILL", "TYPE", "pubsub")
    stage.sleep(pause_s + 0.5)


@fault("wall-clock")
def wall_clock(stage: Stage, random: Random) -> None:
    """The wall clock of a reader jumps by hours or years. (Faked in the process: the machine has only one.)"""
    reader, pause_s = _one(stage, random, "reader"), _breath(stage, random)
    stage.note(f"wall-clock {reader.name}")
    reader.say("c")
    stage.sleep(pause_s)


@fault("starve-listener", evidence=("starvations",))
def starve_listener(stage: Stage, random: Random) -> None:
    """A reader's own thread keeps the interpreter to itself; its listener receives nothing, and it reads on."""
    reader, pause_s = _one(stage, random, "reader"), _breath(stage, random, 2.0)
    stage.note(f"starve-listener {reader.name}")
    reader.say("g")
    stage.sleep(pause_s + 1.5 * stage.max_staleness)


@fault("endless-load", evidence=("endless_loads",))
def endless_load(stage: Stage, random: Random) -> None:
    """Loads that take several bounds; others ask for the same rows meanwhile."""
    pause_s = _breath(stage, random)
    stage.note("endless-load")
    for reader in stage.living("reader"):
        reader.say("e")
    stage.sleep(5 * stage.max_staleness + pause_s)


# ------------------------------------------------------------------------------------------ the server dies


@fault("crash-empty", voids=True, persistent=False, evidence=("reconnects", "flushes"))
def crash_empty(stage: Stage, random: Random) -> None:
    """kill -9 of the server, which comes back with nothing."""
    down_s, pause_s = _breath(stage, random, 1.5), _breath(stage, random, 1.5)
    with stage.server_lock:
        stage.note(f"crash-empty {down_s:.2f} s")
        stage.server.kill()
        stage.sleep(down_s)
        stage.server.restart()
    stage.sleep(pause_s)


@fault("crash-rollback", voids=True, persistent=False, evidence=("reconnects", "flushes"))
def crash_rollback(stage: Stage, random: Random) -> None:
    """kill -9 of the server, which comes back with an older state: what it accepted since then is gone."""
    older_s, down_s, pause_s = _breath(stage, random, 1.5), _breath(stage, random), _breath(stage, random, 1.5)
    with stage.server_lock:
        stage.command("SAVE")
        stage.sleep(older_s)
        stage.note(f"crash-rollback of {older_s:.2f} s")
        stage.server.kill()
        stage.sleep(down_s)
        stage.server.start()
    stage.sleep(pause_s)


@fault("crash-lossy", voids=True, persistent=False, evidence=("reconnects", "flushes"))
def crash_lossy(stage: Stage, random: Random) -> None:
    """
    The same while a reader is away: it never receives what was lost, and the journal it finds continues its own.

    So the journal alone looks whole, and only the server's run shows the truth.
    """
    reader, older_s, pause_s = _a_listener(stage, random), _breath(stage, random, 1.5), _breath(stage, random, 1.5)
    with stage.server_lock:
        with stage.stopped(reader):
            stage.command("CLIENT", "KILL", "TYPE", "pubsub")
            stage.command("SAVE")
            stage.sleep(older_s)
            stage.note(f"crash-lossy of {older_s:.2f} s, {reader.name} away")
            stage.server.kill()
            stage.server.start()
        stage.sleep(0.3)
    stage.sleep(pause_s)


@fault("crash-persistent", voids=True, persistent=True, evidence=("reconnects", "flushes"))
def crash_persistent(stage: Stage, random: Random) -> None:
    """kill -9 of the server, which comes back with all it had."""
    down_s, pause_s = _breath(stage, random, 1.5), _breath(stage, random, 1.5)
    with stage.server_lock:
        stage.note(f"crash-persistent {down_s:.2f} s")
        stage.server.kill()
        stage.sleep(down_s)
        stage.server.start()
    stage.sleep(pause_s)


@fault("demote", voids=True, evidence=("reconnects", "flushes"))
def demote(stage: Stage, random: Random) -> None:
    """The primary becomes an empty server's replica, and a primary again: same run, another history."""
    for_s, pause_s = _outage(stage, random) + 0.3, _breath(stage, random, 1.5)
    with stage.server_lock:
        host, port = stage.other_server().url.removeprefix("redis://").removesuffix("/0").split(":")
        stage.note(f"demote {for_s:.2f} s")
        stage.command("REPLICAOF", host, port)
        try:
            stage.sleep(for_s)
        finally:
            stage.command("REPLICAOF", "NO", "ONE")
    stage.sleep(pause_s)


# ------------------------------------------------------------------------------------------ the server's data


@fault("flushall", voids=True, evidence=("flushes",))
def flushall(stage: Stage, random: Random) -> None:
    """FLUSHALL while a reader is away."""
    _while_away(stage, random, "flushall", ("FLUSHALL",))


@fault("script-flush")
def script_flush(stage: Stage, random: Random) -> None:
    """SCRIPT FLUSH: the publish script is unknown."""
    pause_s = _breath(stage, random, 0.3)
    if stage.command("SCRIPT", "FLUSH"):
        stage.note("script-flush")
    stage.sleep(pause_s)


@fault("del-journal", voids=True, evidence=("flushes",))
def del_journal(stage: Stage, random: Random) -> None:
    """The journal is deleted while a reader is away."""
    _while_away(stage, random, "del-journal", ("DEL", stage.names.journal))


@fault("del-epoch", voids=True, evidence=("flushes",))
def del_epoch(stage: Stage, random: Random) -> None:
    """The epoch is deleted while a reader is away."""
    _while_away(stage, random, "del-epoch", ("DEL", stage.names.epoch))


@fault("del-keys", voids=True, evidence=("flushes",))
def del_keys(stage: Stage, random: Random) -> None:
    """All our keys are deleted while a reader is away."""
    _while_away(stage, random, "del-keys", ("DEL", stage.names.journal, stage.names.epoch))


@fault("xtrim", voids=True, evidence=("flushes",))
def xtrim(stage: Stage, random: Random) -> None:
    """The journal is trimmed to almost nothing, or nothing, while a reader is away."""
    keep = random.choice(("0", "1", "3"))
    _while_away(stage, random, "xtrim", ("XTRIM", stage.names.journal, "MAXLEN", keep))


# ------------------------------------------------------------------------------------------ the network


def _a_lane(stage: Stage, random: Random) -> Member:
    """Mostly a listener's, sometimes a writer's."""
    return _a_listener(stage, random) if random.random() < 0.8 else _one(stage, random, "writer")


@fault("proxy-cut", lanes=True, evidence=("reconnects",))
def proxy_cut(stage: Stage, random: Random) -> None:
    """A process' connections break, and for a while there are no others."""
    member, refuse, for_s, pause_s = (
        _a_lane(stage, random),
        random.random() < 0.6,
        _outage(stage, random),
        _breath(stage, random),
    )
    if member.lane is not None:
        stage.note(f"proxy-cut {member.name}{f' for {for_s:.2f} s' if refuse else ''}")
        member.lane.cut(refuse=refuse)
        if refuse:
            stage.sleep(for_s)
        member.lane.heal()
    stage.sleep(pause_s)


@fault("proxy-delay", lanes=True)
def proxy_delay(stage: Stage, random: Random) -> None:
    """Everything to and from a process comes late: proofs that arrive are old."""
    member, delay_s, for_s, pause_s = (
        _a_lane(stage, random),
        random.choice((0.05, 0.3, 0.6)) * stage.max_staleness,
        1.5 * _outage(stage, random),
        _breath(stage, random),
    )
    if member.lane is not None:
        stage.note(f"proxy-delay {member.name} by {delay_s:.2f} s for {for_s:.2f} s")
        member.lane.slow(delay_s=delay_s)
        stage.sleep(for_s)
        member.lane.heal()
    stage.sleep(pause_s)


@fault("late-start", lanes=True, evidence=("early_reads",))
def late_start(stage: Stage, random: Random) -> None:
    """A reader starts behind a slow network: it has read and stored every row before it listens, while others write."""
    reader, delay_s, pause_s = (
        _one(stage, random, "reader"),
        random.uniform(0.3, 1.0) * stage.max_staleness,
        _breath(stage, random, 2.0),
    )
    if reader.lane is not None and stage.counts["late-start"] < MOST_KILLS:
        stage.note(f"late-start {reader.name} behind {delay_s:.2f} s")
        reader.lane.slow(delay_s=delay_s)
        stage.kill_and_replace(reader)
        stage.sleep(2.0 + 4 * delay_s)
        reader.lane.heal()
    stage.sleep(pause_s + 0.5)


@fault("proxy-black-hole", lanes=True, evidence=("reconnects",))
def proxy_black_hole(stage: Stage, random: Random) -> None:
    """
    A half-open connection, in one direction or both; at its end what was held back arrives, or nothing ever does.

    Sometimes what came down before it was slow: the last proof then arrives when nothing else does any more.
    """
    member, (up, down), for_s, delay, cut, pause_s = (
        _a_lane(stage, random),
        random.choice(((True, True), (False, True), (False, True), (True, False))),
        _outage(stage, random) + 0.5 * stage.max_staleness,
        random.choice((0.0, 0.2, 0.4)),
        random.random() < 0.4,
        _breath(stage, random),
    )
    if member.lane is not None:
        ways = " and ".join(way for way, closed in (("up", up), ("down", down)) if closed)
        stage.note(f"proxy-black-hole {member.name} {ways} {for_s:.2f} s")
        if delay:
            member.lane.slow(delay_s=delay * stage.max_staleness, up=False)
            stage.sleep(stage.max_staleness)
        member.lane.close_gates(up=up, down=down)
        stage.sleep(for_s)
        if cut:
            member.lane.cut()
        member.lane.heal()
    stage.sleep(pause_s)


@fault("proxy-throttle", lanes=True)
def proxy_throttle(stage: Stage, random: Random) -> None:
    """A process' network carries a few kilobytes a second."""
    member, bytes_per_s, for_s, pause_s = (
        _a_lane(stage, random),
        random.choice((1_000, 4_000, 20_000)),
        1.5 * _outage(stage, random),
        _breath(stage, random),
    )
    if member.lane is not None:
        stage.note(f"proxy-throttle {member.name} {bytes_per_s} B/s for {for_s:.2f} s")
        member.lane.slow(bytes_per_s=bytes_per_s)
        stage.sleep(for_s)
        member.lane.heal()
    stage.sleep(pause_s)


# ------------------------------------------------------------------------------------------ the sidecar


@fault("kill-sidecar", sidecar=True, evidence=("replays",))
def kill_sidecar(stage: Stage, random: Random) -> None:
    """kill -9 of the sidecar; another goes on with its file, at once or after a while."""
    sidecar, pause_s = _one(stage, random, "sidecar"), _breath(stage, random, 2.0)
    first_stopped_s = random.choice((0.0, _outage(stage, random)))
    stage.note(f"kill-sidecar {sidecar.name} stopped for {first_stopped_s:.2f} s")
    with stage.stopped(sidecar):  # a dead one, as its workers see it
        stage.sleep(first_stopped_s)
        stage.kill_and_replace(sidecar)
    stage.sleep(pause_s)


@fault("stop-sidecar", sidecar=True)
def stop_sidecar(stage: Stage, random: Random) -> None:
    """SIGSTOP of the sidecar: its ledger stands still, at any line of the writing."""
    sidecar, for_s, pause_s = _one(stage, random, "sidecar"), _outage(stage, random), _breath(stage, random, 0.3)
    with stage.stopped(sidecar):
        stage.note(f"stop-sidecar {for_s:.2f} s")
        stage.sleep(for_s)
    stage.sleep(pause_s)


@fault("blink-sidecar", sidecar=True)
def blink_sidecar(stage: Stage, random: Random) -> None:
    """SIGSTOP and SIGCONT of the sidecar, many times for milliseconds: readers meet half-done writing."""
    sidecar, pauses_s = _one(stage, random, "sidecar"), [random.uniform(0.001, 0.03) for _ in range(40)]
    stage.note("blink-sidecar")
    for pause_s in pauses_s:
        with stage.stopped(sidecar):
            stage.sleep(pause_s)
        stage.sleep(0.002)


@fault("drop-sidecar", voids=True, sidecar=True, evidence=("reconnects", "replays"))
def drop_sidecar(stage: Stage, random: Random) -> None:
    """The sidecar loses its connection and, stopped, messages; sometimes the journal is trimmed meanwhile."""
    sidecar, for_s, trim, pause_s = (
        _one(stage, random, "sidecar"),
        _outage(stage, random),
        random.random() < 0.3,
        _breath(stage, random),
    )
    with stage.stopped(sidecar):
        stage.command("CLIENT", "KILL", "TYPE", "pubsub")
        stage.note(f"drop-sidecar {for_s:.2f} s{' trimmed' if trim else ''}")
        stage.sleep(for_s)
        if trim:
            stage.command("XTRIM", stage.names.journal, "MAXLEN", "1")
    stage.sleep(pause_s)


# ------------------------------------------------------------------------------------------ writers


@fault("kill-writer")
def kill_writer(stage: Stage, random: Random) -> None:
    """kill -9 of a writer at any moment. What it had not published was never accepted: nothing is promised for it."""
    writer, pause_s = _one(stage, random, "writer"), _breath(stage, random, 2.0)
    if stage.counts["kill-writer"] < MOST_KILLS:
        stage.note(f"kill-writer {writer.name}")
        stage.kill_and_replace(writer)
    stage.sleep(pause_s + 0.5)


@fault("strict-kill-writer", voids=True, strict=True, by_hold=True)
def strict_kill_writer(stage: Stage, random: Random) -> None:
    """
    kill -9 of a strict writer between commit and release: its hold stands for what it could not say any more.

    Sometimes a reader is away meanwhile, or everybody, or the journal is trimmed behind a reader's back.
    """
    writer, reader, pause_s = _one(stage, random, "writer"), _a_listener(stage, random), _breath(stage, random, 2.0)
    how = random.choice(("alone", "drop", "away", "trim"))
    if stage.counts["strict-kill-writer"] < 2 * MOST_KILLS:
        stage.note(f"strict-kill-writer {writer.name} {how}")
        if how in ("away", "trim"):
            with stage.stopped(reader):
                stage.command("CLIENT", "KILL", "TYPE", "pubsub")
                stage.kill_and_replace(writer, between_commit_and_word=True)
                if how == "trim":
                    stage.command("XTRIM", stage.names.journal, "MAXLEN", "1")
        else:
            if how == "drop":
                stage.command("CLIENT", "KILL", "TYPE", "pubsub")
            stage.kill_and_replace(writer, between_commit_and_word=True)
    stage.sleep(pause_s + 0.5)


@fault("strict-late-reader", strict=True, by_hold=True)
def strict_late_reader(stage: Stage, random: Random) -> None:
    """A reader that begins between a hold and the commit finds the hold. The writer dies after the commit."""
    writer, reader, pause_s = _one(stage, random, "writer"), _one(stage, random, "reader"), _breath(stage, random, 2.0)
    if stage.counts["strict-late-reader"] < MOST_KILLS:
        stage.note(f"strict-late-reader {reader.name} {writer.name}")
        writer.say("l")
        stage.sleep(0.2)
        stage.kill_and_replace(reader)
        stage.kill_and_replace(writer, between_commit_and_word=True)
    stage.sleep(pause_s + 1.0)


@fault("strict-outage", voids=True, persistent=False, strict=True, evidence=("refused",))
def strict_outage(stage: Stage, random: Random) -> None:
    """The server is gone: strict writes are refused, and nothing is committed that was not announced."""
    down_s, pause_s = _outage(stage, random) + 0.5, _breath(stage, random, 1.5)
    with stage.server_lock:
        stage.note(f"strict-outage {down_s:.2f} s")
        stage.server.kill()
        stage.sleep(down_s)
        stage.server.start()
    stage.sleep(pause_s)
