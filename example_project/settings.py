"""
Settings of the example. All that differs between servers comes from the environment, set by `demo.py`:

    SERVER_NAME    this server's name, on every page and in every answer
    WORKER_NUMBER  which of the server's worker processes this is, from 1
    FLEET          all servers, as "app1=http://127.0.0.1:20001,http://127.0.0.1:20002,… app2=…": where any worker of
                   it answers, then where each of them does
    DATABASE       path of the SQLite file that all servers share
    REDIS_URL      where invalidations are published
    LEDGER         path of the ledger of this server's sidecar; without one each process listens for itself
    NAMESPACE      keeps this shop apart from others on the same Redis
    MAX_STALENESS  the bound, in seconds
"""

import os
from pathlib import Path

SERVER_NAME = os.environ.get("SERVER_NAME", "app1")
WORKER = int(os.environ.get("WORKER_NUMBER", "1"))
_URLS = {name: urls.split(",") for name, urls in (each.split("=", 1) for each in os.environ.get("FLEET", "").split())}
FLEET = {name: urls[0] for name, urls in _URLS.items()}
WORKERS = {name: dict(enumerate(urls[1:], start=1)) for name, urls in _URLS.items()}

# ------------------------------------------------------------------ the two settings this example is about

INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.messages",
    "django.contrib.sessions",
    "django.contrib.staticfiles",
    "rest_framework",
    "django_integration",
    "example_project.shop",
]
INVALIDATOR = {
    # Without the demo's Redis the project still starts: alone, with a bus inside the process.
    "URL": os.environ.get("REDIS_URL", "memory://"),
    "NAMESPACE": os.environ.get("NAMESPACE", "shop"),
    "SIDECAR": os.environ.get("LEDGER") or None,
    "TTL": 300,
    "MAX_STALENESS": float(os.environ.get("MAX_STALENESS", "2")),
}

# ------------------------------------------------------------------------------------------ ordinary Django

SECRET_KEY = "for a demo on the loopback interface, and nothing else"
DEBUG = False
ALLOWED_HOSTS = ["127.0.0.1", "localhost"]
ROOT_URLCONF = "example_project.urls"
WSGI_APPLICATION = "example_project.wsgi.application"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
USE_TZ = True
STATIC_URL = "/static/"

# No users, and JSON only: a form on a foreign page cannot declare that, see shop/api.py.
REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": [],
    "DEFAULT_PARSER_CLASSES": ["rest_framework.parsers.JSONParser"],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
}

MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
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
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": os.environ.get("DATABASE", Path(__file__).parent / "shop.sqlite3"),
        "CONN_MAX_AGE": None,
        "OPTIONS": {
            # Several servers write one file: readers do not wait for a writer (WAL), writers wait for each other, and a
            # transaction that will write takes its lock at the start, because SQLite cannot wait later.
            "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;",
            "timeout": 20,
            "transaction_mode": "IMMEDIATE",
        },
    }
}
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "handlers": {"console": {"class": "logging.StreamHandler"}},
    "root": {"handlers": ["console"], "level": "WARNING"},
}
