"""A project of two databases and one app with every kind of relation, on the in-process bus."""

SECRET_KEY = "tests"
USE_TZ = True
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
INSTALLED_APPS = ["django.contrib.contenttypes", "django_integration", "tests.django_integration.zoo"]
# A lease that outlives any pause of a loaded machine: what leaves the cache here was invalidated.
INVALIDATOR = {"URL": "memory://", "NAMESPACE": "tests", "MAX_STALENESS": 60}
DATABASES = {
    # In memory, and shared by the threads of the process.
    "default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"},
    "other": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"},
}
