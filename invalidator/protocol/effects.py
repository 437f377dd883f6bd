"""What a subscription asks of its owner: effects, which the owner carries out in the order in which they come."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from ..message import Body
from .frames import Command
from .journal import Journal
from .states import State


class Send(NamedTuple):
    """Send these commands in one piece."""

    commands: tuple[Command, ...]


class Apply(NamedTuple):
    """Carry out a message: stamp the ledger (unless this node published the message itself), then notify callbacks."""

    body: Body
    id: str
    own: bool


class Listen(NamedTuple):
    """
    Record that messages are received from now on, for the first time: what was loaded before keeps no lease. Nothing
    that was published before this moment has to be applied.
    """


class Flush(NamedTuple):
    """Void everything in the ledger."""

    reason: str


class Move(NamedTuple):
    """Record how far the journal has been applied."""

    journal: Journal


class Prove(NamedTuple):
    """Record that the ledger holds every invalidation that was accepted before *at* (nanoseconds)."""

    at: int


class Disconnect(NamedTuple):
    """Close the connection, then call `disconnected` with this reason."""

    reason: str


class Enter(NamedTuple):
    """Nothing to do: the state has changed. For logs and status."""

    state: State
    reason: str


class Refuse(NamedTuple):
    """Nothing to do: a message could not be read. For logs and counters."""

    reason: str


Effect = Send | Apply | Listen | Flush | Move | Prove | Disconnect | Enter | Refuse
Effects = Iterator[Effect]
