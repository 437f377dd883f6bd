"""The pytest plugin, in projects of their own with the real pytest-django."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

SETTINGS = """
SECRET_KEY = "tests"
INSTALLED_APPS = ["django_integration", "shop"]
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}}
CACHES = {"default": {"BACKEND": "django_integration.backend.NearCacheBackend"}}
# Nobody listens there: a test that is not isolated cannot tell anybody anything.
INVALIDATOR = {"URL": "redis://127.0.0.1:1/0", "NAMESPACE": "shop"}
"""
MODELS = """
from django.db import models

class Product(models.Model):
    name = models.CharField(max_length=80, default="")
    class Meta:
        app_label = "shop"
"""
TESTS = """
import threading
import pytest
from django.conf import settings
from django.core.cache import cache as django_cache
from django.db import transaction
from django.test import TestCase
from django_integration import bus, cache, invalidate, row_tags
from shop.models import Product

def check_alone():
    assert "key" not in cache
    assert django_cache.get("key") is None
    cache.set("key", 1)
    django_cache.set("key", 1)
    assert settings.INVALIDATOR["URL"].startswith("memory://")

@pytest.mark.parametrize("number", range(3))
def test_alone(number):
    check_alone()
    assert sum("invalidator" in thread.name for thread in threading.enumerate()) == 1

def test_commits(db, invalidations):
    with transaction.atomic():
        product = Product.objects.create()
        assert not invalidations
    assert len(invalidations) == 1
    assert product in invalidations
    product.save()
    assert len(invalidations) == 2

def test_reads_after_writes(db):
    product = Product.objects.create(name="old")
    load = lambda: cache.get_or_set("name", lambda: Product.objects.get().name, tags=row_tags(product))
    assert load() == "old"
    product.name = "new"
    product.save()
    assert load() == "new"
    assert "name" in cache

@pytest.mark.django_db(transaction=True)
def test_real_commits(invalidations):
    product = Product.objects.create()
    assert product in invalidations
    assert len(invalidations) == 1

@pytest.mark.invalidator(WRITES="strict")
def test_settings(db, invalidations):
    assert settings.INVALIDATOR["WRITES"] == "strict"
    product = Product.objects.create()
    assert product in invalidations

def test_another_server(invalidator_bus):
    other = invalidator_bus.other_server()
    other.set("key", 1)
    with invalidator_bus.delayed():
        assert bus().invalidate("key").accepted
        assert "key" in other

class ProductTests(TestCase):
    @classmethod
    def setUpTestData(cls):
        cls.product = Product.objects.create(name="old")

    def test_class_data_is_cached(self):
        check_alone()
        for _ in range(2):
            cache.get_or_set("name", lambda: self.product.name, tags=row_tags(self.product))
        assert "name" in cache

    def test_alone(self):
        check_alone()
"""


@pytest.fixture
def project(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    """A Django project with tests of its own."""
    monkeypatch.setenv("DJANGO_SETTINGS_MODULE", "shop_settings")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(pytester.path), str(ROOT)]))
    pytester.makefile(".ini", pytest="[pytest]\naddopts = -p no:valkey --strict-markers\nfilterwarnings = error\n")
    pytester.makepyfile(shop_settings=SETTINGS)
    shop = pytester.mkpydir("shop")
    (shop / "models.py").write_text(MODELS)
    return pytester


def test_every_test_is_isolated(project: pytest.Pytester) -> None:
    project.makepyfile(TESTS)
    project.runpytest_subprocess().assert_outcomes(passed=10)


def test_on_xdist_too(project: pytest.Pytester) -> None:
    project.makepyfile(TESTS)
    project.runpytest_subprocess("-n2").assert_outcomes(passed=10)


def test_it_can_be_turned_off(project: pytest.Pytester) -> None:
    """For a project that isolates by itself; a marker asks for it all the same."""
    project.makepyfile(
        """
        import pytest
        from django.conf import settings

        def test_not_isolated():
            assert settings.INVALIDATOR["URL"].startswith("redis://")

        @pytest.mark.invalidator
        def test_isolated():
            assert settings.INVALIDATOR["URL"].startswith("memory://")

        def test_no_bus(invalidator_bus):
            pass
        """
    )
    result = project.runpytest_subprocess("-o", "invalidator_isolate=false")
    result.assert_outcomes(passed=2, errors=1)
    result.stdout.fnmatch_lines(["*invalidator_bus needs an isolated test*"])


@pytest.mark.parametrize(
    "why", ["no pytest-django", "no app", "no settings"], ids=lambda why: str(why).replace(" ", "-")
)
def test_it_is_inert_elsewhere(project: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, why: str) -> None:
    """Nothing of ours is imported, and no fixture is there."""
    options = []
    if why == "no pytest-django":
        options = ["-p", "no:django"]
    elif why == "no app":
        project.makepyfile(shop_settings=SETTINGS.replace('"django_integration", ', ""))
    else:
        monkeypatch.delenv("DJANGO_SETTINGS_MODULE")
    project.makepyfile(
        """
        import sys
        import pytest

        def test_nothing_is_loaded(request):
            assert not {"invalidator", "django_integration"} & set(sys.modules)
            with pytest.raises(pytest.FixtureLookupError):
                request.getfixturevalue("invalidations")
        """
    )
    project.runpytest_subprocess(*options).assert_outcomes(passed=1)


def test_importing_it_imports_nothing_else() -> None:
    """Every project that has the library installed pays for it at every start of pytest."""
    code = (
        "import sys, pytest; before = set(sys.modules); import invalidator_pytest; "
        "print(*sorted(set(sys.modules) - before))"
    )
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert run.stdout.split() == ["invalidator_pytest"]
