"""
The tests of django-cachalot and of django-cacheops, from their source distributions, unmodified, against ours.

Their scenarios read, write and read again: the second read must be fresh. An adapter replaces each package
(`peer_suites/adapters`): the same queries go through `cache.get_or_set`, which records what they read. Besides the
tests' own assertions, every read is compared with the database (`peer_suites/reading.py`).

Assertions about numbers of queries do not fail here, because our invalidations may be coarser or finer than the peer's.
Queries beyond the expected number are counted, and printed at the end (`-rP` shows them).

`make test` runs them on SQLite; `INVALIDATOR_TEST_DATABASE=postgresql` (or `mariadb`), in minutes, on the others.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from invalidator.testing import EmbeddedServer
from tests.databases.chosen import chosen, databases, start
from tests.peers.sdists import sdist

RUN = Path(__file__).parent / "peer_suites" / "run.py"

VERSIONS = {"cachalot": "2.9.1", "cacheops": "7.2"}
SECOND_ALIAS = {"cachalot": "other", "cacheops": "slave"}

EXCLUDED = {
    "cachalot": {
        "expects a stale read: of what SQL has written while cachalot's setting made it ignore SQL": (
            "cachalot.tests.api.APITestCase.test_invalidate_tables",
            "cachalot.tests.api.APITestCase.test_invalidate_models_lookups",
            "cachalot.tests.api.APITestCase.test_invalidate_models",
            "cachalot.tests.settings.SettingsTestCase.test_invalidate_raw",
        ),
        "reads a table without a model: ours warns, because it cannot know which writes change it": (
            "cachalot.tests.read.ReadTestCase.test_unicode_table_name",
        ),
        "the time of the last invalidation, and tags for templates that use it: a ledger's times are its host's own": (
            "cachalot.tests.api.APITestCase.test_get_last_invalidation",
            "cachalot.tests.api.APITestCase.test_get_last_invalidation_template_tag",
            "cachalot.tests.api.APITestCase.test_get_last_invalidation_jinja2",
            "cachalot.tests.api.APITestCase.test_cache_jinja2",
        ),
        "compares query plans of the database, whose times differ": ("cachalot.tests.read.ReadTestCase.test_explain",),
        "depends on how cachalot stores what it caches": (
            "cachalot.tests.read.ReadTestCase.test_missing_table_cache_key",
            "cachalot.tests.read.ReadTestCase.test_broken_query_cache_value",
            "cachalot.tests.transaction.AtomicCacheTestCase",
        ),
        "cachalot's signal carries tables and databases: ours, `invalidated`, carries names": (
            "cachalot.tests.signals",
        ),
        "which tables, databases and caches cachalot's settings choose, its checks of them, its time-out": (
            "cachalot.tests.settings.SettingsTestCase.test_cache",
            "cachalot.tests.settings.SettingsTestCase.test_cache_compatibility",
            "cachalot.tests.settings.SettingsTestCase.test_cache_timeout",
            "cachalot.tests.settings.SettingsTestCase.test_cachalot_final_sql_check_when_false",
            "cachalot.tests.settings.SettingsTestCase.test_cachalot_final_sql_check_when_true",
            "cachalot.tests.settings.SettingsTestCase.test_database_compatibility",
            "cachalot.tests.settings.SettingsTestCase.test_databases",
            "cachalot.tests.settings.SettingsTestCase.test_only_cachable_and_uncachable_table",
            "cachalot.tests.settings.SettingsTestCase.test_only_cachable_apps",
            "cachalot.tests.settings.SettingsTestCase.test_only_cachable_apps_set_combo",
            "cachalot.tests.settings.SettingsTestCase.test_only_cachable_tables",
            "cachalot.tests.settings.SettingsTestCase.test_uncachable_apps",
            "cachalot.tests.settings.SettingsTestCase.test_uncachable_apps_set_combo",
            "cachalot.tests.settings.SettingsTestCase.test_uncachable_tables",
            "cachalot.tests.settings.SettingsTestCase.test_uncachable_unmanaged_table",
        ),
    },
    "cacheops": {
        "writes that are not published, on purpose": ("tests.test_extras.NoInvalidationTests",),
        "mocks cacheops' own functions, or its Redis": (
            "tests.tests.IssueTests.test_430",
            "tests.tests.MultiDBInvalidationTests.test_m2m_changed_call_invalidate",
            "tests.test_extras.LockingTests",
        ),
        "how cacheops pickles; ours keeps objects": ("tests.tests.IssueTests.test_385",),
        "saves a row without its not-null column, and so expects to fail": ("tests.tests.MultitableInheritanceTests",),
        "cacheops' signal carries the columns of rows: ours, `invalidated`, carries names": (
            "tests.test_extras.SignalsTests.test_invalidation_signal",
        ),
        "cacheops' own callbacks after a commit": (
            "tests.tests_transactions.TransactionSupportTests.test_call_cacheops_cbs_before_on_commit_cbs",
        ),
        "how cacheops spreads keys over servers": (
            "tests.tests_sharding.PrefixTests.test_context",
            "tests.tests_sharding.PrefixTests.test_table",
            "tests.tests_sharding.SimpleCacheTests.test_prefix",
        ),
    },
}
"""
By peer and reason, the tests that are not run; the name of a class or module means all tests in it.

Modules that are not loaded: cachalot's tests of its panel for django-debug-toolbar; cacheops' `test_low_level`, which
looks into its Redis, and `bench`.
"""

EXCLUDED_ON_MARIADB = {
    "cachalot": {
        "how MariaDB orders UUIDs": ("cachalot.tests.read.ParameterTypeTestCase.test_uuid",),
    },
    "cacheops": {
        "expects a hit where a collation decides which texts are equal: there every write to the table invalidates": (
            "tests.tests.DecoratorTests.test_cached_as_cond",
        ),
    },
}

LEAST_RUN = {"cachalot": 145, "cacheops": 135}
LEAST_READS = {"cachalot": 800, "cacheops": 250}
LEAST_HITS = {"cachalot": 300, "cacheops": 29}
"""A little less than was reached: a suite that hardly runs any more must fail."""


def excluded(peer: str) -> dict[str, tuple[str, ...]]:
    """By reason, the tests that are not run on the database of this run."""
    return {**EXCLUDED[peer], **(EXCLUDED_ON_MARIADB[peer] if chosen() == "mariadb" else {})}


def run(peer: str, root: Path, server: EmbeddedServer) -> dict[str, Any]:
    """Run the suite, and return what run.py prints."""
    start()
    places = databases(f"{peer}_1", f"{peer}_2")
    what = {
        "peer": peer,
        "root": str(root),
        "url": server.url,
        "databases": {"default": places[f"{peer}_1"], SECOND_ALIAS[peer]: places[f"{peer}_2"]},
        "excluded": [name for names in excluded(peer).values() for name in names],
    }
    # cacheops' models have arrays where the database does.
    environment = {**os.environ, "CACHEOPS_DB": chosen()}
    ran = subprocess.run([sys.executable, RUN, json.dumps(what)], capture_output=True, env=environment, check=False)
    assert ran.returncode == 0, ran.stderr.decode()
    report: dict[str, Any] = json.loads(ran.stdout.splitlines()[-1])
    return report


def summary(peer: str, report: dict[str, Any]) -> str:
    """The report in text."""
    outcomes = [outcome for outcome, _ in report["ended"].values()]
    skipped, stale = outcomes.count("skipped"), len(report["stale"])
    lines = [
        f"{peer} {VERSIONS[peer]} on {chosen()}: {len(outcomes) - skipped} tests run, {skipped} skip themselves",
        f"{len(report['found']) - len(outcomes)} tests excluded, see below",
        f"{report['reads']} reads, {report['hits']} hits",
        f"{report['verified']} reads compared with the database, {stale} stale",
        f"{sum(report['needless'].values())} needless voids, {report['spared']} queries spared",
        *(f"  needless in {test}: {number}" for test, number in report["needless"].items()),
        *(f"  not run: {', '.join(names)}: {reason}" for reason, names in excluded(peer).items()),
    ]
    return "\n".join(lines)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("peer", VERSIONS)
def test_what_others_wrote_is_fresh(peer: str, pytestconfig: pytest.Config, server: EmbeddedServer) -> None:
    root = sdist(pytestconfig, f"django-{peer}", VERSIONS[peer])
    report = run(peer, root, server)
    print(summary(peer, report))

    assert not report["stale"], "\n".join(report["stale"])
    wrong = {test: why for test, (outcome, why) in report["ended"].items() if outcome == "failed"}
    assert not wrong, "\n".join(f"{test}: {why}" for test, why in wrong.items())
    # Every read was compared, except in a transaction that the database had aborted.
    assert report["reads"] - report["verified"] <= 1
    for name in (name for names in excluded(peer).values() for name in names):
        assert any(test == name or test.startswith(f"{name}.") for test in report["found"]), f"there is no {name}"
    ran = [test for test, (outcome, _) in report["ended"].items() if outcome != "skipped"]
    assert len(ran) >= LEAST_RUN[peer]
    assert report["reads"] >= LEAST_READS[peer]
    assert report["hits"] >= LEAST_HITS[peer]
