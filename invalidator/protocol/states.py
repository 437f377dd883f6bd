"""The states of a subscription and the changes between them, which docs/wire-protocol.md shows as a diagram."""

from __future__ import annotations

from enum import StrEnum


class State(StrEnum):
    """Where a subscription stands."""

    IDLE = "idle"
    CONNECTING = "connecting"
    SUBSCRIBING = "subscribing"
    REPLAYING = "replaying"
    LIVE = "live"
    CLOSED = "closed"


TRANSITIONS: dict[State, frozenset[State]] = {
    State.IDLE: frozenset({State.CONNECTING, State.CLOSED}),
    State.CONNECTING: frozenset({State.CONNECTING, State.SUBSCRIBING, State.CLOSED}),
    State.SUBSCRIBING: frozenset({State.CONNECTING, State.REPLAYING, State.CLOSED}),
    State.REPLAYING: frozenset({State.CONNECTING, State.LIVE, State.CLOSED}),
    State.LIVE: frozenset({State.CONNECTING, State.REPLAYING, State.CLOSED}),
    State.CLOSED: frozenset(),
}
