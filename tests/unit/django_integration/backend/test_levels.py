"""Every operation, with one level and with two, for sync and async callers: one table says what each does."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from dataclasses import dataclass
from itertools import permutations
from typing import Any, Literal

import pytest
from django.core.cache import caches
from django.test import override_settings

from django_integration import bus, invalidate
from django_integration.backend import NearCacheBackend, settling
from django_integration.backend.levels import Call, Done, Pending, Publish
from invalidator.extending import hand_out

from ..conftest import WAIT_S, Message, Wire
from .conftest import KEY, OURS

LOCMEM = "django.core.cache.backends.locmem.LocMemCache"
LEVELS = ("one", "two")
CACHES: dict[str, Any] = {
    "default": {"BACKEND": LOCMEM},
    "one": {"BACKEND": OURS, "LOCATION": "one"},
    "two": {"BACKEND": OURS, "LOCATION": "two", "OPTIONS": {"L2": "below two"}},
    "below two": {"BACKEND": LOCMEM, "LOCATION": "below two"},
    # It makes equal keys, and they are equal names.
    "neighbour": {"BACKEND": OURS, "LOCATION": "neighbour", "OPTIONS": {"L2": "below neighbour"}},
    "below neighbour": {"BACKEND": LOCMEM, "LOCATION": "below neighbour"},
}
NEIGHBOURS = "the neighbour's"

Before = Literal["stored", "absent", "missed"]
"""Whether the value 1 is stored under "k"; if not, whether the caller has just missed it."""
Published = Literal["nothing", "value", "key", "location"]
"""
What an operation publishes: that there is a new value (with a second level the tag of its near copies, else its key),
that the key is gone, or that the LOCATION is cleared.
"""


@dataclass(frozen=True)
class Case:
    """One row: what an operation on "k" does, whatever the levels and whoever calls."""

    operation: str
    arguments: tuple[Any, ...]
    before: Before
    result: Any
    after: int | None
    published: Published

    def __str__(self) -> str:
        arguments = [str(getattr(argument, "__name__", argument)) for argument in self.arguments]
        return " ".join([self.operation, *arguments, self.before])


def load() -> int:
    return 2


CASES = [
    Case("get", ("k",), "stored", 1, 1, "nothing"),
    Case("get", ("k", 7), "absent", 7, None, "nothing"),
    Case("get_many", (["k", "l"],), "stored", {"k": 1}, 1, "nothing"),
    Case("get_many", (["k", "l"],), "absent", {}, None, "nothing"),
    Case("has_key", ("k",), "stored", True, 1, "nothing"),
    Case("has_key", ("k",), "absent", False, None, "nothing"),
    Case("get_or_set", ("k", load), "stored", 1, 1, "nothing"),
    Case("get_or_set", ("k", load), "absent", 2, 2, "nothing"),
    Case("get_or_set", ("k", 2), "absent", 2, 2, "nothing"),
    Case("set", ("k", 2), "stored", None, 2, "value"),
    Case("set", ("k", 2), "absent", None, 2, "value"),
    Case("set", ("k", 2), "missed", None, 2, "nothing"),
    Case("set", ("k", 2, 0), "stored", None, None, "value"),
    Case("set_many", ({"k": 2},), "stored", [], 2, "value"),
    Case("set_many", ({"k": 2},), "absent", [], 2, "value"),
    Case("set_many", ({"k": 2},), "missed", [], 2, "nothing"),
    Case("set_many", ({"k": 2}, 0), "stored", [], None, "value"),
    Case("set_many", ({},), "stored", [], 1, "nothing"),
    Case("add", ("k", 2), "stored", False, 1, "nothing"),
    Case("add", ("k", 2), "absent", True, 2, "value"),
    Case("add", ("k", 2), "missed", True, 2, "nothing"),
    Case("touch", ("k", 60), "stored", True, 1, "value"),
    Case("touch", ("k", 0), "stored", True, None, "value"),
    Case("touch", ("k", 60), "absent", False, None, "nothing"),
    Case("incr", ("k",), "stored", 2, 2, "value"),
    Case("incr", ("k", 5), "stored", 6, 6, "value"),
    Case("incr", ("k",), "absent", ValueError, None, "nothing"),
    Case("decr", ("k",), "stored", 0, 0, "value"),
    Case("decr", ("k",), "absent", ValueError, None, "nothing"),
    Case("delete", ("k",), "stored", True, None, "key"),
    Case("delete", ("k",), "absent", False, None, "key"),
    Case("delete_many", (["k"],), "stored", None, None, "key"),
    Case("delete_many", (["k"],), "absent", None, None, "key"),
    Case("delete_many", ([],), "stored", None, 1, "nothing"),
    Case("clear", (), "stored", None, None, "location"),
]


@pytest.fixture
def leased(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Empty caches, a lease, and the neighbour's value in both of its levels."""
    monkeypatch.setattr(settling, "GRACE_NS", 0)  # a fill below is proven, and may be forgotten, a little sooner
    with override_settings(CACHES=CACHES, INVALIDATOR={"URL": "memory://", "NAMESPACE": "both", "MAX_STALENESS": 3}):
        assert bus().wait_until_leased(WAIT_S)
        for alias in CACHES:
            caches[alias].clear()
        yield
        assert settling.settle(WAIT_S)


def call_sync(cache: NearCacheBackend, case: Case) -> Any:
    if case.before == "missed":
        assert cache.get("k") is None
    return getattr(cache, case.operation)(*case.arguments)


def call_async(cache: NearCacheBackend, case: Case) -> Any:
    async def call() -> Any:  # in one task: a miss is remembered by the task that missed
        if case.before == "missed":
            assert await cache.aget("k") is None
        return await getattr(cache, f"a{case.operation}")(*case.arguments)

    return asyncio.run(call())


def outcome(call: Callable[[], Any]) -> Any:
    try:
        return call()
    except ValueError:
        return ValueError


def near(alias: str) -> Any:
    """What lies in this process' memory."""
    entry = caches[alias]._place.near.peek(KEY)
    return None if entry is None else hand_out(entry.value)


@pytest.mark.parametrize("call", [call_sync, call_async], ids=["sync", "async"])
@pytest.mark.parametrize("alias", LEVELS)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_an_operation(leased: None, wire: Wire, case: Case, alias: str, call: Callable[..., Any]) -> None:
    cache, has_two = caches[alias], alias == "two"
    if case.before == "stored":
        cache.set("k", 1)
        assert cache.get("k") == 1  # a near copy, with a second level
    # Last, for its key is the other's, too.
    caches["below neighbour"].set(KEY, NEIGHBOURS)
    assert caches["neighbour"].get("k") == NEIGHBOURS
    wire.messages()

    assert outcome(lambda: call(cache, case)) == case.result

    name_of_value = Message(tags=frozenset({f"copy:{KEY}"})) if has_two else Message(keys=frozenset({KEY}))
    messages = {
        "nothing": [],
        "value": [name_of_value],
        "key": [Message(keys=frozenset({KEY}))],
        "location": [Message(tags=frozenset({f"django.cache:{alias}"}))],
    }
    assert wire.messages() == messages[case.published]
    # With a second level a change is read from there first: the value of another server may be newer.
    assert near(alias) == (None if has_two and case.published == "value" else case.after)
    if has_two:
        assert caches["below two"].get(KEY) == case.after
    assert cache.get("k") == case.after

    # An equal key of another alias: what it has near falls with the name, its second level is its own.
    assert near("neighbour") == (None if case.published in ("value", "key") else NEIGHBOURS)
    assert caches["below neighbour"].get(KEY) == NEIGHBOURS
    assert caches["neighbour"].get("k") == NEIGHBOURS


@pytest.mark.parametrize("many", ["get_many", "aget_many"])
@pytest.mark.parametrize("alias", LEVELS)
def test_every_key_has_its_own_value_wherever_it_was_found(leased: None, alias: str, many: str) -> None:
    """What is near is found first, whatever was asked for first; values were once given to keys by their place."""
    cache = caches[alias]
    cache.set_many({"a": 1, "b": 2, "c": 3})
    for near_ones in permutations("abc", 2):
        cache._place.near.evict(":1:a", ":1:b", ":1:c")
        if alias == "one":
            cache.set_many({"a": 1, "b": 2, "c": 3})
        for key in near_ones:
            cache.get(key)
        for asked in (*permutations("abc"), ("absent", "c", "a")):
            found = getattr(cache, many)(asked)
            found = asyncio.run(found) if asyncio.iscoroutine(found) else found
            assert found == {key: {"a": 1, "b": 2, "c": 3}[key] for key in asked if key != "absent"}


def test_the_table_has_every_operation() -> None:
    """Those of which Django has both kinds."""
    public = [name for name in dir(NearCacheBackend) if not name.startswith("_")]
    both = {name for name in public if f"a{name}" in public}
    elsewhere = {
        "close": "closes no connection; TestAChange in test_fills.py",
        "incr_version": "of get, set and delete, by Django",
        "decr_version": "of get, set and delete, by Django",
    }
    assert {case.operation for case in CASES} == both - set(elsewhere)


@pytest.mark.parametrize("alias", LEVELS)
def test_an_invalidation_of_the_name_deletes_it_from_every_second_level(leased: None, alias: str) -> None:
    """Unlike `delete`: the source has changed, for every cache that holds what was made from it."""
    caches[alias].set("k", 1)
    caches["below neighbour"].set(KEY, NEIGHBOURS)
    invalidate(caches[alias].key_name("k"))
    assert caches[alias].get("k") is None
    assert caches["below neighbour"].get(KEY) is None


class TestPending:
    def test_finished_by_sync_and_async_callers_alike(self) -> None:
        done: list[str] = []
        pendings: list[Callable[[], Pending[int]]] = [
            lambda: Done(1),
            lambda: Publish(lambda: done.append("published"), 1),
            lambda: Call(lambda: 1),
            lambda: Call(lambda: "one", {"one": 1}.__getitem__),
        ]
        for make in pendings:
            assert make().finish() == 1
            assert asyncio.run(make().afinish()) == 1
        assert done == ["published"] * 2

    def test_what_waits_leaves_the_event_loop_and_the_rest_does_not(self) -> None:
        context: ContextVar[str] = ContextVar("context", default="nobody's")

        async def main() -> None:
            context.set("the caller's")
            loop = threading.get_ident()
            thread, seen = await Call(lambda: (threading.get_ident(), context.get())).afinish()
            assert thread != loop
            assert seen == "the caller's"
            assert await Call(lambda: None, lambda _: threading.get_ident()).afinish() == loop
            threads: list[int] = []
            await Publish(lambda: threads.append(threading.get_ident()), None).afinish()
            assert threads != [loop]

        asyncio.run(main())

    def test_a_cancelled_caller_has_published(self) -> None:
        """What is in force here has to reach the others."""
        begun, may_go_on, published = threading.Event(), threading.Event(), threading.Event()

        def publish() -> None:
            begun.set()
            may_go_on.wait(WAIT_S)
            published.set()

        async def main() -> None:
            task = asyncio.create_task(Publish(publish, None).afinish())
            while not begun.is_set():  # noqa: ASYNC110 - a thread sets it
                await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            may_go_on.set()

        asyncio.run(main())
        assert published.wait(WAIT_S)

    def test_an_error_reaches_the_caller(self) -> None:
        def fail() -> None:
            raise ConnectionError

        for pending in (Publish(fail, 1), Call(fail)):
            with pytest.raises(ConnectionError):
                pending.finish()
            with pytest.raises(ConnectionError):
                asyncio.run(pending.afinish())
