"""
Every read of the shop, through this worker's near cache.

A read reports where its value came from and which copy it is, for the pages to show. A shop of your own needs only the
line with `cache.get_or_set`.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from django_integration import Loaded, cache, model_tag, row_tags

from .models import Category, Flag, Product
from .worker import identity

Value: TypeAlias = dict[str, Any]

_copies = itertools.count(1)


@dataclass(frozen=True, slots=True)
class Copy:
    """A value as it is in this worker's near cache. It is never changed: all readers share it."""

    value: Value
    number: int = field(compare=False)
    """The how manieth value this worker loaded from the database since its start."""
    loaded: float = field(compare=False)
    """When, in seconds of this process' steady clock."""


@dataclass(frozen=True, slots=True)
class Read:
    """A copy, and whether this read found it or had to load it."""

    copy: Copy
    source: Literal["cache", "database"]

    def as_dict(self) -> Value:
        """The value with what the pages and the API show of it."""
        return {
            **self.copy.value,
            **identity(),
            "from": self.source,
            "age_ms": round((time.monotonic() - self.copy.loaded) * 1000, 1),
            "copy": self.copy.number,
        }


def product(pk: int) -> Read:
    """Read a product. Raises Product.DoesNotExist."""

    def load() -> tuple[Value, list[str]]:
        row = Product.objects.select_related("category").prefetch_related("labels").get(pk=pk)
        labels = list(row.labels.all())
        value = {
            "id": row.pk,
            "name": row.name,
            "price": float(row.price),
            "category": row.category.name,
            "labels": [label.name for label in labels],
        }
        # Only the loader knows which other rows are in the value.
        return value, [tag for other in (row.category, *labels) for tag in row_tags(other)]

    return _read(f"product:{pk}", load, tags=row_tags(Product, pk))


def flag(name: str) -> Read:
    """Read a feature flag. Raises Flag.DoesNotExist."""

    def load() -> tuple[Value, list[str]]:
        row = Flag.objects.get(pk=name)
        return {"name": row.name, "enabled": row.enabled}, []

    return _read(f"flag:{name}", load, tags=row_tags(Flag, name))


def category(pk: int) -> Read:
    """Read a category and the names of its products. Raises Category.DoesNotExist."""

    def load() -> tuple[Value, list[str]]:
        row = Category.objects.get(pk=pk)
        return {"id": row.pk, "name": row.name, "products": [product.name for product in row.products.all()]}, []

    # Its products' changes reach it by the key alone, see invalidation.py.
    return _read(f"category:{pk}", load, tags=row_tags(Category, pk))


def price_list() -> Read:
    """Read the sum of all prices, as an example of a value over many rows with a tag of its own."""

    def load() -> tuple[Value, list[str]]:
        prices = [float(price) for price in Product.objects.values_list("price", flat=True)]
        return {"products": len(prices), "total": round(sum(prices), 2)}, []

    return _read("price-list", load, tags=["prices"])


def product_ids() -> list[int]:
    """The ids of all products; a list over the table, so it carries the table's tag."""
    ids: list[int] = cache.get_or_set(
        "product-ids", lambda: list(Product.objects.values_list("pk", flat=True)), tags=[model_tag(Product)]
    )
    return ids


def flag_names() -> list[str]:
    """The names of all flags."""
    names: list[str] = cache.get_or_set(
        "flag-names", lambda: list(Flag.objects.values_list("pk", flat=True)), tags=[model_tag(Flag)]
    )
    return names


def products() -> list[Read]:
    """Read every product, each from its own entry."""
    return _existing(product, product_ids())


def flags() -> list[Read]:
    """Read every flag, each from its own entry."""
    return _existing(flag, flag_names())


def _existing(read: Callable[[Any], Read], keys: Iterable[object]) -> list[Read]:
    found = []
    for key in keys:
        try:
            found.append(read(key))
        except (Product.DoesNotExist, Flag.DoesNotExist):
            continue  # deleted between the two reads
    return found


def _read(key: str, load: Callable[[], tuple[Value, list[str]]], *, tags: Iterable[str]) -> Read:
    loaded_here = False

    def loader() -> Loaded[Copy]:
        nonlocal loaded_here
        loaded_here = True
        began = time.monotonic()
        value, more_tags = load()
        return Loaded(Copy(value, next(_copies), began), tags=more_tags)

    copy = cache.get_or_set(key, loader, tags=tags)
    return Read(copy, "database" if loaded_here else "cache")
