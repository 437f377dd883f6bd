"""Settings of a project that is checked and never run."""

SECRET_KEY = "typing"
INSTALLED_APPS = ["django.contrib.contenttypes", "django.contrib.auth", "django_integration", "shop"]
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
CACHES = {"default": {"BACKEND": "django_integration.backend.NearCacheBackend"}}
INVALIDATOR = {"URL": "embedded://", "NAMESPACE": "shop"}
