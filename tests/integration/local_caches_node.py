"""
A server process of a project with sites, content types, waffle and constance; see node.py.

`local_caches_node.py URL NAMESPACE DATABASE LEDGER LOCAL_CACHES CONSTANCE_BACKEND`: as in the settings. Without
LEDGER the process listens for itself. The answer to a read is the value, and the number of queries that it took.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

URL, NAMESPACE, DATABASE, LEDGER, LOCAL_CACHES, CONSTANCE_BACKEND = sys.argv[1:]
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import django  # noqa: E402
from django.conf import settings  # noqa: E402

settings.configure(
    SECRET_KEY="tests",
    USE_TZ=True,
    ALLOWED_HOSTS=["*"],
    DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
    INSTALLED_APPS=[
        "django.contrib.contenttypes",
        "django.contrib.auth",
        "django.contrib.sites",
        "waffle",
        "constance",
        "django_integration",
    ],
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": DATABASE, "OPTIONS": {"timeout": 60}}},
    CONSTANCE_BACKEND=CONSTANCE_BACKEND,
    CONSTANCE_CONFIG={"GREETING": ("hello", "on the front page"), "LIMIT": (10, "of a page")},
    CONSTANCE_REDIS_CONNECTION=URL.rpartition("/")[0] + "/3",
    CONSTANCE_REDIS_CACHE_TIMEOUT=86_400,
    INVALIDATOR={
        "URL": URL,
        "NAMESPACE": NAMESPACE,
        "SIDECAR": LEDGER or None,
        "LOCAL_CACHES": LOCAL_CACHES if LOCAL_CACHES == "auto" else tuple(json.loads(LOCAL_CACHES)),
        "MAX_STALENESS": 2.0,
    },
)
django.setup()

import waffle  # noqa: E402
from constance import config  # noqa: E402
from constance.test import override_config  # noqa: E402
from django.contrib.auth.models import User  # noqa: E402
from django.contrib.contenttypes.models import ContentType  # noqa: E402
from django.contrib.sites import models as sites  # noqa: E402
from django.contrib.sites.models import Site  # noqa: E402
from django.core.management import call_command  # noqa: E402
from django.db import connection, transaction  # noqa: E402
from django.test import RequestFactory  # noqa: E402
from django.test.utils import CaptureQueriesContext, override_settings  # noqa: E402
from waffle.models import Flag, Sample, Switch  # noqa: E402
from waffle.testutils import override_switch  # noqa: E402

from django_integration import bus  # noqa: E402


def make_rows() -> None:
    call_command("migrate", verbosity=0)
    Site.objects.create(domain="shop.test", name="shop")
    ContentType.objects.create(app_label="gone", model="old")
    Switch.objects.create(name="switch", active=False)
    Sample.objects.create(name="sample", percent=0)
    flag = Flag.objects.create(name="flag", superusers=False)
    flag.users.add(User.objects.create(username="one"))
    User.objects.create(username="two")


def request_for(host: str) -> Any:
    return RequestFactory().get("/", headers={"host": host})


def site_of_host() -> str:
    with override_settings(SITE_ID=None):
        return Site.objects.get_current(request_for("shop.test")).name


def flag_of(name: str) -> bool:
    request = request_for("shop.test")
    request.user = User(pk={"one": 1, "two": 2}[name], username=name)
    request.user._prefetched_objects_cache = {"groups": []}
    return bool(waffle.flag_is_active(request, "flag"))


SITE_ID = 1
READS: dict[str, Callable[[], Any]] = {
    "site": lambda: Site.objects._get_site_by_id(SITE_ID).name,
    "host": site_of_host,
    "type": lambda: ContentType.objects.get_for_id(TYPE_ID).model,
    "switch": lambda: waffle.switch_is_active("switch"),
    "switches": lambda: [switch.name for switch in Switch.get_all()],
    "sample": lambda: waffle.sample_is_active("sample"),
    "flag": lambda: flag_of("two"),
    "flag of one": lambda: flag_of("one"),
    "config": lambda: config.GREETING,
    "config not set": lambda: config.LIMIT,
}
TYPE_ID = 0


def save(row: Any, **fields: Any) -> None:
    for name, value in fields.items():
        setattr(row, name, value)
    row.save()


def clear_users() -> None:
    Flag.objects.get().users.clear()


CHANGES: dict[str, Callable[[], Any]] = {
    "site": lambda: save(Site.objects.get(pk=SITE_ID), name="new"),
    "host": lambda: save(Site.objects.get(domain="shop.test"), name="new"),
    "type": lambda: ContentType.objects.filter(pk=TYPE_ID).update(model="new"),
    "switch": lambda: save(Switch.objects.get(name="switch"), active=True),
    "switches": lambda: save(Switch(name="another")),
    "sample": lambda: Sample.objects.update(percent=100),
    "flag": lambda: Flag.objects.get(name="flag").users.add(2),
    "flag of one": clear_users,
    "config": lambda: setattr(config, "GREETING", "new"),
    "config not set": lambda: setattr(config, "LIMIT", 20),
}


def counted(read: Callable[[], Any]) -> list[Any]:
    with CaptureQueriesContext(connection) as queries:
        found = read()
    return [found, len(queries)]


def in_rolled_back_transaction(name: str) -> Any:
    """Change, read, roll back. Returns what was read."""
    with transaction.atomic():
        CHANGES[name]()
        found = READS[name]()
        transaction.set_rollback(True)
    return found


def use_what_they_offer() -> list[str]:
    """Use the functions that tests of projects use. Returns those that do not work."""
    site = Site.objects.get(pk=SITE_ID)
    sites.SITE_CACHE[SITE_ID] = site
    assigned = READS["site"]() == site.name and Site.objects._get_site_by_id(SITE_ID) is site
    Site.objects.clear_cache()
    cleared = not sites.SITE_CACHE and counted(READS["site"])[1] == 1
    sites.SITE_CACHE = {}
    with override_settings(SITE_ID=SITE_ID):
        replaced = counted(Site.objects.get_current)[1] == 1 and counted(Site.objects.get_current)[1] == 0
    READS["type"]()
    ContentType.objects.clear_cache()
    with override_switch("switch", active=True):
        overridden = READS["switch"]()
    with override_config(GREETING="overridden"):
        configured = config.GREETING == "overridden"
    outcomes = {
        "SITE_CACHE[1] = site": assigned,
        "Site.objects.clear_cache()": cleared,
        "SITE_CACHE = {}": replaced,
        "and then it is coherent again": type(sites.SITE_CACHE) is not dict,
        "ContentType.objects.clear_cache()": counted(READS["type"])[1] == 1,
        "override_switch": overridden and not READS["switch"](),
        "override_config": configured and config.GREETING == "hello",
    }
    return [what for what, works in outcomes.items() if not works]


def main() -> None:
    global TYPE_ID  # noqa: PLW0603 - known when there are rows
    for line in sys.stdin:
        match json.loads(line):
            case ["make rows"]:
                answer: Any = make_rows()
            case ["lease"]:
                TYPE_ID = ContentType.objects.get(app_label="gone").pk
                answer = bus().wait_until_leased(30)
            case ["read", name]:
                answer = counted(READS[name])
            case ["change", name]:
                answer = CHANGES[name]()
            case ["roll back", name]:
                answer = in_rolled_back_transaction(name)
            case ["use what they offer"]:
                answer = use_what_they_offer()
            case ["listener"]:
                answer = bus().status().listener
            case other:
                raise AssertionError(other)
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
