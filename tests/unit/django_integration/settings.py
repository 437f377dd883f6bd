"""
A project of two databases and one app with every kind of relation, on the in-process bus.

`INVALIDATOR_TEST_DATABASE` says which kind of databases, see tests/databases.
"""

from tests.databases.chosen import databases

SECRET_KEY = "tests"
USE_TZ = True
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.messages",
    "django.contrib.sessions",
    "django.contrib.staticfiles",
    "django_integration",
    "tests.unit.django_integration.zoo",
]
# Tables of apps without migrations, such as the zoo, come first, and one of them points at a content type.
MIGRATION_MODULES = dict.fromkeys(("admin", "auth", "contenttypes"))
MIDDLEWARE = [
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
]
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]
ROOT_URLCONF = "tests.unit.django_integration.urls"
STATIC_URL = "/static/"
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
# A lease that outlives any pause of a loaded machine: what leaves the cache here was invalidated.
INVALIDATOR = {"URL": "memory://", "NAMESPACE": "tests", "MAX_STALENESS": 60}
DATABASES = databases("default", "other")
