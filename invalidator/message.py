"""
What goes over the wire: names, never values.

A *body* is compact JSON. On the channel it follows its id and its predecessor's id (`<id> <predecessor> <body>`). A
bare body is a message that is not in the journal, such as a `PUBLISH` typed into redis-cli: it is applied, but a
process that misses it cannot replay it. docs/wire-protocol.md is the specification.

Rule 1: any bytes either decode or raise InvalidMessage.
Rule 2: unknown fields are ignored, so that a fleet can be upgraded one host at a time; an unknown version or
operation is InvalidMessage, because it could have been an invalidation.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Annotated, Literal, NamedTuple

import msgspec

from .errors import InvalidMessage
from .names import MAX_NAME_BYTES

VERSION = 1
MAX_BODY_BYTES = 16 * 1024
"""Of a body that we write. A page of the journal's replay is then at most 4 MiB, well below Redis' default limit of a
subscriber's output buffer (32 MiB, or 8 MiB for a minute)."""
MAX_PAYLOAD_BYTES = 4 * MAX_BODY_BYTES
"""Of a body that we read: generous to other publishers, but none can make us hold a gigabyte."""

MAX_HOLD_MS = 3_600_000
"""An hour: no hold keeps a name out of all caches for ever."""

Operation = Literal["invalidate", "clear", "hold", "release", "epoch"]
_Name = Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_NAME_BYTES)]


class Body(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """
    One message.

    Args:
        v: the major version of the format.
        op: what to do; "epoch" only marks the beginning of a journal.
        node: who publishes it; "" if it is no node. A node does not evict by its own message when it receives it.
        keys, tags: the names that became stale, or are about to ("hold").
        owner: whose hold it is; a release ends the holds of its owner on its names, and invalidates them.
        for_ms: how long a hold lasts if it is not released.
    """

    v: int
    op: Operation = "invalidate"
    node: str = ""
    keys: tuple[_Name, ...] = ()
    tags: tuple[_Name, ...] = ()
    owner: str = ""
    for_ms: Annotated[int, msgspec.Meta(ge=0, le=MAX_HOLD_MS)] = 0


class Envelope(NamedTuple):
    """A payload of the channel, taken apart. `id` and `predecessor` are "" for a bare body."""

    id: str
    predecessor: str
    body: bytes


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Body)
_ID = re.compile(rb"\d{1,18}-\d{1,18}")  # a position is two signed words of a ledger: more digits may not fit


def encode(body: Body) -> bytes:
    """Return *body* as compact JSON."""
    return _encoder.encode(body)


def decode(data: bytes) -> Body:
    """Return the body in *data*. Raises InvalidMessage for everything that is not one."""
    if len(data) > MAX_PAYLOAD_BYTES:
        raise InvalidMessage(f"oversized: {len(data)} bytes, at most {MAX_PAYLOAD_BYTES} are read")
    try:
        body = _decoder.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidMessage(f"malformed: {error}") from None
    if body.v != VERSION:
        raise InvalidMessage(f"unknown version: {body.v}, this is a reader of version {VERSION}")
    return body


def open_envelope(payload: bytes) -> Envelope:
    """Split a payload of the channel. Raises InvalidMessage if it is neither an envelope nor a bare body."""
    if payload[:1] == b"{":
        return Envelope("", "", payload)
    id, _, rest = payload.partition(b" ")
    predecessor, _, body = rest.partition(b" ")
    if not (_ID.fullmatch(id) and _ID.fullmatch(predecessor)):
        raise InvalidMessage("malformed: a payload is '<id> <predecessor> <body>' or a bare JSON body")
    return Envelope(id.decode(), predecessor.decode(), body)


def seal_envelope(id: str, predecessor: str, body: bytes) -> bytes:
    """The payload that the publish script sends for *body*."""
    return f"{id} {predecessor} ".encode() + body


def bodies(node: str, keys: Iterable[str], tags: Iterable[str]) -> list[bytes]:
    """Encode an invalidation of *keys* and *tags* as one body, or as several below MAX_BODY_BYTES each."""
    return _in_chunks(Body(v=VERSION, node=node), keys, tags)


def hold_bodies(node: str, owner: str, for_ms: int, keys: Iterable[str], tags: Iterable[str]) -> list[bytes]:
    """Encode "*keys* and *tags* are about to become stale"."""
    return _in_chunks(Body(v=VERSION, op="hold", node=node, owner=owner, for_ms=for_ms), keys, tags)


def release_bodies(node: str, owner: str, keys: Iterable[str], tags: Iterable[str]) -> list[bytes]:
    """Encode "*keys* and *tags* became stale, and *owner* no longer holds them"."""
    return _in_chunks(Body(v=VERSION, op="release", node=node, owner=owner), keys, tags)


def _in_chunks(body: Body, keys: Iterable[str], tags: Iterable[str]) -> list[bytes]:
    keys, tags = tuple(keys), tuple(tags)
    if not (keys or tags):
        return []
    whole = encode(msgspec.structs.replace(body, keys=keys, tags=tags))
    if len(whole) <= MAX_BODY_BYTES:
        return [whole]
    room = MAX_BODY_BYTES - len(encode(msgspec.structs.replace(body, keys=("",), tags=("",))))
    chunks: list[tuple[list[str], list[str]]] = []
    size = room
    for kind, names in enumerate((keys, tags)):
        for name in names:
            cost = len(_encoder.encode(name)) + 1  # its quotes and escapes, and a comma
            size += cost
            if size > room:
                chunks.append(([], []))
                size = cost
            chunks[-1][kind].append(name)
    return [encode(msgspec.structs.replace(body, keys=tuple(keys), tags=tuple(tags))) for keys, tags in chunks]


def clear_body(node: str) -> bytes:
    """Encode "the whole namespace is stale"."""
    return encode(Body(v=VERSION, op="clear", node=node))
