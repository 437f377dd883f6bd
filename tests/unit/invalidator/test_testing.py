"""`MemoryBus`: what a test can do to it, and what everybody else then sees. (`EmbeddedServer`: tests/integration.)"""

from collections.abc import Iterator

import pytest

from invalidator import Invalidator, NearCache, PublishError
from invalidator.link import memory as link
from invalidator.testing import MemoryBus
from tests.support import PATIENCE_S, wait_until


@pytest.fixture
def memory() -> Iterator[MemoryBus]:
    with MemoryBus() as memory:
        yield memory


@pytest.fixture
def writer(memory: MemoryBus) -> Iterator[Invalidator]:
    with Invalidator(memory.url, namespace="shop", max_staleness=60) as bus:
        yield bus


@pytest.fixture
def reader(memory: MemoryBus) -> Iterator[NearCache]:
    """Another server, with "a" and "b" in its cache."""
    cache = NearCache(memory.url, namespace="shop", max_staleness=60)
    assert cache.bus.wait_until_leased(PATIENCE_S)
    cache.set_many({"a": 1, "b": 1})
    yield cache
    cache.close()


def arrives(writer: Invalidator, reader: NearCache) -> None:
    """Return when all that was said before is there, since messages come in order."""
    reader.set("mark", 1)
    writer.invalidate("mark")
    wait_until(lambda: "mark" not in reader)


class TestFaults:
    def test_a_lost_message_is_noticed_with_the_next_one(self, memory, writer, reader) -> None:
        memory.lose()
        assert writer.invalidate("a").accepted
        assert "a" in reader
        arrives(writer, reader)
        wait_until(lambda: "a" not in reader)
        assert reader.bus.status().last_gap
        assert "b" in reader  # the journal told which one it was

    def test_only_so_many_are_lost(self, memory, writer, reader) -> None:
        memory.lose(2)
        writer.invalidate("x")
        writer.invalidate("y")
        writer.invalidate("a")
        wait_until(lambda: "a" not in reader)

    def test_a_repeated_message_is_applied_once(self, memory, writer, reader) -> None:
        heard: list[tuple[str, ...]] = []
        reader.bus.on_invalidate(lambda said: heard.append(said.keys))
        memory.repeat()
        writer.invalidate("a")
        arrives(writer, reader)
        wait_until(lambda: ("mark",) in heard)
        assert heard.count(("a",)) == 1

    def test_a_delayed_message_arrives_at_the_end_of_the_block(self, memory, writer, reader) -> None:
        with memory.delayed():
            assert writer.invalidate("a").accepted
            assert "a" in reader
        wait_until(lambda: "a" not in reader)

    def test_a_delay_holds_up_proofs_too(self, memory) -> None:
        """A connection keeps order: a PONG that overtakes a message would prove what is not so."""
        with NearCache(memory.url, namespace="shop", max_staleness=0.2).bus as bus:
            assert bus.wait_until_leased(PATIENCE_S)
            with memory.delayed():
                wait_until(lambda: not bus.status().leased)
            wait_until(lambda: bus.status().leased)

    def test_delays_do_not_nest(self, memory) -> None:
        with memory.delayed(), pytest.raises(RuntimeError, match="delayed already"), memory.delayed():
            pass

    def test_a_cut_connection_is_made_anew(self, memory, writer, reader) -> None:
        memory.cut()
        wait_until(lambda: reader.bus.status().reconnects == 1)
        writer.invalidate("a")
        wait_until(lambda: "a" not in reader)

    def test_down_takes_nothing(self, memory, writer) -> None:
        with memory.down():
            receipt = writer.invalidate("a")
            assert not receipt.accepted
            with (
                Invalidator(memory.url, namespace="shop", publish="raise") as strict,
                pytest.raises(PublishError, match="the test has taken the server down"),
            ):
                strict.invalidate("a")
        wait_until(lambda: receipt.accepted)


class TestApart:
    def test_two_never_meet(self, memory, reader) -> None:
        with MemoryBus() as other, Invalidator(other.url, namespace="shop") as bus:
            assert bus.invalidate("a").listeners == 0
        assert "a" in reader

    def test_nothing_is_left(self) -> None:
        """A test-suite has thousands of them."""
        before = set(link._meetings)
        with MemoryBus() as memory:
            assert set(link._meetings) > before
        assert set(link._meetings) == before
        assert memory.url
