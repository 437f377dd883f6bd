"""What is known of an entry."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from django.core.cache import caches
from django.test import override_settings

from django_integration import Loaded, bus, cache, cached, invalidate, tag
from django_integration.monitoring.explain import as_lines, explain
from django_integration.testing import IsolatedBus, isolated
from invalidator import InvalidName
from invalidator.protocol.subscription import Happening

BACKEND = {"default": {"BACKEND": "django_integration.backend.NearCacheBackend", "LOCATION": "explained"}}


@pytest.fixture(autouse=True)
def memory() -> Iterator[IsolatedBus]:
    with isolated() as memory:
        yield memory


@cached(tags=["prices"])
def price(pk: int) -> int:
    return 10 * pk


def text(key: Any, **options: Any) -> str:
    return "\n".join(as_lines(explain(key, **options)))


def test_an_entry_tells_its_dependencies_and_its_age() -> None:
    cache.get_or_set("a", lambda: 1, tags=["t", "u"], ttl=60)
    cache.get("a")
    found = json.loads(json.dumps(explain("a")))
    assert found["cache"] == "cache, cached"
    entry = found["entry"]
    assert (entry["verdict"], entry["tags"], entry["hits"], entry["parts"]) == ("valid", ["t", "u"], 1, 0)
    assert 0 <= entry["age_s"] < 60
    assert 0 < entry["expires_in_s"] <= 60
    assert "depends on  t u" in text("a")


def test_what_never_expires_says_so() -> None:
    cache.get_or_set("a", lambda: 1, ttl=None)
    assert explain("a")["entry"]["expires_in_s"] is None  # type: ignore[index]
    assert "never expires" in text("a")
    assert "its key only" in text("a")


def test_the_last_message_that_voids_it_is_named() -> None:
    invalidate("a")
    invalidate(tag("t"))
    invalidate("another")
    assert explain("a")["voided"]["by"] == "key"  # type: ignore[index]
    cache.get_or_set("a", lambda: 1, tags=["t"])
    voided = explain("a")["voided"]
    assert voided is not None
    assert (voided["by"], voided["names"], voided["operation"], voided["local"]) == ("tag", ["t"], "invalidate", True)
    assert "by invalidate of tag t, published by node" in text("a")


def test_another_server_is_named(memory: IsolatedBus) -> None:
    other = memory.other_server()
    cache.get_or_set("a", lambda: 1)
    other.invalidate("a")
    voided = explain("a")["voided"]
    assert voided is not None
    assert (voided["local"], voided["node"]) == (False, other.bus.node)


def test_a_clear_voids_everything() -> None:
    bus().clear()
    voided = explain("a")["voided"]
    assert voided is not None
    assert (voided["by"], voided["operation"]) == ("everything", "clear")


def test_what_it_was_made_from_counts() -> None:
    cache.get_or_set("inner", lambda: 1, tags=["t"])
    inner = cache.peek("inner")
    assert inner is not None
    invalidate(tag("elsewhere"))
    cache.get_or_set("outer", lambda: Loaded(2, made_from=[inner]))
    assert explain("outer")["voided"] is None
    other = bus().clock()
    assert other
    invalidate("unrelated")
    found = explain("outer")
    assert found["entry"]["parts"] == 1  # type: ignore[index]
    assert found["voided"] is None
    # The part has no name in the outer entry, only its place in the ledger.
    bus().invalidate(tags=["t"])
    assert explain("outer")["entry"] is None
    assert "made from   1 loads" not in text("outer")


def test_a_message_about_a_part_is_by_its_slot() -> None:
    bus().invalidate(tags=["t"])
    cache.get_or_set("inner", lambda: 1, tags=["t"])
    inner = cache.peek("inner")
    assert inner is not None
    cache.get_or_set("outer", lambda: Loaded(2, made_from=[inner]))
    voided = explain("outer")["voided"]
    assert voided is not None
    assert (voided["by"], voided["names"]) == ("slot", ["t"])
    assert "made from   1 loads" in text("outer")


def test_nothing_is_known_of_what_nobody_said() -> None:
    found = explain("a")
    assert (found["entry"], found["voided"], found["call"]) == (None, None, None)
    assert "the key names no function" in text("a")
    assert "not in the 0 messages" in text("a")


def test_only_so_much_is_read() -> None:
    invalidate("a")
    for number in range(5):
        invalidate(f"b:{number}")
    found = explain("a", most=3)
    assert (found["voided"], found["read"]) == (None, 3)
    assert "3 messages of the journal that were read since 2" in text("a", most=3)
    assert explain("a")["voided"] is not None


def test_a_key_that_tells_its_function_can_be_loaded() -> None:
    key = price.key(4)
    assert explain(key)["entry"] is None
    found = explain(key, load=True)
    assert found["loaded_now"]
    assert found["entry"]["tags"] == ["prices"]  # type: ignore[index]
    assert not explain(key, load=True)["loaded_now"], "it is there"
    assert "loaded now, here" not in text(key)


def test_the_backends_entries_are_found() -> None:
    with override_settings(CACHES=BACKEND):
        caches["default"].set("a", 1)
        found = explain(":1:a")
    assert found["cache"] == "CACHES, location explained"
    assert found["entry"] is not None


def test_a_journal_that_cannot_be_read_is_said() -> None:
    with isolated(URL="redis://127.0.0.1:1/0", CLOSE_TIMEOUT=0):
        found = explain("a")
    assert found["problem"] is not None
    assert "voided last unknown: the journal cannot be read" in "\n".join(as_lines(found))


def test_the_last_flush_is_said() -> None:
    cache.get_or_set("a", lambda: 1)
    assert "of everything here" not in text("a")
    subscription = bus()._feed._listener.subscription
    subscription.tally.last_flush = Happening("the journal was begun anew", bus().clock())
    assert "of everything here: the journal was begun anew" in text("a")


def test_what_was_loaded_before_the_process_listened_is_said() -> None:
    """Otherwise nobody knows why the first values of a process are loaded once more."""
    cache.get_or_set("a", lambda: 1)
    assert "loaded before this process listened" not in text("a")
    entry = cache.peek("a")
    assert entry is not None
    entry.loaded_at = bus()._feed.view.listening_since()
    assert "loaded before this process listened" in text("a")
    assert explain("a")["entry"]["loaded_early"] is True  # type: ignore[index]


def test_a_key_that_cannot_be_is_refused() -> None:
    with pytest.raises(InvalidName):
        explain("")
