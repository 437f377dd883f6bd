"""What a hit of a cached row costs: a clone of the reader's own, beside a naive one, and beside unpickling."""

from __future__ import annotations

import copy
import functools
import pickle
from collections.abc import Mapping
from typing import Any

from django.db import models

from django_integration import cache
from django_integration.reads.default_cache import default_cache
from invalidator.extending import Kept, keep

from .django_backend import start_django, stop_django
from .figures import Figure, Target
from .run import Run
from .timing import quickest_ns

COLUMNS = 10
MANY = 50


def measure(run: Run) -> list[Figure]:
    """Shortest of many batches."""
    start_django(run)
    ns = _ns(run)
    stop_django()

    def target(what: str, ratio: float, limit: float) -> Figure:
        return Figure(what, ratio, "×", target=Target(13, "≤", limit))

    return [
        target("a hit of one row ÷ (a naive clone and a hit)", ns["row"] / (ns["naive"] + ns["text"]), 3),
        target("a hit of 50 rows ÷ 50 naive clones", ns["rows"] / ns["naive many"], 2.5),
        target("a hit of text where rows are cloned ÷ the core's", ns["text"] / ns["text of the core"], 1.1),
        Figure("a naive clone of a row: __new__, and a copy of its __dict__", ns["naive"], "ns"),
        Figure("pickle.loads of a row", ns["loads"], "ns"),
        Figure("copy.deepcopy of a row", ns["deepcopy"], "ns"),
        Figure("our clone of a row", ns["clone"], "ns"),
        Figure("a hit of a row", ns["row"], "ns"),
        Figure("… with the row of a foreign key", ns["joined"], "ns"),
        Figure('… copy="pickle"', ns["row, pickle"], "ns"),
        Figure('… copy="none"', ns["row, none"], "ns"),
        Figure("a hit of text", ns["text"], "ns"),
        Figure("50 naive clones", ns["naive many"] / 1000, "µs"),
        Figure("pickle.loads of a list of 50 rows", ns["loads many"] / 1000, "µs"),
        Figure("a hit of a list of 50 rows", ns["rows"] / 1000, "µs"),
        Figure("… with the row of a foreign key each", ns["joined rows"] / 1000, "µs"),
    ]


def _ns(run: Run) -> dict[str, float]:
    rows, joined = _rows(), _rows()
    for row, parent in zip(joined, _rows(), strict=True):
        row.parent = parent
    values: dict[str, tuple[Any, Any]] = {
        "text": ("a lamp", None),
        "row": (rows[0], None),
        "row, none": (_rows()[0], "none"),
        "row, pickle": (rows[0], "pickle"),
        "joined": (joined[0], None),
        "rows": (rows, None),
        "joined rows": (joined, None),
    }
    for key, (value, how) in values.items():
        cache.get_or_set(key, functools.partial(_same, value), copy=how)
    near = default_cache()
    before = near.stats().misses
    kept = keep(rows[0])
    assert type(kept) is Kept
    one: Mapping[str, Any] = {"naive": _naive, "row": rows[0]}
    statements = {
        **{key: (f"get({key!r})", {"get": near.get}) for key in values},
        "text of the core": ("get('text')", {"get": _core(near)}),
        "naive": ("naive(row)", one),
        "naive many": ("[naive(row) for row in rows]", {"naive": _naive, "rows": rows}),
        "clone": ("clone(None)", {"clone": kept.copy}),
        "loads": ("loads(data)", {"loads": pickle.loads, "data": pickle.dumps(rows[0], pickle.HIGHEST_PROTOCOL)}),
        "loads many": ("loads(data)", {"loads": pickle.loads, "data": pickle.dumps(rows, pickle.HIGHEST_PROTOCOL)}),
        "deepcopy": ("deepcopy(row)", {"deepcopy": copy.deepcopy, "row": rows[0]}),
    }
    ns = quickest_ns(run, statements, inner=1, rounds=run.rounds(100, 10))
    if near.stats().misses != before:
        raise RuntimeError("not all reads were hits")
    return ns


def _core(near: Any) -> Any:
    """The `get` of a near cache of the library, on the same bus, in which nothing is cloned."""
    core = type(near)(near.bus)
    core.set("text", "a lamp")
    if core.get("text") is None:
        raise RuntimeError("there is no lease")
    return core.get


def _same(value: Any) -> Any:
    return value


def _naive(row: Any) -> Any:
    clone = type(row).__new__(type(row))
    clone.__dict__ = row.__dict__.copy()
    return clone


@functools.cache
def _model() -> Any:
    columns = {f"column{number}": models.CharField(max_length=80) for number in range(COLUMNS - 2)}

    class Meta:
        app_label = "invalidator"  # one that is installed

    parent = models.ForeignKey("self", models.CASCADE, null=True)
    return type("Wide", (models.Model,), {**columns, "parent": parent, "Meta": Meta, "__module__": __name__})


def _rows() -> list[Any]:
    """As a query would return them; there is no table."""
    model = _model()
    names = [field.attname for field in model._meta.concrete_fields]
    values = [f"a text of column {number}" for number in range(COLUMNS - 2)]
    return [model.from_db("default", names, [number, *values, number]) for number in range(1, MANY + 1)]
