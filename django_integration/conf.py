"""
The setting INVALIDATOR: one typed, live property per key.

Live: every read looks at the settings of this moment, so `override_settings` works and importing reads
nothing. The keys are the options of `Invalidator` and `NearCache`, in capitals, and how models are written; whether a
URL or a namespace can work is decided by the library (`checks/setting.py` asks it).

Rule 1: a key that is not in `KEYS` is a mistake, never ignored.
Rule 2: every message names what is wrong, every hint what would be right.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple, cast

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured

from invalidator import WhenUnleased

SETTING = "INVALIDATOR"
EXAMPLE = 'INVALIDATOR = {"URL": "redis://localhost:6379/0", "NAMESPACE": "shop"}'

LOCAL_CACHES = ("sites", "contenttypes", "waffle", "constance")
"""Applications whose process-local caches we can make coherent: `local_caches`."""

Publish = Literal["queue", "raise"]
Writes = Literal["after_commit", "strict"]
Fault = Literal["setting", "unknown", "missing", "value"]


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong with the setting, and its repair."""

    fault: Fault
    message: str
    hint: str


class Key(NamedTuple):
    """What a key may hold. A key without a default must be given."""

    fits: Callable[[object], bool]
    right: str
    default: object = ...

    @property
    def required(self) -> bool:
        """Whether the key has no default."""
        return self.default is ...


def _text(value: object) -> bool:
    return isinstance(value, str) and value != ""


def _one_of(*choices: str) -> Callable[[object], bool]:
    return lambda value: isinstance(value, str) and value in choices


def _number(value: object, *, above: float | None = None, least: float | None = None) -> bool:
    # bool is an int, and True would pass for one second; NaN fails every comparison.
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return value > above if above is not None else least is not None and value >= least


def _hold(value: object) -> bool:
    return _number(value, least=0.1) and not _number(value, above=3600)


def _share(value: object) -> bool:
    return _number(value, least=0) and not _number(value, above=1)


def _texts(value: object) -> bool:
    return isinstance(value, list | tuple) and all(map(_text, value))


def _whole(value: object) -> bool:
    return isinstance(value, int) and _number(value, least=1)


def _sidecar(value: object) -> bool:
    # Absolute: workers have whatever directory their server chose, and "Auto" would be a file.
    return value in (None, "auto") or (isinstance(value, str | Path) and Path(value).is_absolute())


def _local_caches(value: object) -> bool:
    return value == "auto" or (isinstance(value, tuple | list) and all(name in LOCAL_CACHES for name in value))


def _models(value: object) -> bool:
    return (
        isinstance(value, Mapping)
        and set(value) <= {"include", "exclude"}
        and all(isinstance(patterns, list | tuple | set | frozenset) for patterns in value.values())
        and all(_label(pattern) for patterns in value.values() for pattern in patterns)
    )


def _label(value: object) -> bool:
    return isinstance(value, str) and (value == "*" or re.fullmatch(r"[^.\s]+\.[^.\s]+", value) is not None)


KEYS: Mapping[str, Key] = {
    "URL": Key(
        _text,
        'a string such as "redis://localhost:6379/0"; "embedded://" for development, where the processes of a project '
        'start a server of their own; or "memory://" for one process and tests',
    ),
    "NAMESPACE": Key(_text, 'a short string such as "shop", the same on every server of the application'),
    "MAX_STALENESS": Key(lambda value: _number(value, above=0), "a number of seconds above 0, such as 2.0", 2.0),
    "WHEN_UNLEASED": Key(_one_of("short", "bypass", "serve"), '"short", "bypass" or "serve"', "short"),
    "REPLICA_LAG": Key(lambda value: _number(value, least=0), "a number of seconds, 0 or more", 0.0),
    "PUBLISH": Key(_one_of("queue", "raise"), '"queue" or "raise"', "queue"),
    "QUEUE_SIZE": Key(_whole, "a whole number of names, 1 or more", 10_000),
    "PUBLISH_TIMEOUT": Key(lambda value: _number(value, above=0), "a number of seconds above 0, such as 1.0", 1.0),
    "CLOSE_TIMEOUT": Key(lambda value: _number(value, least=0), "a number of seconds, 0 or more", 2.0),
    "JOURNAL_LENGTH": Key(_whole, "a whole number of messages, such as 100_000", 100_000),
    "SLOTS": Key(_whole, "a whole number of slots of 8 bytes, such as 2**17", 2**17),
    "MAXSIZE": Key(_whole, "a whole number of entries, 1 or more", 50_000),
    "TTL": Key(
        lambda value: value is None or _number(value, above=0), "a number of seconds above 0, or None for no end", None
    ),
    "SIDECAR": Key(
        _sidecar,
        'None to listen in every process, "auto" to use this host\'s sidecar if one is alive, or the absolute path of '
        "its ledger",
        None,
    ),
    "LOCAL_CACHES": Key(
        _local_caches,
        f'"auto", or a tuple of some of {", ".join(map(repr, LOCAL_CACHES))}',
        (),
    ),
    "WRITES": Key(_one_of("after_commit", "strict"), '"after_commit" or "strict"', "after_commit"),
    "MODELS": Key(
        _models,
        'a dict of "include" and "exclude", each a list of labels such as "shop.Product", "shop.*" or "*.LogEntry"',
        {},
    ),
    "VERIFY": Key(_share, "a share of the hits, from 0 (off) to 1, such as 0.01", 0.0),
    "VERIFY_IGNORE": Key(_texts, 'a list of patterns of keys, such as ["clock:*"]', ()),
    "HOLD": Key(_hold, "a number of seconds from 0.1 to 3600, such as 30", 30.0),
}


def given() -> Mapping[str, object]:
    """The setting as the project wrote it, unchecked; empty if it is missing or not a dict."""
    value = getattr(settings, SETTING, None)
    return value if isinstance(value, dict) else {}


def problems() -> list[Problem]:
    """Everything that is wrong with the setting right now."""
    value = getattr(settings, SETTING, None)
    if not isinstance(value, dict):
        wrong = "is not set" if value is None else f"must be a dict, not {type(value).__name__}"
        return [Problem("setting", f"The setting {SETTING} {wrong}.", f"Write in the settings: {EXAMPLE}")]
    return [*_unknown(value), *_missing(value), *_unfit(value)]


def _unknown(value: Mapping[object, object]) -> list[Problem]:
    return [
        Problem("unknown", f"{SETTING}[{key!r}] is not a setting.", _suggest(key)) for key in value if key not in KEYS
    ]


def _suggest(key: object) -> str:
    close = difflib.get_close_matches(str(key).upper(), KEYS, n=1)
    return f"Did you mean {close[0]!r}?" if close else f"Known are: {', '.join(KEYS)}."


def _missing(value: Mapping[str, object]) -> list[Problem]:
    return [
        Problem("missing", f"{SETTING}[{name!r}] is missing.", f"Set it to {key.right}.")
        for name, key in KEYS.items()
        if key.required and name not in value
    ]


def _unfit(value: Mapping[str, object]) -> list[Problem]:
    return [
        Problem("value", f"{SETTING}[{name!r}] cannot be {value[name]!r}.", f"Set it to {key.right}.")
        for name, key in KEYS.items()
        if name in value and not key.fits(value[name])
    ]


def validate() -> None:
    """Raise ImproperlyConfigured with everything that is wrong, if anything is."""
    if found := problems():
        raise ImproperlyConfigured(" ".join(f"{problem.message} {problem.hint}" for problem in found))


class Conf:
    """The values in force at this moment. Reading one that cannot work raises ImproperlyConfigured."""

    @property
    def url(self) -> str:
        """Where Redis is, or `memory://`."""
        return cast("str", _read("URL"))

    @property
    def namespace(self) -> str:
        """What keeps applications on one Redis apart; the same on every server of one."""
        return cast("str", _read("NAMESPACE"))

    @property
    def max_staleness(self) -> float:
        """Seconds: no value is served longer than this after its invalidation was accepted."""
        return cast("float", _read("MAX_STALENESS"))

    @property
    def when_unleased(self) -> WhenUnleased:
        """What reads do while nothing proves the ledger complete."""
        return cast("WhenUnleased", _read("WHEN_UNLEASED"))

    @property
    def replica_lag(self) -> float:
        """Seconds that a replica read by loaders may be behind."""
        return cast("float", _read("REPLICA_LAG"))

    @property
    def publish(self) -> Publish:
        """Whether an invalidation that cannot reach Redis is queued or raises."""
        return cast("Publish", _read("PUBLISH"))

    @property
    def queue_size(self) -> int:
        """Names that may wait for Redis."""
        return cast("int", _read("QUEUE_SIZE"))

    @property
    def publish_timeout(self) -> float:
        """Seconds to wait for Redis when connecting and for each answer."""
        return cast("float", _read("PUBLISH_TIMEOUT"))

    @property
    def close_timeout(self) -> float:
        """Seconds that closing may take to deliver what waits."""
        return cast("float", _read("CLOSE_TIMEOUT"))

    @property
    def journal_length(self) -> int:
        """Messages that Redis keeps for processes that were disconnected."""
        return cast("int", _read("JOURNAL_LENGTH"))

    @property
    def slots(self) -> int:
        """Size of this process' ledger."""
        return cast("int", _read("SLOTS"))

    @property
    def maxsize(self) -> int:
        """Entries of the default near cache."""
        return cast("int", _read("MAXSIZE"))

    @property
    def ttl(self) -> float | None:
        """Seconds an entry of the default near cache lives; None: no end."""
        return cast("float | None", _read("TTL"))

    @property
    def sidecar(self) -> str | Path | None:
        """The listener: None for this process itself, "auto" for the host's sidecar if one is alive, or its ledger."""
        return cast("str | Path | None", _read("SIDECAR"))

    @property
    def local_caches(self) -> Literal["auto"] | tuple[str, ...]:
        """The applications whose process-local caches are made coherent; read once, when Django starts."""
        given = _read("LOCAL_CACHES")
        return "auto" if given == "auto" else tuple(given)

    @property
    def writes(self) -> Writes:
        """Whether a write is announced before its commit ("strict"), or only invalidated after it."""
        return cast("Writes", _read("WRITES"))

    @property
    def models(self) -> Mapping[Literal["include", "exclude"], Collection[str]]:
        """Patterns of the labels of models whose changes are published, and of those whose are not all the same."""
        return cast("Mapping[Literal['include', 'exclude'], Collection[str]]", _read("MODELS"))

    @property
    def verify(self) -> float:
        """The share of hits that are reloaded and compared, from 0 to 1; for staging, see `verifier.py`."""
        return cast("float", _read("VERIFY"))

    @property
    def verify_ignore(self) -> Sequence[str]:
        """Patterns of keys that are not: their values change by time alone."""
        return cast("Sequence[str]", _read("VERIFY_IGNORE"))

    @property
    def hold(self) -> float:
        """Seconds that a strict write may keep its names out of all caches; a quarter is for the commit itself."""
        return cast("float", _read("HOLD"))


def _read(name: str) -> Any:
    value = given().get(name, KEYS[name].default)
    if value is ... or not KEYS[name].fits(value):
        validate()
    return value


conf = Conf()
