"""
`python run.py '{"tests": …}'`: run Django's own test suite with this app installed, in this process; results as JSON.

    tests       the directory `tests` of the source distribution of the Django that runs this
    databases   Django's DATABASES
    labels      what to run, as Django's `runtests.py` takes them
    mode        "plain": without the app; "installed": with it; "recorded": with it, each test inside a recorder
    results     the file to write: by test, `["passed" | "failed" | "skipped", why]`

The tests are Django's, unmodified, and so is the way in which `runtests.py` runs them.
"""

import inspect
import json
import os
import sys
import tempfile
import unittest
import warnings
from pathlib import Path
from types import ModuleType
from typing import Any

WHAT = json.loads(sys.argv[1])
ROOT = Path(__file__).resolve().parents[3]
sys.path[:0] = [str(ROOT), WHAT["tests"], str(ROOT / "tests" / "peers" / "django_suite")]
os.chdir(WHAT["tests"])
with_app, recorded = WHAT["mode"] != "plain", WHAT["mode"] == "recorded"

settings = ModuleType("settings_of_this_run")
settings.__dict__.update(
    DATABASES=WHAT["databases"],
    SECRET_KEY="django_tests_secret_key",
    PASSWORD_HASHERS=["django.contrib.auth.hashers.MD5PasswordHasher"],
    DEFAULT_AUTO_FIELD="django.db.models.AutoField",
    USE_TZ=False,
    INVALIDATOR={"URL": "memory://django-suite", "NAMESPACE": "django-suite"},
)
sys.modules[settings.__name__] = settings
os.environ["DJANGO_SETTINGS_MODULE"] = settings.__name__
tempfile.tempdir = os.environ["TMPDIR"] = tempfile.mkdtemp(dir=Path(WHAT["results"]).parent)

import runtests  # type: ignore[import-not-found]  # noqa: E402
from django.test.runner import DiscoverRunner  # noqa: E402
from results import Results  # noqa: E402

if with_app:
    runtests.ALWAYS_INSTALLED_APPS.append("django_integration")


class SuiteResults(Results):
    """A test that is expected to fail, and does, is as it should be."""

    def addExpectedFailure(self, test: Any, err: Any) -> None:  # noqa: N802 - unittest's name
        self._end(test, "passed")


class Runner(DiscoverRunner):
    """Django's, with our results."""

    def run_suite(self, suite: Any, **_: Any) -> Any:
        results = SuiteResults(lambda test: test.id())
        suite.run(results)
        Path(WHAT["results"]).write_text(json.dumps(results.ended))
        return unittest.TestResult()


settings.__dict__["TEST_RUNNER"] = f"{__name__}.Runner"


def record_each_test() -> None:
    """Make the body of each test a loader of the default cache: what it reads is recorded as for `@cached`."""
    from django_integration import UnknownReads, cache  # noqa: PLC0415 - importing it needs the settings

    # Said of tables without a model, and of sessions. Django's suite makes errors of warnings.
    warnings.filterwarnings("ignore", category=UnknownReads)
    original = unittest.TestCase._callTestMethod  # type: ignore[attr-defined]

    def call(self: unittest.TestCase, method: Any) -> None:
        cache.get_or_set(self.id(), lambda: original(self, method))

    unittest.TestCase._callTestMethod = call  # type: ignore[attr-defined]


if recorded:
    record_each_test()
wanted = inspect.signature(runtests.django_tests).parameters
given = {
    "verbosity": 0,
    "interactive": False,
    "failfast": False,
    "keepdb": False,
    "reverse": False,
    "test_labels": WHAT["labels"],
    "debug_sql": False,
    "parallel": 1,
    "tags": [],
    "exclude_tags": ["selenium"],
    "test_name_patterns": None,
    "start_at": None,
    "start_after": None,
    "pdb": False,
    "buffer": False,
    "timing": False,
    "shuffle": False,
    "durations": None,
}
runtests.django_tests(**{name: given.get(name) for name in wanted})
