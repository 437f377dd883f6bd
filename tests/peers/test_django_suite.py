"""
Django's own tests of cache backends, unmodified, from its source distribution: our backend passes them.

pip downloads the distribution once, into pytest's cache.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import django
import pytest

from invalidator.testing import EmbeddedServer
from tests.peers.sdists import sdist

RUN = Path(__file__).parent / "django_suite" / "run.py"
CASES = ("AloneTests", "DeepTests", "OnRedisTests", "OnLocMemTests")

CULLING = {"test_cull", "test_zero_cull", "test_cull_delete_when_store_empty"}
NOT_FOR = {
    "AloneTests": set[str](),
    # They give their alias other OPTIONS, without {"COPY": "deep"}.
    "DeepTests": CULLING,
    # The second level bounds the number of values. Django's tests of RedisCache leave these tests out, too.
    "OnRedisTests": CULLING,
    "OnLocMemTests": CULLING,
}
"""By case, the tests that do not apply. They skip themselves where their alias is not configured."""


@pytest.fixture(scope="session")
def django_tests(pytestconfig: pytest.Config) -> Path:
    """The directory `tests` of the source distribution of the Django that is installed."""
    return sdist(pytestconfig, "django", django.__version__, part="/tests/cache/") / "tests"


@pytest.fixture(scope="session")
def results(django_tests: Path, server: EmbeddedServer) -> dict[str, dict[str, tuple[str, str]]]:
    """The outcome by case and test. The cases run in parallel: they sleep most of the time."""
    runs = {
        case: subprocess.Popen(
            [sys.executable, RUN, django_tests, server.url, case], stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        for case in CASES
    }
    ended = {}
    for case, run in runs.items():
        out, errors = run.communicate()
        assert run.returncode == 0, errors.decode()
        ended[case] = json.loads(out.splitlines()[-1])
    return ended


@pytest.mark.parametrize("case", CASES)
def test_django_s_own_tests_pass(case: str, results: dict[str, dict[str, tuple[str, str]]]) -> None:
    outcomes = results[case]
    assert len(outcomes) >= 54
    wrong = {test: why for test, (outcome, why) in outcomes.items() if outcome == "failed"}
    assert not wrong, "\n".join(wrong.values())
    assert {test for test, (outcome, _) in outcomes.items() if outcome == "skipped"} == NOT_FOR[case]
