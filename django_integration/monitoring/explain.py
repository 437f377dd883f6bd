"""
What an entry depends on, when it was loaded, and what voided it last.

    explain("shop.pages.product@1(pk=42)")
    explain(product_page.key(42))

Rule 1: entries live in the memory of each process. The answer is about this process; another one has loaded its own
entry, with its own dependencies. If there is no entry here, and the key names its function (`calls.py`), the caller may
ask for a load.
Rule 2: what voided it is read from the journal in Redis, which all processes share, and judged as the ledger does: a
message voids an entry if it names one of the entry's slots. The journal keeps some 100,000 messages; at most `most` of
them are read.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, TypedDict

from invalidator import Entry, InvalidatorError, Journaled, NearCache
from invalidator.extending import check_key, name_slots

from .. import near_caches, runtime
from . import calls
from .calls import Call

MOST_READ = 10_000
"""Messages of the journal."""


class EntryExplained(TypedDict):
    """
    An entry of the process that answers.

    Attributes:
        verdict: "valid"; or why it is not served any more: "invalidated", "expired", "unleased" (not at the moment; for
            good if it was `loaded_early`).
        loaded_early: whether it was loaded before this process, or its sidecar, listened. Then it is served for
            MAX_STALENESS after its load, as in an outage.
        loaded_at: when its load began.
        expires_in_s: seconds; None for never.
        tags: what it depends on, apart from its key.
        parts: how many other entries its value was made from: it falls with them.
        variants: how many entries have this key: those of several functions, or of several contexts (KEY_CONTEXT).
    """

    verdict: str
    loaded_early: bool
    loaded_at: str
    age_s: float
    expires_in_s: float | None
    hits: int
    tags: list[str]
    parts: int
    variants: int


class Voided(TypedDict):
    """
    The last message that voids the entry.

    Attributes:
        at: when Redis accepted it.
        operation: "invalidate", "clear", "hold" or "release".
        names: of its names, those that concern the entry.
        by: how they do: "key", "tag", "everything", or "slot": another name's, or that of an entry it was made from.
        local: whether this process published it.
    """

    at: str
    operation: str
    names: list[str]
    by: str
    local: bool
    node: str
    id: str


class Explanation(TypedDict):
    """
    See `explain`.

    Attributes:
        cache: where the entry is; "" if nowhere in this process.
        call: the function behind the key, if the key names one.
        voided: None if none of the messages that were read voids it.
        read: how many messages of the journal were read, and from when the oldest is.
        problem: why the journal could not be read.
    """

    key: str
    cache: str
    call: str | None
    loaded_now: bool
    entry: EntryExplained | None
    voided: Voided | None
    read: int
    read_since: str | None
    last_flush: dict[str, Any] | None
    problem: str | None


def explain(key: str | Call, *, load: bool = False, most: int = MOST_READ) -> Explanation:
    """
    Return what is known of the entry of *key*: plain values, ready for JSON.

    Args:
        key: of `cache` or `cached`; of a cache backend, its name (`key_name`).
        load: call the function behind the key if there is no entry here.
        most: messages of the journal to read.

    Raises:
        InvalidName: *key* cannot be one.
        Exception: what the function raises.
    """
    call = key if isinstance(key, Call) else calls.of_key(check_key(key))
    key = key.key if isinstance(key, Call) else key
    bus = runtime.bus()
    cache, entry, near = _find(key)
    loaded_now = entry is None and load and call is not None
    if loaded_now:
        assert call is not None
        call()
        cache, entry, near = _find(key)
    found: Explanation = {
        "key": key,
        "cache": cache,
        "call": None if call is None else call.text,
        "loaded_now": loaded_now,
        "entry": None if entry is None or near is None else _entry(near, key, entry),
        "voided": None,
        "read": 0,
        "read_since": None,
        "last_flush": None
        if (flush := bus.status().last_flush) is None
        else {"reason": flush.reason, "age_s": flush.age_s},
        "problem": None,
    }
    slots = set(name_slots((key,), entry.tags if entry else (), bus.slots))
    if entry is not None:
        slots.update(entry.slots, *(part for _, part in entry.parts))
    try:
        for message in bus.read_journal(most):
            found["read"] += message.operation != "epoch"
            found["read_since"] = _time(message.at)
            if voided := _voided(message, key, entry, slots, bus.slots):
                found["voided"] = {**voided, "local": message.node == bus.node}
                break
    except InvalidatorError as error:
        found["problem"] = str(error)
    return found


def _find(key: str) -> tuple[str, Entry[Any] | None, NearCache | None]:
    for opened in near_caches.opened():
        if (entry := opened.near.peek(key)) is not None:
            return opened.name, entry, opened.near
    return "", None, None


def _entry(near: NearCache, key: str, entry: Entry[Any]) -> EntryExplained:
    now, rule = near.bus.clock(), near.bus.make_rule()
    return {
        "verdict": rule.check(entry),
        "loaded_early": not rule.can_be_leased(entry),
        "loaded_at": _time(datetime.now(UTC).timestamp() - entry.age_s(now)),
        "age_s": round(entry.age_s(now), 3),
        "expires_in_s": None if entry.expires_at - now > _FOREVER_NS else round((entry.expires_at - now) / 1e9, 3),
        "hits": entry.hits,
        "tags": list(entry.tags),
        "parts": len(entry.parts),
        "variants": len(near.peek_all(key)),
    }


_FOREVER_NS = 100 * 365 * 24 * 3600 * 10**9


def _voided(message: Journaled, key: str, entry: Entry[Any] | None, slots: set[int], size: int) -> Voided | None:
    by, names = _how(message, key, entry, slots, size)
    if not by:
        return None
    return {
        "at": _time(message.at),
        "operation": message.operation,
        "names": names,
        "by": by,
        "local": False,
        "node": message.node,
        "id": message.id,
    }


def _how(message: Journaled, key: str, entry: Entry[Any] | None, slots: set[int], size: int) -> tuple[str, list[str]]:
    if message.operation in ("clear", "unknown"):
        return "everything", []
    if key in message.keys:
        return "key", [key]
    tags = set(entry.tags) if entry is not None else set()
    if named := [tag for tag in message.tags if tag in tags]:
        return "tag", named
    near = [name for name in message.keys if slots.intersection(name_slots((name,), (), size))]
    near += [name for name in message.tags if slots.intersection(name_slots((), (name,), size))]
    return ("slot", near) if near else ("", [])


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).astimezone().isoformat(timespec="milliseconds")


def as_lines(found: Explanation) -> Iterator[str]:
    """For people."""
    yield f"key         {found['key']}"
    if found["call"]:
        yield f"function    {found['call']}"
    entry = found["entry"]
    if entry is None:
        yield "entry       none in this process" + (", and the key names no function" if not found["call"] else "")
    else:
        loaded = (
            "loaded now, here" if found["loaded_now"] else f"loaded {entry['loaded_at']}, {entry['age_s']:.1f} s ago"
        )
        expires = "never expires" if entry["expires_in_s"] is None else f"expires in {entry['expires_in_s']:.0f} s"
        yield f"entry       {entry['verdict']}; {loaded}; {expires}; {entry['hits']} hits ({found['cache']})"
        if entry["loaded_early"]:
            yield "lease       none for it: it was loaded before this process listened"
        yield f"depends on  {' '.join(entry['tags']) or 'its key only'}"
        if entry["parts"]:
            yield f"made from   {entry['parts']} loads of other entries"
        if entry["variants"] > 1:
            yield f"one of      {entry['variants']} entries with this key: of several functions, tenants or languages"
    yield f"voided last {''.join(_voided_text(found))}"
    if flush := found["last_flush"]:
        yield f"last flush  {flush['age_s']:.0f} s ago, of everything here: {flush['reason']}"


def _voided_text(found: Explanation) -> Iterator[str]:
    if (voided := found["voided"]) is not None:
        names = " ".join(itertools.islice(voided["names"], 20))
        yield f"{voided['at']} by {voided['operation']} of {voided['by']} {names}".rstrip()
        yield f", published by node {voided['node'] or '(unknown)'}" + (" (this process)" if voided["local"] else "")
        yield f", message {voided['id']}"
    elif found["problem"]:
        yield f"unknown: {found['problem']}"
    else:
        since = f" since {found['read_since']}" if found["read_since"] else ""
        yield f"not in the {found['read']} messages of the journal that were read{since}"
