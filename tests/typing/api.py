"""The library's front door as users write it: checked by mypy, never run."""

from collections.abc import Callable, Coroutine
from typing import Any, assert_type

from invalidator import Guard, Hold, Invalidation, Invalidator, Loaded, NearCache, Receipt, Stats, Status, tag
from invalidator.testing import EmbeddedServer, MemoryBus

bus = Invalidator("redis://localhost:6379/0", namespace="shop", max_staleness=2.0, sidecar="auto")
cache = NearCache(bus, maxsize=50_000, ttl=300)
alone = NearCache("memory://", namespace="shop")
own = NearCache(bus, copy="clone", guard=0.1)
watched = NearCache(bus, guard=Guard(True, lambda changed: print(changed.where)))


class Product:
    def __init__(self, pk: int) -> None:
        self.pk = pk

    @cache.cached(key="pages:{self.pk}:{size}")
    def pages(self, size: int = 10) -> list[str]:
        return [str(size)]


@cache.cached(ttl=60, tags=["category:{pk}", tag("prices")], key="product:{pk}")
def product(pk: int, *, fresh: bool = False) -> Product:
    return Product(pk)


@cache.cached()
async def price(pk: int) -> float:
    return 1.0


@cache.cached
def name(pk: int, *, full: bool = False) -> str:
    return ""


@cache.cached
async def weight(pk: int) -> float:
    return 1.0


async def use() -> None:
    assert_type(name(1, full=True), str)
    assert_type(name.key(1), str)
    assert_type(await weight(1), float)
    assert_type(cache.get_or_set("a", lambda: 1), int)
    assert_type(cache.get_or_set("a", lambda: Loaded("b", ttl=None, tags=["c"])), str)
    assert_type(product(1), Product)
    assert_type(product(pk=1, fresh=True), Product)
    assert_type(product.key(1), str)
    assert_type(product.invalidate(1), Receipt)
    assert_type(product.__wrapped__(1), Product)
    coming: Coroutine[Any, Any, float] = price(1)
    assert_type(await coming, float)
    assert_type(await price(1), float)
    assert_type(Product(1).pages(size=5), list[str])
    assert_type(Product(1).pages.key(5), str)

    async def load() -> bytes:
        return b""

    async def load_more() -> Loaded[bytes]:
        return Loaded(b"", ttl=1)

    assert_type(await cache.aget_or_set("a", load), bytes)
    assert_type(await cache.aget_or_set("a", load_more, tags=[tag("t")]), bytes)
    assert_type(bus.invalidate("a", tags=["b", tag("c")]), Receipt)
    assert_type(await bus.ainvalidate("a"), Receipt)
    assert_type(bus.clear(), Receipt)
    assert_type(bus.status(), Status)
    assert_type(cache.stats(), Stats)
    assert_type(bus.hold("a"), Hold)
    assert_type(cache.set("a", 1, ttl=None, tags=()), bool)
    assert_type(cache.get_many(["a"]), dict[str, Any])

    def hear(said: Invalidation) -> None:
        assert_type(said.keys, tuple[str, ...])

    assert_type(bus.on_invalidate(hear, keys=["a"]), Callable[[], None])
    with MemoryBus() as memory, Invalidator(memory.url, namespace="shop"), memory.delayed():
        memory.lose(2)
    with EmbeddedServer(unix_socket=True) as server:
        assert_type(server.url, str)


def wrong() -> None:
    """Each of these must be an error: an ignore that is not needed is one."""
    product("1")  # type: ignore[arg-type]
    product(1, quick=True)  # type: ignore[call-arg]
    product.key()  # type: ignore[call-arg]
    name("1")  # type: ignore[arg-type]
    cache.cached(tll=5)  # type: ignore[call-overload]
    cache.cached(300)  # type: ignore[call-overload]
    NearCache(bus, copy="copy")  # type: ignore[arg-type]
    Product(1).pages("5")  # type: ignore[arg-type]
    cache.get_or_set("a", 1)  # type: ignore[call-overload]
    bus.invalidate(1)  # type: ignore[arg-type]
