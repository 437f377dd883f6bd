"""The local caches of Django's sites and content types, of django-waffle and django-constance, in real processes."""

from __future__ import annotations

import json
import shutil
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from invalidator import Config
from invalidator.sidecar.daemon import Sidecar
from invalidator.testing import EmbeddedServer
from tests.integration.node import Node
from tests.support import wait_until

SCRIPT = Path(__file__).parent / "local_caches_node.py"
DATABASE, REDIS = "constance.backends.database.DatabaseBackend", "constance.backends.redisd.CachingRedisBackend"

OLD_AND_NEW = {
    "site": ("example.com", "new"),
    "host": ("shop", "new"),
    "type": ("old", "new"),
    "switch": (False, True),
    "switches": (["switch"], ["switch", "another"]),
    "sample": (False, True),
    "flag": (False, True),
    "flag of one": (True, False),
    "config": ("hello", "new"),
    "config not set": (10, 20),
}

Start = Callable[..., list[Node]]


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory, server: EmbeddedServer) -> Path:
    """A database with tables and rows, for tests to copy: to make one takes longer than to start a server."""
    path = tmp_path_factory.mktemp("rows") / "db.sqlite3"
    node = Node(SCRIPT, server.url, f"rows-{uuid.uuid4().hex}", str(path), "", "auto", DATABASE)
    node("make rows")
    node.close()
    return path


@pytest.fixture
def start(tmp_path: Path, rows: Path, own_server: EmbeddedServer, namespace: str) -> Iterator[Start]:
    """Start servers on one database."""
    started: list[Node] = []

    def start(
        servers: int = 3, *, ledger: Path | str = "", local_caches: str = "auto", constance: str = DATABASE
    ) -> list[Node]:
        database = shutil.copyfile(rows, tmp_path / "db.sqlite3")
        common = (own_server.url, namespace, str(database), str(ledger), local_caches, constance)
        started.extend(Node(SCRIPT, *common) for _ in range(servers))
        assert Node.all_leased(started)
        return started

    yield start
    for node in started:
        node.close()


def read_until_cached(nodes: list[Node], name: str) -> None:
    """Wait until every node reads the old value without a query."""
    for node in nodes:
        wait_until(lambda node=node: node("read", name) == [OLD_AND_NEW[name][0], 0])


@pytest.mark.parametrize("constance", [DATABASE, REDIS])
def test_what_one_server_changes_the_others_see(start: Start, constance: str) -> None:
    a, *others = start(constance=constance)
    for name, (_, new) in OLD_AND_NEW.items():
        if name == "flag of one":
            continue  # the same flag as "flag": a test of its own
        read_until_cached([a, *others], name)
        a("change", name)
        assert a("read", name)[0] == new
        for node in others:
            wait_until(lambda node=node, name=name, new=new: node("read", name) == [new, 0])


def test_what_waffle_itself_does_not_flush_is_seen_too(start: Start) -> None:
    """`flag.users.clear()`. (The test above has `QuerySet.update()` of a sample.)"""
    a, b, c = start()
    read_until_cached([a, b, c], "flag of one")
    a("change", "flag of one")
    for node in (a, b, c):
        wait_until(lambda node=node: node("read", "flag of one")[0] is False)


def test_without_the_setting_the_others_go_on_with_the_old(start: Start) -> None:
    """The problem that the setting solves; it shows that these tests can fail."""
    a, b = start(2, local_caches="[]", constance=REDIS)
    for name in ("site", "host", "type", "switch", "config"):
        read_until_cached([a, b], name)
        a("change", name)
    a("change", "sample")
    assert [b("read", name)[0] for name in ("site", "host", "type", "switch", "config")] == [
        OLD_AND_NEW[name][0] for name in ("site", "host", "type", "switch", "config")
    ]


def test_only_what_the_setting_names_is_touched(start: Start) -> None:
    a, b = start(2, local_caches=json.dumps(["sites"]))
    for name in ("site", "type"):
        read_until_cached([a, b], name)
        a("change", name)
    wait_until(lambda: b("read", "site")[0] == "new")
    assert b("read", "type")[0] == "old"


@pytest.mark.parametrize("constance", [DATABASE, REDIS])
def test_while_redis_is_away_nothing_old_outlives_the_bound(
    start: Start, own_server: EmbeddedServer, constance: str
) -> None:
    """No message arrives: old values end with the lease. (What constance keeps in this Redis is not changed.)"""
    a, b, c = start(constance=constance)
    names = [name for name in OLD_AND_NEW if not name.startswith(("config", "flag of")) or constance == DATABASE]
    names.remove("flag")
    for name in names:
        read_until_cached([a, b, c], name)
    own_server.stop()
    for name in names:
        a("change", name)
    for node in (b, c):
        for name in names:
            wait_until(lambda node=node, name=name: node("read", name)[0] == OLD_AND_NEW[name][1])


def test_in_a_sidecars_workers(start: Start, tmp_path: Path, own_server: EmbeddedServer, namespace: str) -> None:
    """They receive no messages; the sidecar's ledger shows them what is stale."""
    ledger = tmp_path / "ledger"
    sidecar = Sidecar(own_server.url, [Config(namespace=namespace, max_staleness=2)], {namespace: ledger})
    sidecar.start()
    try:
        assert sidecar.served[0].wait_until_leased(30)
        a, *others = start(ledger=ledger)
        assert {node("listener") for node in (a, *others)} == {"sidecar"}
        for name, (_, new) in OLD_AND_NEW.items():
            if name == "flag of one":
                continue
            read_until_cached([a, *others], name)
            a("change", name)
            for node in (a, *others):
                wait_until(lambda node=node, name=name, new=new: node("read", name)[0] == new)
    finally:
        sidecar.close()


def test_what_a_transaction_reads_of_its_own_change_is_not_kept(start: Start) -> None:
    """It is rolled back, and nothing is published."""
    (a,) = start(1)
    for name, (old, new) in OLD_AND_NEW.items():
        if name != "flag of one":  # the same flag as "flag"
            assert a("roll back", name) == new
            assert a("read", name)[0] == old


def test_what_the_packages_offer_goes_on_working(start: Start) -> None:
    (a,) = start(1)
    assert a("use what they offer") == []
