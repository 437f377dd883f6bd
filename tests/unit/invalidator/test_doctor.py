"""`invalidator doctor`: each check on made-up facts, and the whole on real servers that have something wrong."""

import json
import re
from pathlib import Path

import pytest

from invalidator import Invalidator, cli, doctor
from invalidator.config import Config
from invalidator.doctor import Finding
from invalidator.errors import LinkDown
from invalidator.ledger_file import writing
from invalidator.names import redis_names
from invalidator.testing import EmbeddedServer

CONFIG = Config(namespace="shop")
PROTOCOL = Path(__file__).parents[3] / "docs" / "wire-protocol.md"
S = 1_000_000_000


class TestHost:
    @pytest.mark.parametrize(
        ("installed", "level"), [("3.5.0", "ok"), ("3.10.1", "ok"), ("4.0", "ok"), ("3.4.9", "fail"), ("", "fail")]
    )
    def test_an_old_hiredis_leaks(self, installed: str, level: str) -> None:
        finding = doctor.check_hiredis(installed)
        assert finding.level == level
        assert level == "ok" or "hiredis>=3.5.0" in finding.repair

    @pytest.mark.parametrize(
        ("source", "is_shifted", "level"),
        [("tsc", False, "ok"), ("", False, "ok"), ("hpet", False, "warn"), ("tsc", True, "fail")],
    )
    def test_a_clock_may_be_slow_or_another_than_the_workers(self, source: str, is_shifted: bool, level: str) -> None:
        finding = doctor.check_clock(source, is_shifted, "linux")
        assert finding.level == level
        assert bool(finding.repair) == (level != "ok")

    @pytest.mark.parametrize(
        ("free", "kind", "level"), [(2**30, "tmpfs", "ok"), (2**30, "ext4", "warn"), (100_000, "tmpfs", "fail")]
    )
    def test_a_ledger_must_fit_into_memory(self, free: int, kind: str, level: str, tmp_path: Path) -> None:
        finding = doctor.check_room(tmp_path / "ledger", free, 8_389_120, kind)
        assert finding.level == level
        if level == "fail":
            found = re.search(r"--slots (\d+)", finding.repair)
            assert found
            assert 8 * int(found[1]) <= free

    @pytest.mark.parametrize(("proven_at", "level"), [(99 * S, "ok"), (90 * S, "warn"), (0, "warn")])
    def test_a_sidecar_may_be_dead(self, proven_at: int, level: str, tmp_path: Path) -> None:
        assert doctor.check_lease(tmp_path / "ledger", proven_at, 100 * S, CONFIG).level == level

    def test_no_sidecar_is_fine_unless_one_was_named(self, tmp_path: Path) -> None:
        for is_default, level in ((True, "ok"), (False, "fail")):
            _, finding = doctor.check_ledger(tmp_path / "ledger", CONFIG, slots=1024, is_default=is_default)
            assert finding.level == level

    def test_no_place_for_a_ledger(self, tmp_path: Path) -> None:
        (finding,) = doctor.check_ledger(tmp_path / "none" / "ledger", CONFIG, slots=1024, is_default=False)
        assert finding.level == "fail"

    def test_a_ledger_that_workers_refuse(self, tmp_path: Path) -> None:
        (tmp_path / "ledger").write_bytes(bytes(4096))
        _, finding = doctor.check_ledger(tmp_path / "ledger", CONFIG, slots=1024, is_default=False)
        assert finding.level == "fail"
        assert "does not fit" in finding.found

    def test_the_lease_of_a_ledger_is_read_from_it(self, tmp_path: Path) -> None:
        path = tmp_path / "ledger"
        with writing(path, namespace="shop", slots=1024):
            _, finding = doctor.check_ledger(path, CONFIG, slots=1024, is_default=False)
        assert (finding.level, "never proven" in finding.found) == ("warn", True)


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
        assert doctor.check_version(info).level == level

    def test_a_replica_names_its_primary(self) -> None:
        finding = doctor.check_role({"role": "slave", "master_host": "10.0.0.1", "master_port": "6379"})
        assert finding.level == "fail"
        assert "10.0.0.1:6379" in finding.repair

    def test_a_cluster_is_refused(self) -> None:
        assert doctor.check_role({"role": "master", "cluster_enabled": "1"}).level == "fail"

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
        assert doctor.check_output_buffer(limit).level == level

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
        finding = doctor.check_eviction(info)
        assert finding.level == level
        assert bool(finding.repair) == (level == "warn")

    @pytest.mark.parametrize(
        ("replicas", "setting", "level"),
        [("0", "0", "ok"), ("2", "1", "ok"), ("2", "0", "warn"), ("0", "1", "fail"), ("2", None, "warn")],
    )
    def test_replicas(self, replicas: str, setting: str | None, level: str) -> None:
        assert doctor.check_replicas({"connected_slaves": replicas}, setting).level == level

    @pytest.mark.parametrize(("p50", "p99", "level"), [(0.001, 0.01, "ok"), (0.01, 0.4, "warn"), (0.7, 0.9, "fail")])
    def test_a_proof_must_come_before_the_next_is_asked_for(self, p50: float, p99: float, level: str) -> None:
        assert doctor.check_latency([p50] * 98 + [p99] * 2, CONFIG).level == level

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
        finding = doctor.check_reachable("redis://me:hunter2@db.example:7000/0", error)
        assert finding.level == "fail"
        assert repair in finding.repair
        assert "db.example:7000" in finding.found
        assert "hunter2" not in json.dumps(finding.as_dict())

    def test_every_trouble_names_its_repair(self) -> None:
        for text in ("WRONGTYPE x", "OOM x", "NOREPLICAS x", "READONLY x", "MISCONF x", "something new"):
            finding = doctor.check_rights({"xadd": text}, "default", "shop")
            assert finding.level == "fail"
            assert finding.repair


def test_the_repair_of_rights_is_what_the_protocol_documents() -> None:
    (documented,) = re.findall(r"^ACL SETUSER .*-@all (.*)$", PROTOCOL.read_text(), re.MULTILINE)
    assert set(documented.split()) == {f"+{command}" for command in doctor.COMMANDS.split()}


class TestRights:
    """On a real server, with a user who has the least rights, less one."""

    @pytest.fixture
    def user(self, own_server: EmbeddedServer) -> str:
        words = doctor.acl_command("worker", "shop").split()
        own_server.command(*words, "on", ">secret")
        return own_server.url.replace("redis://", "redis://worker:secret@")

    def rights(self, url: str) -> Finding:
        (finding,) = [found for found in doctor.examine(url, CONFIG) if found.check == "rights"]
        return finding

    def test_the_least_are_enough(self, user: str) -> None:
        assert self.rights(user).level == "ok"
        with Invalidator(user, namespace="shop", publish="raise") as bus:
            assert bus.wait_until_leased(timeout=60)
            assert bus.invalidate("product:42").accepted

    @pytest.mark.parametrize("command", [*doctor.SCRIPT_COMMANDS, "get", "xrange", "zrange", "eval", "evalsha"])
    def test_each_that_is_missing_is_named(self, command: str, user: str, own_server: EmbeddedServer) -> None:
        own_server.command("ACL", "SETUSER", "worker", f"-{command}")
        finding = self.rights(user)
        assert finding.level == "fail"
        assert command in finding.found
        # What it says to do is what has to be done.
        own_server.command(*finding.repair.split())
        assert self.rights(user).level == "ok"

    @pytest.mark.parametrize("what", ["-subscribe", "-script", "resetchannels", "resetkeys"])
    def test_so_are_channels_and_keys(self, what: str, user: str, own_server: EmbeddedServer) -> None:
        own_server.command("ACL", "SETUSER", "worker", what)
        finding = self.rights(user)
        assert finding.level == "fail"
        own_server.command(*finding.repair.split())
        assert self.rights(user).level == "ok"

    @pytest.mark.parametrize("command", doctor.HELPFUL)
    def test_what_we_can_do_without_is_a_warning(self, command: str, user: str, own_server: EmbeddedServer) -> None:
        own_server.command("ACL", "SETUSER", "worker", f"-{command}")
        finding = self.rights(user)
        assert (finding.level, finding.means) == ("warn", doctor.HELPFUL[command])

    def test_a_wrong_password_is_told(self, user: str) -> None:
        *_, finding = doctor.examine(user.replace("secret", "wrong"), CONFIG)
        assert (finding.check, finding.level) == ("reachable", "fail")
        assert "redis://user:password@" in finding.repair


class TestExamine:
    def levels(self, url: str) -> dict[str, str]:
        patient = Config(namespace="shop", max_staleness=60)  # a slow machine is no failure
        return {finding.check: finding.level for finding in doctor.examine(url, patient)}

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
            for _ in doctor.examine(redis_url, Config(namespace=namespace)):
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
        (finding,) = [found for found in doctor.examine(own_server.url, CONFIG) if found.check == "rights"]
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

        monkeypatch.setattr(doctor, "measure", ended)
        assert self.levels(own_server.url)["connection"] == "fail"

    def test_silence_is_not_waited_for_for_ever(self, own_server: EmbeddedServer) -> None:
        own_server.pause()
        assert self.levels(own_server.url)["reachable"] == "fail"


class TestCommandLine:
    @pytest.fixture
    def place(self, redis_url: str, namespace: str) -> list[str]:
        # A bound that a slow machine keeps as well.
        return ["--url", redis_url, "--namespace", namespace, "doctor", "--max-staleness", "60"]

    def test_all_is_well(self, place: list[str], capsys: pytest.CaptureFixture[str]) -> None:
        assert cli.main(place) == 0
        said = capsys.readouterr()
        assert said.err == ""
        assert {line.split()[0] for line in said.out.splitlines()} == {"ok", "means:"}

    def test_a_failure_is_1_and_names_the_repair(
        self, place: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert cli.main([*place, "--path", str(tmp_path / "ledger")]) == 1
        said = capsys.readouterr()
        assert said.err == "invalidator: failed: sidecar\n"
        lines = said.out.splitlines()
        at = next(index for index, line in enumerate(lines) if line.startswith("fail  sidecar: "))
        assert lines[at + 1].startswith("      means: ")
        assert lines[at + 2].startswith("      repair: invalidator sidecar ")

    def test_a_server_in_memory_is_misuse(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert cli.main(["--url", "memory://", "--namespace", "shop", "doctor"]) == 2
        assert "nothing to look at" in capsys.readouterr().err

    def test_as_json(self, place: list[str], capsys: pytest.CaptureFixture[str]) -> None:
        assert cli.main([*place, "--json"]) == 0
        said = json.loads(capsys.readouterr().out)
        assert said["ok"] is True
        assert {"check", "level", "found", "means", "repair"} == set(said["findings"][0])

    def test_as_json_with_a_failure(self, place: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert cli.main([*place, "--json", "--path", str(tmp_path / "ledger")]) == 1
        assert json.loads(capsys.readouterr().out)["ok"] is False
