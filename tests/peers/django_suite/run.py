"""
`python run.py TESTS URL CASE`: run Django's own tests of cache backends, unmodified, against ours; results as JSON.

TESTS is the directory `tests` of Django's source distribution, URL that of a Redis server, CASE a class below. The
results are, by test, `["passed" | "failed" | "skipped", why]`.
"""

import json
import sys
import unittest
from pathlib import Path
from typing import Any

TESTS, URL, CASE = sys.argv[1:]
ROOT = Path(__file__).resolve().parents[3]
sys.path[:0] = [str(ROOT), TESTS]
OURS = "django_integration.backend.NearCacheBackend"
L2_URL = f"{URL.rpartition('/')[0]}/1"

import django  # noqa: E402
import redis  # noqa: E402
from django.conf import settings  # noqa: E402

settings.configure(
    SECRET_KEY="tests",
    USE_TZ=False,
    ROOT_URLCONF=[],
    DEFAULT_AUTO_FIELD="django.db.models.AutoField",
    INSTALLED_APPS=["cache", "django_integration"],
    DATABASES={
        "default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"},
        "other": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"},
    },
    CACHES={"default": {"BACKEND": OURS}},
    # A lease that outlives any pause of a loaded machine.
    INVALIDATOR={"URL": URL, "NAMESPACE": f"django-suite-{CASE}", "MAX_STALENESS": 60},
)
django.setup()

from cache.tests import BaseCacheTests, caches_setting_for_tests  # type: ignore[import-not-found]  # noqa: E402
from django.test import TestCase, TransactionTestCase, override_settings  # noqa: E402
from django.test.utils import (  # noqa: E402
    setup_databases,
    setup_test_environment,
    teardown_databases,
    teardown_test_environment,
)
from results import Results  # noqa: E402

from django_integration import bus  # noqa: E402


def with_l2(**l2: Any) -> dict[str, Any]:
    """
    Django's own table of caches, each with a second level below it.

    Without those that its tests of RedisCache leave out, too: the second level bounds the number of values.
    """
    table = caches_setting_for_tests(BACKEND=OURS, exclude={"cull", "zero_cull"})
    for params in table.values():
        params["OPTIONS"] = {**params.get("OPTIONS", {}), "L2": "l2"}
    return {**table, "l2": l2}


@override_settings(CACHES=caches_setting_for_tests(BACKEND=OURS))
class AloneTests(BaseCacheTests, TestCase):  # type: ignore[misc]
    """Values live in this process."""


@override_settings(
    CACHES=caches_setting_for_tests(BACKEND=OURS, exclude={"cull", "zero_cull"}, OPTIONS={"COPY": "deep"})
)
class DeepTests(BaseCacheTests, TestCase):  # type: ignore[misc]
    """With `copy.deepcopy` for all other types. (These OPTIONS would replace those of the aliases to be culled.)"""


@override_settings(CACHES=with_l2(BACKEND="django.core.cache.backends.redis.RedisCache", LOCATION=L2_URL))
class OnRedisTests(BaseCacheTests, TransactionTestCase):  # type: ignore[misc]
    """Values live in Django's RedisCache. (Inside a TestCase no second level is used.)"""

    incr_decr_type_error = redis.ResponseError  # as in Django's own tests of RedisCache


@override_settings(CACHES=with_l2(BACKEND="django.core.cache.backends.locmem.LocMemCache", LOCATION="l2"))
class OnLocMemTests(BaseCacheTests, TransactionTestCase):  # type: ignore[misc]
    """Values live in Django's LocMemCache."""


setup_test_environment()
old = setup_databases(verbosity=0, interactive=False)
assert bus().wait_until_leased(30)
results = Results(lambda test: test._testMethodName)
unittest.defaultTestLoader.loadTestsFromTestCase(globals()[CASE]).run(results)
teardown_databases(old, verbosity=0)
teardown_test_environment()
print(json.dumps(results.ended))
