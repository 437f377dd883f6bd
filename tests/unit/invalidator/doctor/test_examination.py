"""The whole examination, on real servers that have something wrong."""

import pytest

from invalidator import Invalidator
from invalidator.config import Config
from invalidator.doctor import examination, examine
from invalidator.errors import LinkDown
from invalidator.names import redis_names
from invalidator.testing import EmbeddedServer

CONFIG = Config(namespace="shop")


class TestExamine:
    def levels(self, url: str) -> dict[str, str]:
        patient = Config(namespace="shop", max_staleness=60)  # a slow machine is no failure
        return {finding.check: finding.level for finding in examine(url, patient)}

    def test_a_good_server_is_good(self, redis_url: str) -> None:
        assert set(self.levels(redis_url).values()) == {"ok"}

    def test_nothing_is_changed(self, own_server: EmbeddedServer) -> None:
        self.levels(own_server.url)
        assert own_server.command("KEYS", "*") == []

    def test_nobody_who_listens_is_disturbed(self, redis_url: str, namespace: str) -> None:
        with Invalidator(redis_url, namespace=namespace) as bus:
            heard: list[object] = []
            bus.on_invalidate(heard.append)
            assert bus.wait_until_leased(timeout=60)
            before = bus.status()
            for _ in examine(redis_url, Config(namespace=namespace)):
                pass
            assert bus.invalidate("product:42").accepted
            after = bus.status()
            assert (after.flushes, after.refused, after.reconnects) == (before.flushes, {}, 0)

    def test_a_full_server(self, own_server: EmbeddedServer) -> None:
        own_server.command("CONFIG", "SET", "maxmemory", "100kb")
        levels = self.levels(own_server.url)
        assert (levels["eviction"], levels["rights"]) == ("warn", "fail")

    def test_a_server_that_may_evict_the_journal(self, own_server: EmbeddedServer) -> None:
        own_server.command("CONFIG", "SET", "maxmemory", "100mb")
        own_server.command("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
        assert self.levels(own_server.url)["eviction"] == "warn"

    def test_missing_replicas(self, own_server: EmbeddedServer) -> None:
        own_server.command("CONFIG", "SET", "min-replicas-to-write", "1")
        assert self.levels(own_server.url)["replicas"] == "fail"

    def test_a_key_of_somebody_else(self, own_server: EmbeddedServer) -> None:
        own_server.command("SET", redis_names("shop").journal, "mine")
        (finding,) = [found for found in examine(own_server.url, CONFIG) if found.check == "rights"]
        assert "WRONGTYPE" in finding.found
        assert "another program" in finding.repair

    def test_a_small_output_buffer(self, own_server: EmbeddedServer) -> None:
        own_server.command("CONFIG", "SET", "client-output-buffer-limit", "pubsub 1mb 1mb 1")
        assert self.levels(own_server.url)["output buffer"] == "fail"

    def test_a_replica(self, own_server: EmbeddedServer) -> None:
        own_server.command("REPLICAOF", "127.0.0.1", "1")
        levels = self.levels(own_server.url)
        assert levels["role"] == "fail"
        assert levels["rights"] == "fail"

    def test_a_server_that_stops_answering_is_told(
        self, own_server: EmbeddedServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def ended(*_: object) -> list[float]:
            raise LinkDown("cut")

        monkeypatch.setattr(examination, "measure", ended)
        assert self.levels(own_server.url)["connection"] == "fail"

    def test_silence_is_not_waited_for_for_ever(self, own_server: EmbeddedServer) -> None:
        own_server.pause()
        assert self.levels(own_server.url)["reachable"] == "fail"
