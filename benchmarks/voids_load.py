"""
The load of the benchmark `voids`, run on one cache, in a process of its own:

    VOIDS_CACHE=ours|cachalot python -m benchmarks.voids_load WRITES plain|labels

It prints as JSON how often the cache was right to void what it had, and how often not.
"""

from __future__ import annotations

import json
import os
import random
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from decimal import Decimal
from typing import Any

import django

os.environ["DJANGO_SETTINGS_MODULE"] = "benchmarks.voids_settings"
django.setup()

from django.conf import settings  # noqa: E402 - Django is set up first
from django.core.management import call_command  # noqa: E402
from django.db import connection  # noqa: E402

from django_integration import Loaded, bus  # noqa: E402
from example_project.shop import reads  # noqa: E402
from example_project.shop.models import Category, Flag, Label, Product  # noqa: E402

if settings.IS_CACHALOT:  # which cannot be imported unless its app is installed
    from cachalot.api import cachalot_disabled as past_caches
else:
    past_caches = nullcontext

CATEGORIES, PRODUCTS, LABELS, FLAGS = 12, 60, 8, 6
READS_PER_WRITE = 10
CHECKED_EVERY = 10
"""Writes between two looks at everything that was kept."""


def main(writes: int, load: str) -> None:
    """Run the load, and print what was seen."""
    call_command("migrate", verbosity=0)
    if settings.IS_CACHALOT:
        reads.cache = _Uncached()
    elif not bus().wait_until_leased(5):
        raise RuntimeError(f"there is no lease: {bus().status()}")
    print(json.dumps(_Load(reads.cache, has_labels=load == "labels").run(writes)))


class _Uncached:
    """In the place of the shop's cache: every read loads. What is beneath the ORM may know better."""

    def get_or_set(self, key: str, loader: Callable[[], Any], **options: Any) -> Any:
        value = loader()
        return value.value if isinstance(value, Loaded) else value


@contextmanager
def _queries() -> Iterator[list[str]]:
    """Takes the queries that reach the database inside."""
    queries: list[str] = []

    def sent(execute: Any, sql: str, *rest: Any) -> Any:
        queries.append(sql)
        return execute(sql, *rest)

    with connection.execute_wrapper(sent):
        yield queries


class _Load:
    """The load, and what became of what it had cached."""

    def __init__(self, keep: Any, *, has_labels: bool) -> None:
        self._keep = keep
        self._has_labels = has_labels
        self._random = random.Random(20)
        self._values: dict[tuple[str, Any], Any] = {}
        self._counts = dict.fromkeys(("writes", "reads", "entries", "needed", "needless", "unchanged"), 0)

    def run(self, writes: int) -> dict[str, int]:
        """Reads and writes in turn; after each write, a look at everything that was cached before it."""
        self._open()
        for read in self._reads():
            self._read(read)
        for number in range(writes):
            known = self._reads()
            for read in self._random.choices(known, k=READS_PER_WRITE):
                self._read(read)
                self._counts["reads"] += 1
            self._write(number)
            self._counts["writes"] += 1
            self._look(check_all=number % CHECKED_EVERY == 0)
        return self._counts

    def _open(self) -> None:
        categories = [Category.objects.create(name=f"category {number}") for number in range(CATEGORIES)]
        labels = [Label.objects.create(name=f"label {number}") for number in range(LABELS)]
        for number in range(PRODUCTS):
            product = Product.objects.create(
                name=f"product {number}", price=Decimal(number + 1), category=categories[number % CATEGORIES]
            )
            product.labels.set(self._random.sample(labels, 2))
        for number in range(FLAGS):
            Flag.objects.create(name=f"flag-{number}")

    def _reads(self) -> list[tuple[str, Any]]:
        """What the shop's pages read now."""
        with past_caches():
            return [
                *[("product", pk) for pk in Product.objects.values_list("pk", flat=True)],
                *[("category", pk) for pk in Category.objects.values_list("pk", flat=True)],
                *[("flag", name) for name in Flag.objects.values_list("pk", flat=True)],
                ("price_list", None),
                ("product_ids", None),
                ("flag_names", None),
            ]

    def _read(self, read: tuple[str, Any]) -> bool:
        """Read through the cache. Returns whether the database was asked."""
        with _queries() as queries:
            self._values[read] = _value(read)
        return bool(queries)

    def _look(self, *, check_all: bool) -> None:
        there = set(self._reads())
        for read in [read for read in self._values if read not in there]:
            del self._values[read]  # of a row that is gone, which nothing reads
        for read in there:
            if read not in self._values:
                self._read(read)
                continue
            before = self._values[read]
            self._counts["entries"] += 1
            was_void = self._read(read)
            changed = self._values[read] != before
            self._counts["unchanged"] += not changed
            if was_void:
                self._counts["needed" if changed else "needless"] += 1
            elif changed or (check_all and self._fresh(read) != before):
                raise RuntimeError(f"{read} is stale: {before}")

    def _fresh(self, read: tuple[str, Any]) -> Any:
        reads.cache = _Uncached()
        try:
            with past_caches():
                return _value(read)
        finally:
            reads.cache = self._keep

    def _write(self, number: int) -> None:
        """Of twenty: nine prices, three moves, two names, two flags, one more, one less, two of labels (or prices)."""
        with past_caches():
            product = self._random.choice(list(Product.objects.all()))
            category = self._random.choice(list(Category.objects.all()))
            flag = self._random.choice(list(Flag.objects.all()))
            labels = list(Label.objects.all())
        match number % 20:
            case 3 | 10 | 15:
                product.category = category
                product.save()
            case 5 | 11:
                product.name = f"renamed {number}"
                product.save(update_fields=["name"])
            case 7 | 17:
                flag.enabled = not flag.enabled
                flag.save()
            case 8 if self._has_labels:
                labels[number % LABELS].name = f"label renamed {number}"
                labels[number % LABELS].save()
            case 13 if self._has_labels:
                product.labels.set(self._random.sample(labels, 2))
            case 18:
                Product.objects.create(name=f"new {number}", price=Decimal(5), category=category)
            case 19:
                product.delete()
            case _:
                product.price += 1
                product.save()


def _value(read: tuple[str, Any]) -> Any:
    name, argument = read
    found = getattr(reads, name)(*(() if argument is None else (argument,)))
    return found.copy.value if isinstance(found, reads.Read) else found


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
