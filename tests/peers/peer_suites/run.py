"""
`python run.py WHAT`: run a peer's own tests, unmodified, against ours; print the results as JSON.

WHAT is JSON: `peer` ("cachalot" or "cacheops"), `root` (of its source distribution, unpacked), `url` (of a server),
`databases` (Django's `DATABASES`) and `excluded` (tests that are not run). It prints the fields of `reading.Tally`, and
by test `["passed" | "failed" | "skipped" | "better", why]`; better is a test that the peer expects to fail and passes.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import unittest
import warnings
from collections.abc import Iterator
from pathlib import Path

HERE = Path(__file__).resolve().parent
WHAT = json.loads(sys.argv[1])
PEER: str = WHAT["peer"]
ROOT = Path(WHAT["root"])
sys.path[0] = str(HERE)
sys.path[1:1] = [str(HERE / "adapters"), str(HERE.parent / "django_suite"), str(HERE.parents[2])]
os.chdir(ROOT)  # the tests load fixtures from there

from linking import Linked  # noqa: E402
from peers import PEERS  # noqa: E402
from results import Results  # noqa: E402

for settings in WHAT["databases"].values():
    if settings["ENGINE"] == "django.db.backends.mysql":
        import pymysql

        pymysql.install_as_MySQLdb()

Linked(ROOT, HERE / "adapters", *PEERS[PEER].linked).install()

import django  # noqa: E402
from django.conf import settings as django_settings  # noqa: E402

django_settings.configure(
    **PEERS[PEER].settings,
    DATABASES=WHAT["databases"],
    SECRET_KEY="tests",
    # A lease that outlives any pause of a loaded machine.
    INVALIDATOR={"URL": WHAT["url"], "NAMESPACE": f"peer-suite-{PEER}", "MAX_STALENESS": 60},
)
django.setup()

import flushing  # noqa: E402
import reading  # noqa: E402
from django.db import connections  # noqa: E402
from django.test import TestCase, testcases  # noqa: E402
from django.test.utils import (  # noqa: E402
    setup_databases,
    setup_test_environment,
    teardown_databases,
    teardown_test_environment,
)

from django_integration import UnknownReads, bus  # noqa: E402
from django_integration.testing import InvalidationMixin  # noqa: E402


def cases() -> Iterator[type[unittest.TestCase]]:
    """The peer's test cases. Where a test is rolled back without a message it gets a bus of its own, see `testing`."""
    for name in PEERS[PEER].tests:
        module = importlib.import_module(name)
        for kind in vars(module).values():
            if isinstance(kind, type) and issubclass(kind, unittest.TestCase) and kind.__module__ == name:
                if issubclass(kind, TestCase):
                    yield type(kind.__name__, (InvalidationMixin, kind), {"__module__": kind.__module__})
                else:
                    yield kind


def tests_of(suite: unittest.TestSuite) -> Iterator[unittest.TestCase]:
    """The tests in *suite*, without its nesting."""
    for test in suite:
        yield from tests_of(test) if isinstance(test, unittest.TestSuite) else (test,)


setup_test_environment()
suite = unittest.TestSuite(unittest.defaultTestLoader.loadTestsFromTestCase(case) for case in cases())
with reading.past_the_cache():
    old = setup_databases(verbosity=0, interactive=False)
for connection in connections.all():
    if connection.vendor == "sqlite":
        # A file, so that they do.
        connection.features.test_db_allows_multiple_connections = True
flushing.flush_quickly()
reading.count_instead(testcases._AssertNumQueriesContext)
if PEER == "cachalot":
    from cachalot.tests import test_utils  # type: ignore[import-not-found]
    from cachalot.utils import assert_tables  # type: ignore[import-not-found]

    reading.count_instead(test_utils.FilteredAssertNumQueriesContext)
    test_utils.TestUtilsMixin.assert_tables = assert_tables
# No read may be unknown.
warnings.simplefilter("error", UnknownReads)
assert bus().wait_until_leased(30)

found = list(tests_of(suite))


def starting(name: str) -> None:
    """Begin the record of a test."""
    reading.tally.test = name


results = Results(unittest.TestCase.id, starting)
unittest.TestSuite(
    test
    for test in found
    if not any(test.id() == name or test.id().startswith(f"{name}.") for name in WHAT["excluded"])
).run(results)
bus().close()
teardown_databases(old, verbosity=0)
teardown_test_environment()
tally = reading.tally
print(
    json.dumps(
        {
            "found": [test.id() for test in found],
            "ended": results.ended,
            "reads": tally.reads,
            "hits": tally.hits,
            "verified": tally.verified,
            "stale": tally.stale,
            "needless": tally.needless,
            "spared": tally.spared,
        }
    )
)
