"""Redis is away at the start or in the middle, and comes back: nothing is lost, and `status()` shows the queue."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from invalidator import Invalidator, PublishError
from invalidator.message import decode
from invalidator.testing import EmbeddedServer
from tests.support import PATIENCE_S, Thread, wait_until


@pytest.fixture
def make(namespace: str) -> Iterator[Callable[..., Invalidator]]:
    made: list[Invalidator] = []

    def make(url: str, **options: Any) -> Invalidator:
        options = {"publish_timeout": 0.5, "close_timeout": 0.1, **options}
        made.append(Invalidator(url, namespace=namespace, **options))
        return made[-1]

    yield make
    for bus in made:
        bus.close()


def published(server: EmbeddedServer, namespace: str) -> list[str]:
    """The keys in the journal, in order; "*" for a clear."""
    entries = server.command("XRANGE", f"invalidator:{{{namespace}}}:journal", "-", "+")
    bodies = [decode(fields[3].encode()) for _, fields in entries]
    return [name for body in bodies if body.op != "epoch" for name in ("*" if body.op == "clear" else body.keys)]


def test_an_outage_in_the_middle(make, own_server, namespace) -> None:
    """Messages are queued and delivered in order, and the status shows them."""
    bus = make(own_server.url)
    assert bus.invalidate("before").accepted
    own_server.kill()
    receipts = [bus.invalidate(f"k{number}") for number in range(20)]
    assert not any(receipt.accepted for receipt in receipts)
    assert bus.status().queued == 20
    assert bus.status().last_error
    own_server.start()
    assert all(receipt.wait(PATIENCE_S) for receipt in receipts)
    assert published(own_server, namespace) == [f"k{number}" for number in range(20)]
    wait_until(lambda: (bus.status().queued, bus.status().last_error) == (0, None))
    assert bus.invalidate("after").accepted


def test_an_outage_at_the_start(make, own_server, namespace) -> None:
    url = own_server.url
    own_server.kill()
    bus = make(url)
    receipt = bus.invalidate("a")
    assert receipt.queued
    own_server.start()
    assert receipt.wait(PATIENCE_S)
    assert published(own_server, namespace) == ["a"]


def test_a_frozen_server(make, own_server, namespace) -> None:
    """A server may have taken what it did not answer: a message can be published twice, and is never lost."""
    bus = make(own_server.url)
    bus.invalidate("before")
    own_server.pause()
    receipt = bus.invalidate("a")
    assert receipt.queued
    own_server.resume()
    assert receipt.wait(PATIENCE_S)
    assert "a" in published(own_server, namespace)


def test_more_than_fits_becomes_one_clear(make, own_server, namespace) -> None:
    bus = make(own_server.url, queue_size=10)
    own_server.kill()
    receipts = [bus.invalidate(f"k{number}") for number in range(40)]
    assert bus.status().queue_overflows > 0
    assert bus.status().queued <= 20
    own_server.start()
    assert all(receipt.wait(PATIENCE_S) for receipt in receipts)
    assert "*" in published(own_server, namespace)


def test_raise(make, own_server) -> None:
    bus = make(own_server.url, publish="raise")
    bus.invalidate("a")
    own_server.kill()
    with pytest.raises(PublishError, match="Redis did not accept"):
        bus.invalidate("a")
    own_server.start()
    wait_until(lambda: _accepted(bus))


def _accepted(bus: Invalidator) -> bool:
    try:
        return bus.invalidate("a").accepted
    except PublishError:
        return False


def test_closing_without_redis_reports_what_was_lost(make, own_server) -> None:
    bus = make(own_server.url)
    own_server.kill()
    receipt = bus.invalidate("a", "b")
    bus.close()
    assert "closed before Redis came back" in receipt.lost_because
    assert bus.status().undelivered == 2


def test_closing_delivers_what_it_can(make, own_server, namespace) -> None:
    bus = make(own_server.url, close_timeout=PATIENCE_S)
    own_server.kill()
    receipt = bus.invalidate("a")
    closing = Thread(bus.close)
    own_server.start()
    closing.outcome()
    assert receipt.accepted
    assert published(own_server, namespace) == ["a"]


def test_many_threads_while_it_comes_and_goes(make, own_server, namespace) -> None:
    """What a receipt reports as accepted is in the journal, and no receipt waits for ever."""
    bus = make(own_server.url)
    receipts: list[Any] = []
    own_server.kill()

    def work(worker: int) -> None:
        receipts.extend(bus.invalidate(f"w{worker}k{number}") for number in range(50))

    workers = [Thread(lambda worker=worker: work(worker)) for worker in range(8)]
    own_server.start()
    for thread in workers:
        thread.outcome()
    assert all(receipt.wait(PATIENCE_S) for receipt in receipts)
    assert set(published(own_server, namespace)) == {
        f"w{worker}k{number}" for worker in range(8) for number in range(50)
    }
