"""Checks of the host, on made-up facts."""

import re
from pathlib import Path

import pytest

from invalidator.config import Config
from invalidator.doctor import host
from invalidator.ledger.file import writing

CONFIG = Config(namespace="shop")
S = 1_000_000_000


class TestHost:
    @pytest.mark.parametrize(
        ("installed", "level"), [("3.5.0", "ok"), ("3.10.1", "ok"), ("4.0", "ok"), ("3.4.9", "fail"), ("", "fail")]
    )
    def test_an_old_hiredis_leaks(self, installed: str, level: str) -> None:
        finding = host.check_hiredis(installed)
        assert finding.level == level
        assert level == "ok" or "hiredis>=3.5.0" in finding.repair

    @pytest.mark.parametrize(
        ("source", "is_shifted", "level"),
        [("tsc", False, "ok"), ("", False, "ok"), ("hpet", False, "warn"), ("tsc", True, "fail")],
    )
    def test_a_clock_may_be_slow_or_another_than_the_workers(self, source: str, is_shifted: bool, level: str) -> None:
        finding = host.check_clock(source, is_shifted, "linux")
        assert finding.level == level
        assert bool(finding.repair) == (level != "ok")

    @pytest.mark.parametrize(
        ("free", "kind", "level"), [(2**30, "tmpfs", "ok"), (2**30, "ext4", "warn"), (100_000, "tmpfs", "fail")]
    )
    def test_a_ledger_must_fit_into_memory(self, free: int, kind: str, level: str, tmp_path: Path) -> None:
        finding = host.check_room(tmp_path / "ledger", free, 8_389_120, kind)
        assert finding.level == level
        if level == "fail":
            found = re.search(r"--slots (\d+)", finding.repair)
            assert found
            assert 8 * int(found[1]) <= free

    @pytest.mark.parametrize(("proven_at", "level"), [(99 * S, "ok"), (90 * S, "warn"), (0, "warn")])
    def test_a_sidecar_may_be_dead(self, proven_at: int, level: str, tmp_path: Path) -> None:
        assert host.check_lease(tmp_path / "ledger", proven_at, 100 * S, CONFIG).level == level

    def test_no_sidecar_is_fine_unless_one_was_named(self, tmp_path: Path) -> None:
        for is_default, level in ((True, "ok"), (False, "fail")):
            _, finding = host.check_ledger(tmp_path / "ledger", CONFIG, slots=1024, is_default=is_default)
            assert finding.level == level

    def test_no_place_for_a_ledger(self, tmp_path: Path) -> None:
        (finding,) = host.check_ledger(tmp_path / "none" / "ledger", CONFIG, slots=1024, is_default=False)
        assert finding.level == "fail"

    def test_a_ledger_that_workers_refuse(self, tmp_path: Path) -> None:
        (tmp_path / "ledger").write_bytes(bytes(4096))
        _, finding = host.check_ledger(tmp_path / "ledger", CONFIG, slots=1024, is_default=False)
        assert finding.level == "fail"
        assert "does not fit" in finding.found

    def test_the_lease_of_a_ledger_is_read_from_it(self, tmp_path: Path) -> None:
        path = tmp_path / "ledger"
        with writing(path, namespace="shop", slots=1024):
            _, finding = host.check_ledger(path, CONFIG, slots=1024, is_default=False)
        assert (finding.level, "never proven" in finding.found) == ("warn", True)
