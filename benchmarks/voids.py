"""
A mixed load on the example shop: which cached values a write voids, and how many of them it had not changed.

Each cache runs the same load in a process of its own (`python -m benchmarks.voids ours|cachalot WRITES plain|labels`):
the shop's reads on SQLite, through this library, or as they are with django-cachalot beneath the ORM, which voids by
table.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

from .figures import Figure, Target
from .run import Run

CATEGORIES, PRODUCTS, LABELS, FLAGS = 12, 60, 8, 6
READS_PER_WRITE = 10
CHECKED_EVERY = 10
"""Writes between two looks at everything that was kept."""

ROOT = Path(__file__).parents[1]


def measure(run: Run) -> list[Figure]:
    """The same load twice; shares need no clock, and are the same on every machine."""
    writes = run.rounds(200, 20)
    plain, labels = _compare(writes, "plain"), _compare(writes, "labels")
    return [
        Figure("needless voids: cachalot ÷ ours", plain.ratio, "×", target=Target(7, "≥", 10)),
        *plain.figures(),
        Figure("… and with labels put on products, and renamed: cachalot ÷ ours", labels.ratio, "×"),
        *labels.figures(),
    ]


class _Comparison(NamedTuple):
    """What one load did to two caches."""

    ours: Mapping[str, int]
    cachalot: Mapping[str, int]

    @property
    def ratio(self) -> float:
        return self.cachalot["needless"] / max(1, self.ours["needless"])

    def figures(self) -> Iterator[Figure]:
        for name, counts in self._asdict().items():
            needless = counts["needless"]
            yield Figure(f"… of what a write left as it was, voided: {name}", 100 * needless / counts["unchanged"], "%")
            yield Figure(
                f"… of what was voided, needlessly: {name}", 100 * needless / (needless + counts["needed"]), "%"
            )
            yield Figure(f"… needless voids: {name}", needless, "")
        yield Figure("… needed voids, of each", self.ours["needed"], "")
        yield Figure("… reads, in between writes", self.ours["reads"], "")
        yield Figure("… writes", self.ours["writes"], "")


def _compare(writes: int, load: str) -> _Comparison:
    seen = {name: _seen_by(name, writes, load) for name in ("ours", "cachalot")}
    if any(counts["writes"] != writes or not counts["needed"] for counts in seen.values()):
        raise RuntimeError(f"the load was not what it should be: {seen}")
    if seen["ours"]["needed"] != seen["cachalot"]["needed"] or seen["ours"]["entries"] != seen["cachalot"]["entries"]:
        raise RuntimeError(f"the two did not see the same changes: {seen}")
    return _Comparison(**seen)


def _seen_by(name: str, writes: int, load: str) -> dict[str, int]:
    command = [sys.executable, "-m", "benchmarks.voids", name, str(writes), load]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600, check=False)
    if done.returncode:
        raise RuntimeError(f"{name}: {done.stderr}")
    counts: dict[str, int] = json.loads(done.stdout)
    return counts


# In the process of one of them.


def main(name: str, writes: int, load: str) -> None:
    """Run the load, and print what was seen."""
    _start(name)
    from example_project.shop import reads

    keep = _Uncached() if name == "cachalot" else reads.cache
    reads.cache = keep
    print(json.dumps(_Load(keep, has_labels=load == "labels").run(writes)))


def _start(name: str) -> None:
    import django
    from django.conf import settings

    from example_project import settings as shop

    options = {key: getattr(shop, key) for key in dir(shop) if key.isupper()}
    options["DATABASES"] = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}}
    options["INVALIDATOR"] = {"URL": "memory://", "NAMESPACE": "voids", "TTL": None, "MAX_STALENESS": 600}
    if name == "cachalot":
        options["INSTALLED_APPS"] = [*shop.INSTALLED_APPS, "cachalot"]
        options["CACHES"] = {
            "default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache", "OPTIONS": {"MAX_ENTRIES": 100_000}}
        }
    settings.configure(**options)
    django.setup()
    from django.core.management import call_command

    call_command("migrate", verbosity=0)
    if name == "ours":
        from django_integration import bus

        if not bus().wait_until_leased(5):
            raise RuntimeError(f"there is no lease: {bus().status()}")


class _Uncached:
    """In the place of the shop's cache: every read loads. What is beneath the ORM may know better."""

    def get_or_set(self, key: str, loader: Callable[[], Any], **options: Any) -> Any:
        from django_integration import Loaded

        value = loader()
        return value.value if isinstance(value, Loaded) else value


@contextmanager
def _queries() -> Iterator[list[str]]:
    """Takes the queries that reach the database inside."""
    from django.db import connection

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
        from example_project.shop.models import Category, Flag, Label, Product

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
        from example_project.shop.models import Category, Flag, Product

        with self._past_caches():
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
        from example_project.shop import reads

        reads.cache = _Uncached()
        try:
            with self._past_caches():
                return _value(read)
        finally:
            reads.cache = self._keep

    @contextmanager
    def _past_caches(self) -> Iterator[None]:
        try:
            from cachalot.api import cachalot_disabled
        except Exception:  # noqa: BLE001 - without its app it cannot be imported
            yield
            return
        with cachalot_disabled():
            yield

    def _write(self, number: int) -> None:
        """Of twenty: nine prices, three moves, two names, two flags, one more, one less, two of labels (or prices)."""
        from example_project.shop.models import Category, Flag, Label, Product

        with self._past_caches():
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
    from example_project.shop import reads

    name, argument = read
    found = getattr(reads, name)(*(() if argument is None else (argument,)))
    return found.copy.value if isinstance(found, reads.Read) else found


if __name__ == "__main__":
    os.environ.pop("DJANGO_SETTINGS_MODULE", None)
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3])
