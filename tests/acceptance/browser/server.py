"""
Serves the project of tests/unit/django_integration, with the admin's static files.

It prints its URL, and ends when its standard input is closed.
"""

import os
import sys

import django

os.environ["DJANGO_SETTINGS_MODULE"] = "tests.unit.django_integration.settings"
django.setup()

from django.conf import settings  # noqa: E402 - Django is set up first
from django.contrib.auth.models import User  # noqa: E402
from django.contrib.staticfiles.handlers import StaticFilesHandler  # noqa: E402
from django.core.cache import caches  # noqa: E402
from django.test.testcases import LiveServerThread  # noqa: E402
from django.test.utils import setup_databases, setup_test_environment  # noqa: E402

from django_integration import bus, cache  # noqa: E402
from tests.acceptance.browser import PASSWORD, USER  # noqa: E402
from tests.databases.chosen import start  # noqa: E402
from tests.unit.django_integration.zoo.models import Ticket  # noqa: E402


def main() -> None:
    """Fill the database and the caches, and serve."""
    settings.CACHES = {
        "default": {
            "BACKEND": "django_integration.backend.NearCacheBackend",
            "LOCATION": "pages",
            "OPTIONS": {"L2": "shared"},
        },
        "flags": {"BACKEND": "django_integration.backend.NearCacheBackend", "LOCATION": "flags", "KEY_PREFIX": "flags"},
        "shared": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"},
    }
    start()
    setup_test_environment()
    settings.ALLOWED_HOSTS = ["127.0.0.1"]
    setup_databases(verbosity=0, interactive=False)
    User.objects.create_superuser(USER, password=PASSWORD)
    Ticket.objects.create(day=3)
    assert bus().wait_until_leased(20)
    for n in range(1200):
        cache.get_or_set(f"product:{n % 400}", lambda: "a lamp")
        caches["default"].get_or_set(f"page:{n % 40}", lambda: "a page")

    # Each request has a thread of its own, and with it connections of its own: two threads that use one connection of
    # SQLite's at the same time can crash the process.
    server = LiveServerThread("127.0.0.1", StaticFilesHandler)
    server.start()
    server.is_ready.wait()
    if server.error:
        raise server.error
    print(f"http://127.0.0.1:{server.port}", flush=True)
    sys.stdin.read()
    os._exit(0)


if __name__ == "__main__":
    main()
