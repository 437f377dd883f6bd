"""Checks of the server, on made-up facts."""

import json
import re
from pathlib import Path

import pytest

from invalidator.config import Config
from invalidator.doctor import server

CONFIG = Config(namespace="shop")
PROTOCOL = Path(__file__).parents[4] / "docs" / "wire-protocol.md"


class TestServer:
    @pytest.mark.parametrize(
        ("info", "level"),
        [
            ({"redis_version": "7.2.4", "valkey_version": "9.1.2"}, "ok"),
            ({"redis_version": "6.2.0"}, "ok"),
            ({"redis_version": "6.0.16"}, "fail"),
            ({"redis_version": "5.0.14"}, "fail"),
        ],
    )
    def test_version(self, info: dict[str, str], level: str) -> None:
        assert server.check_version(info).level == level

    def test_a_replica_names_its_primary(self) -> None:
        finding = server.check_role({"role": "slave", "master_host": "10.0.0.1", "master_port": "6379"})
        assert finding.level == "fail"
        assert "10.0.0.1:6379" in finding.repair

    def test_a_cluster_is_refused(self) -> None:
        assert server.check_role({"role": "master", "cluster_enabled": "1"}).level == "fail"

    @pytest.mark.parametrize(
        ("limit", "level"),
        [
            ("normal 0 0 0 slave 268435456 67108864 60 pubsub 33554432 8388608 60", "ok"),
            ("pubsub 0 0 0", "warn"),
            ("pubsub 1048576 0 0", "fail"),
            ("pubsub 33554432 1048576 1", "fail"),
            (None, "warn"),
        ],
    )
    def test_a_subscriber_needs_room_for_a_page_of_the_journal(self, limit: str | None, level: str) -> None:
        assert server.check_output_buffer(limit).level == level

    @pytest.mark.parametrize(
        ("maxmemory", "policy", "used", "level"),
        [
            (0, "allkeys-lru", 1, "ok"),
            (100, "noeviction", 50, "ok"),
            (100, "noeviction", 95, "warn"),
            (100, "volatile-lru", 50, "ok"),
            (100, "allkeys-lru", 50, "warn"),
        ],
    )
    def test_eviction(self, maxmemory: int, policy: str, used: int, level: str) -> None:
        info = {"maxmemory": str(maxmemory), "maxmemory_policy": policy, "used_memory": str(used)}
        finding = server.check_eviction(info)
        assert finding.level == level
        assert bool(finding.repair) == (level == "warn")

    @pytest.mark.parametrize(
        ("replicas", "setting", "level"),
        [("0", "0", "ok"), ("2", "1", "ok"), ("2", "0", "warn"), ("0", "1", "fail"), ("2", None, "warn")],
    )
    def test_replicas(self, replicas: str, setting: str | None, level: str) -> None:
        assert server.check_replicas({"connected_slaves": replicas}, setting).level == level

    @pytest.mark.parametrize(("p50", "p99", "level"), [(0.001, 0.01, "ok"), (0.01, 0.4, "warn"), (0.7, 0.9, "fail")])
    def test_a_proof_must_come_before_the_next_is_asked_for(self, p50: float, p99: float, level: str) -> None:
        assert server.check_latency([p50] * 98 + [p99] * 2, CONFIG).level == level

    @pytest.mark.parametrize(
        ("error", "repair"),
        [
            ("ConnectionError: Error 111 connecting to h:1. Connection refused.", "start the server"),
            ("AuthenticationError: invalid username-password pair or user is disabled.", "redis://user:password@"),
            ("ResponseError: unknown command `HELLO`", "upgrade"),
            ("ConnectionError: [SSL: CERTIFICATE_VERIFY_FAILED]", "rediss://"),
        ],
    )
    def test_an_unreachable_server_keeps_the_password(self, error: str, repair: str) -> None:
        finding = server.check_reachable("redis://me:hunter2@db.example:7000/0", error)
        assert finding.level == "fail"
        assert repair in finding.repair
        assert "db.example:7000" in finding.found
        assert "hunter2" not in json.dumps(finding.as_dict())

    def test_every_trouble_names_its_repair(self) -> None:
        for text in ("WRONGTYPE x", "OOM x", "NOREPLICAS x", "READONLY x", "MISCONF x", "something new"):
            finding = server.check_rights({"xadd": text}, "default", "shop")
            assert finding.level == "fail"
            assert finding.repair


def test_the_repair_of_rights_is_what_the_protocol_documents() -> None:
    (documented,) = re.findall(r"^ACL SETUSER .*-@all (.*)$", PROTOCOL.read_text(), re.MULTILINE)
    assert set(documented.split()) == {f"+{command}" for command in server.COMMANDS.split()}
