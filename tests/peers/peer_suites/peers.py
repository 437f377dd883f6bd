"""The settings of the peers' own test projects, without those of the peer itself; and which modules are the peer's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

OURS = "django_integration.backend.NearCacheBackend"
LOCMEM = "django.core.cache.backends.locmem.LocMemCache"


@dataclass(frozen=True)
class Peer:
    """
    One peer.

    Attributes:
        linked: modules of the peer, with their submodules, unmodified. Others that they import are our adapter's.
        tests: modules with the test cases.
        settings: Django's.
    """

    linked: tuple[str, ...]
    tests: tuple[str, ...]
    settings: dict[str, Any]


CACHALOT = Peer(
    linked=("cachalot.tests", "cachalot.admin_tests", "cachalot.management"),
    tests=(
        *(
            f"cachalot.tests.{module}"
            for module in ("read", "write", "transaction", "thread_safety", "multi_db", "settings", "api", "signals")
        ),
        "cachalot.tests.postgres",
        "cachalot.admin_tests.test_admin",
    ),
    settings={
        "INSTALLED_APPS": [
            "django_integration",
            "cachalot",
            "cachalot.admin_tests",
            "django.contrib.auth",
            "django.contrib.contenttypes",
            "django.contrib.postgres",
            "django.contrib.sessions",
            "django.contrib.admin",
            "django.contrib.messages",
        ],
        "DATABASE_ROUTERS": ["routing.OnlyOnPostgreSQL", "cachalot.tests.db_router.PostgresRouter"],
        "MIGRATION_MODULES": {"cachalot": "cachalot.tests.migrations"},
        "DEFAULT_AUTO_FIELD": "django.db.models.AutoField",
        "CACHES": {"default": {"BACKEND": OURS}, "other": {"BACKEND": LOCMEM}},
        "TEMPLATES": [
            {
                "BACKEND": "django.template.backends.django.DjangoTemplates",
                "APP_DIRS": True,
                "OPTIONS": {
                    "context_processors": [
                        "django.contrib.auth.context_processors.auth",
                        "django.contrib.messages.context_processors.messages",
                        "django.template.context_processors.request",
                    ]
                },
            },
        ],
        "MIDDLEWARE": [
            "django.contrib.sessions.middleware.SessionMiddleware",
            "django.contrib.auth.middleware.AuthenticationMiddleware",
            "django.contrib.messages.middleware.MessageMiddleware",
        ],
        "PASSWORD_HASHERS": ["django.contrib.auth.hashers.MD5PasswordHasher"],
        "USE_TZ": False,
        "TIME_ZONE": "UTC",
        "ROOT_URLCONF": "urls_of_cachalot",
        "STATIC_URL": "/static/",
    },
)

CACHEOPS = Peer(
    linked=("tests", "cacheops.utils", "cacheops.jinja2", "cacheops.templatetags"),
    tests=("tests.tests", "tests.test_extras", "tests.tests_transactions", "tests.tests_sharding"),
    settings={
        "INSTALLED_APPS": [
            "django_integration",
            "cacheops",
            "django.contrib.contenttypes",
            "django.contrib.auth",
            "tests",
        ],
        "ROOT_URLCONF": "tests.urls",
        "MIGRATION_MODULES": {"auth": None, "contenttypes": None},  # theirs refer to these, and have none
        "DEFAULT_AUTO_FIELD": "django.db.models.AutoField",
        "USE_TZ": True,
        "ALLOWED_HOSTS": ["testserver"],
        "TEMPLATES": [{"BACKEND": "django.template.backends.django.DjangoTemplates"}],
    },
)

PEERS = {"cachalot": CACHALOT, "cacheops": CACHEOPS}
