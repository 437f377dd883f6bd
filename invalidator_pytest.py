"""
The pytest plugin: under pytest-django every test has a bus and near caches of its own (docs/django/testing.md).

pytest imports this module in every project that has the library installed, so it imports nothing but pytest. The
fixtures are in `django_integration.pytest_fixtures`, which is loaded only where pytest-django is at work and the app
installed. It is no module of a package, because importing one imports the package first.

Rule 1: without pytest-django, without settings, or without the app in INSTALLED_APPS, nothing is imported and no
fixture exists.
"""

from __future__ import annotations

import importlib
import sys

import pytest

FIXTURES = "django_integration.pytest_fixtures"
ISOLATE = "invalidator_isolate"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Declare the option."""
    parser.addini(
        ISOLATE, "give every test an invalidation bus and near caches of its own (default: true)", "bool", default=True
    )


def pytest_configure(config: pytest.Config) -> None:
    """Declare the marker."""
    config.addinivalue_line(
        "markers", 'invalidator(**settings): keys of INVALIDATOR that differ in this test, such as WRITES="strict"'
    )


@pytest.hookimpl(tryfirst=True)
def pytest_sessionstart(session: pytest.Session) -> None:
    """Load the fixtures: now that pytest-django and every conftest.py have set Django up, and before any test."""
    plugins = session.config.pluginmanager
    if plugins.hasplugin("django") and _is_app_installed():
        plugins.register(importlib.import_module(FIXTURES), FIXTURES)


def _is_app_installed() -> bool:
    registry = sys.modules.get("django.apps")
    return registry is not None and registry.apps.ready and registry.apps.is_installed("django_integration")
