"""
A project of two databases and one app with every kind of relation, on the in-process bus.

`INVALIDATOR_TEST_DATABASE` says which kind of databases, see tests/databases.
"""

from tests.databases.chosen import databases

SECRET_KEY = "tests"
USE_TZ = True
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
INSTALLED_APPS = ["django.contrib.contenttypes", "django_integration", "tests.django_integration.zoo"]
# A lease that outlives any pause of a loaded machine: what leaves the cache here was invalidated.
INVALIDATOR = {"URL": "memory://", "NAMESPACE": "tests", "MAX_STALENESS": 60}
DATABASES = databases("default", "other")
