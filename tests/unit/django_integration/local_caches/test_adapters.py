"""Which adapters are wanted."""

from __future__ import annotations

import pytest
from django.test import override_settings

from django_integration import conf
from django_integration.checks import local_caches as checks
from django_integration.local_caches import adapters


def with_local_caches(value: object) -> override_settings:
    return override_settings(INVALIDATOR={"URL": "memory://", "NAMESPACE": "t", "LOCAL_CACHES": value})


def test_nothing_is_adapted_by_default() -> None:
    assert conf.conf.local_caches == ()
    assert adapters.wanted() == ()


def test_auto_is_what_is_installed() -> None:
    with with_local_caches("auto"):
        assert conf.conf.local_caches == "auto"
        assert adapters.wanted() == ("contenttypes",)
        assert [m for check in checks.ALL for m in check(None)] == []


@pytest.mark.parametrize("value", ["sites", ["cites"], None, 1, [["sites"]]])
def test_a_value_that_cannot_work_is_a_problem(value: object) -> None:
    with with_local_caches(value):
        (problem,) = conf.problems()
        assert "'auto'" in problem.hint.replace('"', "'")
        assert "'waffle'" in problem.hint
