"""What recording dependencies costs a loader, and what a hit of a cached function costs."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from typing import Any

from django.db import connection, models

from django_integration import cache, cached
from django_integration.reads.default_cache import default_cache

from .django_backend import start_django, stop_django
from .figures import Figure, Target
from .run import Run
from .timing import interleaved_ns, quickest_ns

ROWS = 500
PAGE = 50
"""Objects on a page."""


def measure(run: Run) -> list[Figure]:
    """Medians for loads; shortest of many batches for hits."""
    cache, model, redis = _start(run)
    row_of, rows_of = (lambda: model.objects.get(pk=7)), (lambda: list(model.objects.filter(kind=3)))
    calls: dict[str, Any] = {}
    for name, loader in (("row", row_of), ("rows", rows_of)):
        calls[f"{name} off"] = lambda name=name, loader=loader: cache.get_or_set(name, loader, ttl=0, track=False)
        calls[f"{name} on"] = lambda name=name, loader=loader: cache.get_or_set(name, loader, ttl=0)
    times = {
        name: statistics.median(took) for name, took in interleaved_ns(run, calls, rounds=run.rounds(5000, 500)).items()
    }
    hits = _hits_ns(run, cache, model)
    page = _page_ns(run, redis, model)
    stop_django()
    return [
        Figure(
            "a load of one row on SQLite: recorded, more than not",
            100 * (times["row on"] / times["row off"] - 1),
            "%",
            target=Target(7, "≤", 10),
        ),
        Figure(
            "a load of ten rows by a column: recorded, more than not",
            100 * (times["rows on"] / times["rows off"] - 1),
            "%",
        ),
        Figure("@cached of the app, hit ÷ the core's get", hits["cached"] / hits["get"], "×", target=Target(7, "≤", 2)),
        Figure(
            "a page of 50 rows: RedisCache, one by one ÷ ours",
            page["one by one"] / page["ours"],
            "×",
            target=Target(7, "≥", 20),
        ),
        Figure("… RedisCache, one get_many ÷ ours", page["many"] / page["ours"], "×"),
        Figure("a page of 50 rows: @cached of the app", page["ours"] / 1000, "µs"),
        Figure("… RedisCache on loopback, one by one", page["one by one"] / 1000, "µs"),
        Figure("… RedisCache on loopback, one get_many", page["many"] / 1000, "µs"),
        Figure("a load of one row, recorded", times["row on"] / 1000, "µs"),
        Figure("a load of one row, not recorded", times["row off"] / 1000, "µs"),
        Figure("a load of ten rows, recorded", times["rows on"] / 1000, "µs"),
        Figure("a load of ten rows, not recorded", times["rows off"] / 1000, "µs"),
        Figure("the core's get, hit", hits["get"], "ns"),
        Figure("@cached of the app, hit", hits["cached"], "ns"),
        Figure("@cached of the app, hit, of a row", hits["cached row"], "ns"),
    ]


def _start(run: Run) -> tuple[Any, Any, Any]:
    caches, _ = start_django(run)

    class Thing(models.Model):
        name = models.CharField(max_length=80)
        kind = models.IntegerField(db_index=True)

        class Meta:
            app_label = "invalidator"  # one that is installed

        def __str__(self) -> str:
            return self.name

    with connection.schema_editor() as editor:
        editor.create_model(Thing)
    Thing.objects.bulk_create([Thing(name=f"thing {number}", kind=number // 10) for number in range(ROWS)])
    return cache, Thing, caches["redis"]


def _hits_ns(run: Run, cache: Any, model: Any) -> Mapping[str, float]:
    @cached()
    def load(pk: int) -> int:
        return pk

    @cached()
    def load_row(row: Any) -> Any:
        return row

    numbers, keys, rows = list(range(ROWS)), [f"key:{number}" for number in range(ROWS)], list(model.objects.all())
    for number, key, row in zip(numbers, keys, rows, strict=True):
        load(number)
        load_row(row)
        cache.get_or_set(key, lambda: 1)
    near = default_cache()
    before = near.stats().misses
    statements: dict[str, tuple[str, Mapping[str, Any]]] = {
        "loop": ("for key in keys: pass", {"keys": keys}),
        "get": ("for key in keys: get(key)", {"get": near.get, "keys": keys}),
        "cached": ("for number in numbers: load(number)", {"load": load, "numbers": numbers}),
        "cached row": ("for row in rows: load(row)", {"load": load_row, "rows": rows}),
    }
    ns = quickest_ns(run, statements, inner=ROWS, rounds=run.rounds(150, 15))
    if near.stats().misses != before:
        raise RuntimeError("not all reads were hits")
    loop = ns.pop("loop")
    return {name: took - loop for name, took in ns.items()}


def _page_ns(run: Run, redis: Any, model: Any) -> Mapping[str, float]:
    """A page of rows, each cached by itself: medians."""

    @cached()
    def load_thing(pk: int) -> Any:
        return model.objects.get(pk=pk)

    rows = list(model.objects.order_by("pk")[:PAGE])
    numbers, keys = [row.pk for row in rows], [f"page:{row.pk}" for row in rows]
    redis.set_many(dict(zip(keys, rows, strict=True)), 300)
    calls: dict[str, Any] = {
        "ours": lambda: [load_thing(number) for number in numbers],
        "one by one": lambda: [redis.get(key) for key in keys],
        "many": lambda: list(redis.get_many(keys).values()),
    }
    if any(call() != rows for call in calls.values()):
        raise RuntimeError("a page does not show its rows")
    near = default_cache()
    before = near.stats().misses
    times = interleaved_ns(run, calls, rounds=run.rounds(300, 30), warm_up=10)
    if near.stats().misses != before:
        raise RuntimeError("not all reads were hits")
    return {name: statistics.median(took) for name, took in times.items()}
