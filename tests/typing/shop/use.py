"""The public interface of `django_integration` as an application writes it."""

from collections.abc import Iterator
from typing import Any, assert_type

from django.core.cache import caches

from django_integration import (
    Loaded,
    Receipt,
    Tag,
    bus,
    cache,
    cached,
    flushed,
    invalidate,
    invalidated,
    invalidates,
    model_tag,
    row_tag,
    row_tags,
    tag,
)
from django_integration.backend import NearCacheBackend
from invalidator import CachedFunction, Invalidator

from .models import Product


@cached(key="product:{pk}", tags=lambda pk: row_tags(Product, pk), ttl=300)
def product(pk: int) -> Product:
    return Product.objects.get(pk=pk)


@cached(copy="none")
def shared(pk: int) -> Product:
    return Product.objects.get(pk=pk)


@cached(tags=[model_tag(Product), tag("prices")])
async def prices(least: int = 0) -> list[int]:
    return [found.price async for found in Product.objects.filter(price__gte=least)]


@cached
def newest(most: int = 10) -> list[Product]:
    return list(Product.objects.order_by("-pk")[:most])


class Shop:
    @staticmethod
    @cached
    def price(pk: int) -> int:
        return Product.objects.get(pk=pk).price


@invalidates(Product)
def pages_that_show(row: Product) -> Iterator[str | Tag]:
    yield f"page:{row.pk}"
    yield tag("prices")


def on_invalidated(sender: type[Invalidator], keys: tuple[str, ...], tags: tuple[str, ...], **rest: Any) -> None:
    assert rest or keys or tags


async def use() -> None:
    row = product(1)
    assert_type(row, Product)
    assert_type(await prices(least=3), list[int])
    assert_type(newest(most=3), list[Product])
    assert_type(newest.key(), str)
    assert_type(Shop.price(1), int)
    assert_type(product.key(1), str)
    plain: CachedFunction[[int], Product] = product
    assert_type(plain(1), Product)
    assert_type(invalidate("product:42", tag("prices"), row, Product), Receipt | None)
    assert_type(invalidate(row, using="other"), Receipt | None)
    assert_type(cache.get_or_set("count", Product.objects.count, tags=[model_tag(Product)]), int)
    assert_type(cache.get_or_set("name", lambda: Loaded("a", tags=row_tags(row))), str)
    assert_type(row_tag(row), str)
    assert_type(row_tag(Product, 42), str)
    assert_type(row_tags(row), tuple[str, str])
    assert_type(bus(), Invalidator)
    assert_type(bus().status().leased, bool)
    invalidated.connect(on_invalidated)
    flushed.disconnect(on_invalidated)
    backend = caches["default"]
    assert isinstance(backend, NearCacheBackend)
    assert_type(backend.key_name("a"), str)
    assert_type(backend.get_or_set("a", lambda: 1), Any)


def wrong() -> None:
    """Each of these must be an error: an ignore that is not needed is one."""
    product("1")  # type: ignore[arg-type]
    invalidate(42)  # type: ignore[arg-type]
    invalidates("shop.Product")  # type: ignore[arg-type]
    row_tags(Product)  # type: ignore[call-overload]
