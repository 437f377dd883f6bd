"""
Which tests run together in one process, and what starts first, when several processes share them (`pytest -n 3`).

The tests of one file share fixtures, so a file is one unit of work. Files that take long are named here, and start
first, the longest ahead: what starts last decides how long the other processes wait at the end. Those of them whose
tests share nothing are cut into single tests.
"""

from __future__ import annotations

import pytest
from xdist.scheduler import LoadFileScheduling

LONG = (
    "tests/peers/test_django_suite.py",
    "tests/peers/test_peer_suites.py",
    "tests/acceptance/test_coherence.py",
    "tests/proof/torture/test_torture.py",
    "tests/acceptance/test_demo.py",
    "tests/integration/test_local_caches.py",
    "tests/integration/test_backend_processes.py",
    "tests/integration/test_sidecar_process.py",
    "tests/integration/link/test_embedded.py",
    "tests/project/test_invalidator_pytest.py",
    "tests/integration/test_cli.py",
    "tests/proof/simulation/test_worlds.py",
    "tests/proof/simulation/test_mutations.py",
    "tests/proof/values/test_values.py",
    "tests/proof/values/test_mutations.py",
    "tests/integration/test_workers.py",
)
"""Files that take long, in the order in which they start."""

CUT = frozenset(
    {
        "tests/acceptance/test_demo.py",
        "tests/peers/test_peer_suites.py",
        "tests/project/test_invalidator_pytest.py",
        "tests/proof/simulation/test_worlds.py",
        "tests/proof/torture/test_torture.py",
        "tests/proof/values/test_mutations.py",
    }
)
"""Files whose tests share no fixture that is dear to make: each test is a unit of its own."""


def path_of(nodeid: str) -> str:
    """The file of a test."""
    return nodeid.partition("::")[0]


def unit_of(nodeid: str) -> str:
    """What runs in one process: the test's file, or the test alone."""
    path = path_of(nodeid)
    return nodeid if path in CUT else path


def place_of(nodeid: str) -> int:
    """Where a test starts: tests of long files have places ahead of all others."""
    path = path_of(nodeid)
    return LONG.index(path) if path in LONG else len(LONG)


class Scheduling(LoadFileScheduling):
    """`--dist=loadfile`, with the exceptions above."""

    def __init__(self, config: pytest.Config, log: object = None) -> None:
        config.option.loadscopereorder = False  # it would put files of many tests first, which are quick
        super().__init__(config, log)

    def _split_scope(self, nodeid: str) -> str:
        return unit_of(nodeid)
