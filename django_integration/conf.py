"""
The setting INVALIDATOR: one typed, live property per key.

Live: every read looks at the settings of this moment, so `override_settings` works and importing reads nothing. Keys
that are options of `Invalidator` and `NearCache` have the defaults and checks of the library. Whether a URL or a
namespace can work, the library decides as well (`checks/setting.py` asks it).

Rule 1: a key that is not in `KEYS` is a mistake, never ignored.
Rule 2: every message names what is wrong, every hint what would be right.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar, cast

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured

from invalidator import WhenUnleased
from invalidator.extending import OPTIONS, Check, Copy, Option

T = TypeVar("T")

SETTING = "INVALIDATOR"
EXAMPLE = 'INVALIDATOR = {"URL": "redis://localhost:6379/0", "NAMESPACE": "shop"}'

LOCAL_CACHES = ("sites", "contenttypes", "waffle", "constance")
"""Applications whose process-local caches we can make coherent: `local_caches`."""

CONTEXTS = ("language", "timezone", "schema", "database")
"""What KEY_CONTEXT can name without a path: `reads/context.py`."""

Publish = Literal["queue", "raise"]
Writes = Literal["after_commit", "strict"]
Fault = Literal["setting", "unknown", "missing", "value"]


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong with the setting, and its repair."""

    fault: Fault
    message: str
    hint: str


class Live(Generic[T]):
    """A key of the setting, read at this moment. Raises ImproperlyConfigured if its value cannot work."""

    def __init__(self, option: Option[Any]) -> None:
        self.option = option

    def __set_name__(self, owner: type, name: str) -> None:
        self._key = name.upper()

    def __get__(self, instance: object, owner: type | None = None) -> T:
        value = given().get(self._key, self.option.default)
        if value is ... or not self.option.check.fits(value):
            validate()
        return cast("T", value)


def _text(value: object) -> bool:
    return isinstance(value, str) and value != ""


def _one_of(*choices: str) -> Check:
    return Check(
        lambda value: isinstance(value, str) and value in choices, " or ".join(f'"{text}"' for text in choices)
    )


def _is_share(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 1


def _texts(value: object) -> bool:
    return isinstance(value, list | tuple) and all(map(_text, value))


def _context(value: object) -> bool:
    return value is None or all(map(_is_in_context, value if isinstance(value, list | tuple) else [value]))


def _is_in_context(value: object) -> bool:
    return callable(value) or (
        isinstance(value, str) and (value in CONTEXTS or re.fullmatch(r"\w+(\.\w+)+", value) is not None)
    )


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


def _narrower(option: Option[Any], right: str, fits: Any) -> Option[Any]:
    """A library's option with less than the library takes, or with less asked than the library asks."""
    return replace(option, check=Check(fits, right))


class Conf:
    """The values in force at this moment. Reading one that cannot work raises ImproperlyConfigured."""

    url = Live[str](
        Option(
            ...,
            Check(
                _text,
                'a string such as "redis://localhost:6379/0"; "embedded://" for development, where the processes of a '
                'project start a server of their own; or "memory://" for one process and tests',
            ),
            "where Redis is",
        )
    )
    namespace = Live[str](
        _narrower(
            OPTIONS["namespace"],
            'a short string such as "shop", the same on every server of the application',
            _text,  # whether it can be one is the library's to say
        )
    )
    max_staleness = Live[float](OPTIONS["max_staleness"])
    when_unleased = Live[WhenUnleased](OPTIONS["when_unleased"])
    replica_lag = Live[float](OPTIONS["replica_lag"])
    publish = Live[Publish](OPTIONS["publish"])
    queue_size = Live[int](OPTIONS["queue_size"])
    publish_timeout = Live[float](OPTIONS["publish_timeout"])
    publish_connections = Live[int](OPTIONS["publish_connections"])
    close_timeout = Live[float](OPTIONS["close_timeout"])
    journal_length = Live[int](OPTIONS["journal_length"])
    slots = Live[int](OPTIONS["slots"])
    maxsize = Live[int](
        _narrower(
            OPTIONS["maxsize"],
            "a whole number of entries, 1 or more",
            lambda value: isinstance(value, int) and OPTIONS["maxsize"].check.fits(value),
        )
    )
    ttl = Live[float | None](
        _narrower(
            OPTIONS["ttl"],
            "a number of seconds above 0, or None for no end",
            lambda value: value != 0 and OPTIONS["ttl"].check.fits(value),  # 0 would keep nothing at all
        )
    )
    join_timeout = Live[float | None](OPTIONS["join_timeout"])
    sidecar = Live[str | Path | None](
        Option(
            None,
            Check(
                _sidecar,
                'None to listen in every process, "auto" to use this host\'s sidecar if one is alive, or the absolute '
                "path of its ledger",
            ),
            "who listens",
        )
    )
    copy = Live[Copy](
        replace(
            OPTIONS["copy"],
            default="clone",
            doc="what a hit of the default near cache hands out of a value that can be changed",
        )
    )
    guard = Live[float | None](
        Option(
            None,
            Check(
                lambda value: value is None or _is_share(value),
                "a share of the hits, from 0 (off) to 1, such as 0.01; None for 1 with DEBUG and in tests, else 0",
            ),
            'the share of hits at which a value that is handed out live (`copy="none"`) is looked at again',
        )
    )
    local_caches = Live[Literal["auto"] | Sequence[str]](
        Option(
            (),
            Check(_local_caches, f'"auto", or a tuple of some of {", ".join(map(repr, LOCAL_CACHES))}'),
            "whose process-local caches are made coherent; looked at once, when Django starts",
        )
    )
    writes = Live[Writes](
        Option(
            "after_commit",
            _one_of("after_commit", "strict"),
            'whether a write is announced before its commit ("strict"), or only invalidated after it',
        )
    )
    models = Live[Mapping[Literal["include", "exclude"], Collection[str]]](
        Option(
            {},
            Check(
                _models,
                'a dict of "include" and "exclude", each a list of labels such as "shop.Product", "shop.*" or '
                '"*.LogEntry"',
            ),
            "patterns of the labels of models whose changes are published, and of those whose are not all the same",
        )
    )
    verify = Live[float](
        Option(
            0.0,
            Check(_is_share, "a share of the hits, from 0 (off) to 1, such as 0.01"),
            "the share of hits that are reloaded and compared; for staging, see `monitoring/verifier.py`",
        )
    )
    verify_ignore = Live[Sequence[str]](
        Option(
            (),
            Check(_texts, 'a list of patterns of keys, such as ["clock:*"]'),
            "patterns of keys that are not reloaded: their values change by time alone",
        )
    )
    hold = Live[float](OPTIONS["hold"])
    key_context = Live[Any](
        Option(
            None,
            Check(
                _context,
                f"a list of {', '.join(map(repr, CONTEXTS))} and of dotted paths of functions without arguments, such "
                'as ["language", "shop.tenants.current_tenant"]; or one of them; or None',
            ),
            "what the result of a cached function depends on besides its arguments",
        )
    )


conf = Conf()

KEYS: Mapping[str, Option[Any]] = {
    name.upper(): live.option for name, live in vars(Conf).items() if isinstance(live, Live)
}


def given() -> Mapping[str, object]:
    """What the project's settings say, empty if nothing or not a dict. Nothing is checked."""
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
        Problem("missing", f"{SETTING}[{name!r}] is missing.", f"Set it to {option.check.right}.")
        for name, option in KEYS.items()
        if option.is_required and name not in value
    ]


def _unfit(value: Mapping[str, object]) -> list[Problem]:
    return [
        Problem("value", f"{SETTING}[{name!r}] cannot be {value[name]!r}.", f"Set it to {option.check.right}.")
        for name, option in KEYS.items()
        if name in value and not option.check.fits(value[name])
    ]


def validate() -> None:
    """Raise ImproperlyConfigured with everything that is wrong, if anything is."""
    if found := problems():
        raise ImproperlyConfigured(" ".join(f"{problem.message} {problem.hint}" for problem in found))
