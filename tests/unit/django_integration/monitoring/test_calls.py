"""Calls of cached functions, as people and keys write them."""

from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest

from django_integration import cached
from django_integration.monitoring import calls
from django_integration.testing import isolated
from invalidator import InvalidName

SOME_ID = UUID(int=7)


@cached()
def described(*args: Any, **kwargs: Any) -> tuple[Any, ...]:
    return args, kwargs


@cached()
def added(a: int, b: int = 0) -> int:
    return a + b


@cached()
async def doubled(n: int) -> int:
    return 2 * n


@cached(key="plain:{n}")
def named_otherwise(n: int) -> int:
    return n


def not_cached() -> int:
    return 1


HERE = __name__


@pytest.mark.parametrize(
    ("inside", "args", "kwargs"),
    [
        ("", (), {}),
        ("42, 'a', None, True, -1.5", (42, "a", None, True, -1.5), {}),
        ("lang='en', pk=42", (), {"lang": "en", "pk": 42}),
        ("(1, (2, 'b'))", ((1, (2, "b")),), {}),
        ("datetime.date(2024, 5, 1)", (date(2024, 5, 1),), {}),
        (
            "datetime.datetime(2024, 5, 1, 12, 0, tzinfo=datetime.timezone.utc)",
            (datetime(2024, 5, 1, 12, tzinfo=UTC),),
            {},
        ),
        (f"Decimal('1.50'), {SOME_ID!r}", (Decimal("1.50"), SOME_ID), {}),
    ],
)
def test_arguments_are_literals(inside: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    call = calls.read(f"{HERE}.described({inside})")
    assert (call.args, call.kwargs) == (args, kwargs)


@pytest.mark.parametrize(
    "text",
    [
        f"{HERE}.described(__import__('os').getpid())",
        f"{HERE}.described(open('x'))",
        f"{HERE}.described(*[1])",
        f"{HERE}.described(**{{}})",
        f"{HERE}.described(1",
        f"{HERE}.described(1))(2)",
        f"{HERE}.described(Decimal('nonsense'))",
        f"{HERE}.not_cached()",
        f"{HERE}.missing(1)",
        "no.such.module.function(1)",
        "product:42",
        "alone",
        "",
    ],
)
def test_what_is_no_call_is_refused(text: str) -> None:
    with pytest.raises(InvalidName):
        calls.read(text)


def test_words_are_arguments() -> None:
    call = calls.read(f"{HERE}.described", ["42", "two words", "lang=en", "'7'"])
    assert (call.args, call.kwargs) == ((42, "two words", "7"), {"lang": "en"})
    with pytest.raises(InvalidName, match="arguments already"):
        calls.read(f"{HERE}.described(1)", ["2"])


def test_a_call_calls_and_waits_for_coroutines() -> None:
    with isolated():
        assert calls.read(f"{HERE}.added(1, b=2)")() == 3
        assert calls.read(f"{HERE}.doubled(4)")() == 8


def test_a_key_tells_its_call() -> None:
    key = doubled.key(4)
    call = calls.of_key(key)
    assert call is not None
    assert call.key == key


@pytest.mark.parametrize("key", ["product:42", f"{HERE}.named_otherwise(1)", f"{HERE}.doubled(nonsense=1)", "a(1)"])
def test_a_key_that_does_not_tell_is_none(key: str) -> None:
    """The key of such a call is another."""
    assert calls.of_key(key) is None
