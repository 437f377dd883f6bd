"""System checks: one id per fault, a hint that repairs it."""

import pytest
from django.core import checks
from django.core.management import call_command
from django.core.management.base import SystemCheckError
from django.test import override_settings

GOOD = {"URL": "memory://", "NAMESPACE": "tests"}


def found() -> list[checks.CheckMessage]:
    return checks.run_checks(tags=["invalidator"])


def test_a_good_setting_has_no_errors() -> None:
    assert found() == []


@pytest.mark.parametrize(
    ("setting", "check_id", "hint"),
    [
        (None, "invalidator.E001", "INVALIDATOR = {"),
        ("redis://", "invalidator.E001", "INVALIDATOR = {"),
        ({**GOOD, "NAMESPCE": "x"}, "invalidator.E002", "Did you mean 'NAMESPACE'?"),
        ({"URL": "memory://"}, "invalidator.E003", "a short string"),
        ({**GOOD, "TTL": -1}, "invalidator.E004", "above 0"),
        ({**GOOD, "URL": "http://localhost"}, "invalidator.E005", "redis://localhost:6379/0"),
        ({**GOOD, "NAMESPACE": "with {braces}"}, "invalidator.E005", "NAMESPACE"),
    ],
)
def test_each_fault_has_an_id_and_a_repair(setting: object, check_id: str, hint: str) -> None:
    with override_settings(INVALIDATOR=setting):
        [error] = found()
    assert error.id == check_id
    assert hint in str(error.hint)


def test_they_run_before_management_commands() -> None:
    with override_settings(INVALIDATOR={**GOOD, "TLL": 1}), pytest.raises(SystemCheckError, match="TTL"):
        call_command("check")
