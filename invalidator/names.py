"""
Keys, tags, and every string that is joined from them.

A *name* is a key or a tag. This is the only place that joins a namespace to a Redis key, and the only place
that says which slot of a ledger a name falls into. Both are part of the wire and file formats
(docs/wire-protocol.md): a change here is a new version of both.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import blake2b
from typing import NamedTuple
from zlib import crc32

from .errors import InvalidName, InvalidSetting

MAX_NAME_BYTES = 512
"""Room for any sensible key (memcached stops at 250) while thousands fit into one message."""

_SOUND_LENGTH = MAX_NAME_BYTES // 4
"""So many characters never have more bytes."""

_KEY_SEED = 0x6B657973  # "keys"
_TAG_SEED = 0x74616773  # "tags": another seed, so that a key and a tag of one spelling fall apart
_SPREAD = 0x9E3779B1  # 2**32 / golden ratio: CRC-32 is linear, the multiplication is not
_MASK = 0xFFFFFFFF

NAMESPACE_RIGHT = "1-64 letters, digits, '_', '-', '.' or ':', such as 'shop' or 'shop:staging'"
_NAMESPACE = re.compile(r"[A-Za-z0-9_.:\-]{1,64}")


@dataclass(frozen=True, slots=True)
class Tag:
    """A tag, where a bare string would be taken for a key: `invalidate(tag("prices"))`."""

    name: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "name", check_tag(self.name))

    def __str__(self) -> str:
        return self.name


def tag(name: str) -> Tag:
    """Return *name* as a tag. Raises InvalidName when it cannot be one."""
    return Tag(name)


def check_key(key: object) -> str:
    """Return *key*, or raise InvalidName saying what is wrong with it."""
    return _check(key, "key")


def check_tag(tag: object) -> str:
    """Return *tag* as a string, or raise InvalidName saying what is wrong with it."""
    return tag.name if isinstance(tag, Tag) else _check(tag, "tag")


def check_tags(tags: object) -> tuple[str, ...]:
    """Return *tags* as a tuple. A lone string is refused: it would be read as one tag per letter."""
    if tags == ():  # the usual case, and the cheapest
        return ()
    if isinstance(tags, str | bytes | Tag) or not isinstance(tags, Iterable):
        raise InvalidName(
            f"tags must be a list, tuple or set of strings, not {tags!r}; for one tag write tags=[{tags!r}]"
        )
    # Most names are sound at a glance.
    sound = [
        tag if type(tag) is str and 0 < len(tag) <= _SOUND_LENGTH and tag.isascii() else check_tag(tag) for tag in tags
    ]
    return tuple(dict.fromkeys(sound))


def _check(name: object, kind: str) -> str:
    if not isinstance(name, str):
        raise InvalidName(f"a {kind} must be a str, not {type(name).__name__}: {name!r}")
    if not name:
        raise InvalidName(f"a {kind} must not be empty")
    # A string of n characters has between n and 4n bytes: most names need not be encoded to be measured.
    if len(name) > _SOUND_LENGTH or not name.isascii():
        try:
            size = len(name.encode())
        except UnicodeEncodeError:
            raise InvalidName(f"a {kind} must be valid Unicode, without lone surrogates: {name!r}") from None
        if size > MAX_NAME_BYTES:
            raise InvalidName(
                f"a {kind} may have {MAX_NAME_BYTES} bytes of UTF-8, this one has {size}: {name[:40]!r}…; "
                "use a hash of the long part"
            )
    # A subclass (a StrEnum, Django's SafeString) stands for its text: only a plain str can be sent.
    return name if type(name) is str else str.__str__(name)


def key_slot(key: str, slots: int) -> int:
    """The slot of a key in a ledger of *slots* slots: the same on every host, in every version and language."""
    return _slots_of((key,), _KEY_SEED, slots)[0]


def tag_slot(tag: str, slots: int) -> int:
    """The slot of a tag in a ledger of *slots* slots."""
    return _slots_of((tag,), _TAG_SEED, slots)[0]


def name_slots(keys: Iterable[str], tags: Iterable[str], slots: int) -> tuple[int, ...]:
    """The slots of all *keys* and *tags*."""
    return (*_slots_of(keys, _KEY_SEED, slots), *_slots_of(tags, _TAG_SEED, slots))


def _slots_of(names: Iterable[str], seed: int, slots: int) -> list[int]:
    return [((crc32(name.encode(), seed) * _SPREAD & _MASK) * slots) >> 32 for name in names]


def fingerprint(text: str) -> int:
    """*text* as a positive 63-bit number, for identities kept in a ledger's header; 0 for no text."""
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "big") >> 1 if text else 0


class RedisNames(NamedTuple):
    """What a namespace is called in Redis. The braces are literal: all of it lies in one cluster slot."""

    journal: str
    epoch: str
    holds: str
    channel: str


def redis_names(namespace: str) -> RedisNames:
    """Return the Redis keys and the channel of *namespace*."""
    prefix = f"invalidator:{{{check_namespace(namespace)}}}"
    return RedisNames(*[f"{prefix}:{name}" for name in ("journal", "epoch", "holds", "messages")])


def is_namespace(namespace: object) -> bool:
    """Whether *namespace* can be one: it becomes part of Redis keys, ACL patterns and file names."""
    return isinstance(namespace, str) and _NAMESPACE.fullmatch(namespace) is not None


def check_namespace(namespace: str) -> str:
    """Return *namespace*, or raise InvalidSetting."""
    if not is_namespace(namespace):
        raise InvalidSetting(f"namespace must be {NAMESPACE_RIGHT}, not {namespace!r}")
    return namespace
