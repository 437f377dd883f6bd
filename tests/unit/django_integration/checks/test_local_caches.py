"""The checks of INVALIDATOR["LOCAL_CACHES"]."""

from __future__ import annotations

import pytest
from django.contrib.contenttypes.models import ContentType
from django.test import override_settings

from django_integration.checks import local_caches as checks
from django_integration.local_caches import adapters


def with_local_caches(value: object) -> override_settings:
    return override_settings(INVALIDATOR={"URL": "memory://", "NAMESPACE": "t", "LOCAL_CACHES": value})


def test_w050_what_is_named_and_not_installed() -> None:
    with with_local_caches(["contenttypes", "waffle"]):
        (warning,) = checks.check_installed(None)
    assert warning.id == "invalidator.W050"
    assert "'waffle'" in warning.msg


def test_w051_constance_in_memory() -> None:
    with (
        with_local_caches(["constance"]),
        override_settings(CONSTANCE_BACKEND="constance.backends.memory.MemoryBackend"),
    ):
        (warning,) = checks.check_memory_backend(None)
    assert warning.id == "invalidator.W051"


def test_w052_rows_whose_changes_are_not_published(monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache of them would never fall."""
    monkeypatch.setattr(adapters, "unfit", {})
    models = {"exclude": ["contenttypes.*"]}
    value = {"URL": "memory://", "NAMESPACE": "t", "LOCAL_CACHES": ["contenttypes"], "MODELS": models}
    with override_settings(INVALIDATOR=value):
        adapters.install.__wrapped__()
        (warning,) = checks.check_fit(None)
    assert warning.id == "invalidator.W052"
    assert "leaves out contenttypes.ContentType" in warning.msg
    assert type(ContentType.objects._cache) is dict


def test_w052_a_package_of_another_shape(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adapters, "unfit", {})
    for manager in (*ContentType._meta.local_managers, *ContentType._meta.managers):
        monkeypatch.setattr(manager, "_cache", "of another package")
    with with_local_caches(["contenttypes"]):
        adapters.install.__wrapped__()
        (warning,) = checks.check_fit(None)
    assert warning.id == "invalidator.W052"
    assert "'contenttypes'" in warning.msg
    assert "no dictionary _cache" in warning.msg
