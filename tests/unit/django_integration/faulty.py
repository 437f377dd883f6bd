"""A cache for tests of the second level: fails, and does things in between, when told to."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.core.cache.backends.locmem import LocMemCache


class FaultyCache(LocMemCache):
    """Django's own; `down` makes every operation fail, `after` has functions called after operations, once."""

    down = False
    after: dict[str, Callable[[], object]] = {}  # noqa: RUF012 - backend objects come and go
    calls: list[str] = []  # noqa: RUF012


def _faulty(name: str) -> Callable[..., Any]:
    original = getattr(LocMemCache, name)

    def operation(self: FaultyCache, *args: Any, **options: Any) -> Any:
        FaultyCache.calls.append(name)
        if FaultyCache.down:
            raise ConnectionError("the test says so")
        result = original(self, *args, **options)
        if then := FaultyCache.after.pop(name, None):
            then()
        return result

    return operation


for _name in ("get", "add", "set", "touch", "incr", "delete", "clear"):
    setattr(FaultyCache, _name, _faulty(_name))
