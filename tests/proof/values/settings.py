"""
The project of these worlds. `INVALIDATOR_TEST_DATABASE` says which kind of database, see tests/databases.

Nobody waits for a lock: there is one turn, so who holds the lock would never let go of it. A lock that is taken is an
error at once, as it is after a time-out.
"""

from tests.databases.chosen import chosen, databases

SECRET_KEY = "tests"
USE_TZ = True
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
INSTALLED_APPS = ["django.contrib.contenttypes", "django_integration", "tests.proof.values"]
MIGRATION_MODULES = {"contenttypes": None}
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "OPTIONS": {"libraries": {"invalidator": "django_integration.templatetags.invalidator"}},
    }
]
LANGUAGE_CODE = "en"
LANGUAGES = [("en", "English"), ("nl", "Dutch")]

# A lease that outlives any pause of a loaded machine: what leaves the cache here was invalidated.
INVALIDATOR = {
    "URL": "memory://values",
    "NAMESPACE": "values",
    "MAX_STALENESS": 600,
    "KEY_CONTEXT": ["language", "tests.proof.values.tenants.current"],
}

MODELS = ("maker", "shelf", "label", "item", "book", "detail", "supply", "note", "item_labels")
_NEAR = "django_integration.backend.NearCacheBackend"
CACHES = {
    # Every entry depends on every table, so that nobody has to delete anything.
    "default": {"BACKEND": _NEAR, "LOCATION": "tagged", "OPTIONS": {"TAGS": [f"values.{model}" for model in MODELS]}},
    # The application deletes or sets its keys itself.
    "one": {"BACKEND": _NEAR, "LOCATION": "one"},
    "two": {"BACKEND": _NEAR, "LOCATION": "two", "OPTIONS": {"L2": "shared"}},
    "shared": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache", "LOCATION": "shared"},
}

DATABASES = databases("default")
_OPTIONS = DATABASES["default"].setdefault("OPTIONS", {})
match chosen():
    case "sqlite":
        _OPTIONS["timeout"] = 0
    case "postgresql":
        _OPTIONS["options"] = "-c lock_timeout=1ms"
    case "mariadb":
        _OPTIONS["init_command"] = "SET SESSION innodb_lock_wait_timeout = 0"
