"""System checks: one id per fault, a hint that repairs it."""

import ast
import re
from pathlib import Path

import pytest
from django.core import checks
from django.core.management import call_command
from django.core.management.base import SystemCheckError
from django.test import override_settings

ROOT = Path(__file__).resolve().parents[4]
PACKAGE = ROOT / "django_integration"
ID = re.compile(r"invalidator\.[EW]\d{3}")

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
        ({**GOOD, "KEY_CONTEXT": "tenant"}, "invalidator.E004", "shop.tenants.current_tenant"),
        ({**GOOD, "KEY_CONTEXT": "nowhere.current"}, "invalidator.E006", "'language', 'timezone'"),
        ({**GOOD, "KEY_CONTEXT": ["language", "os.nothing"]}, "invalidator.E006", "takes no arguments"),
        ({**GOOD, "KEY_CONTEXT": ["os.sep"]}, "invalidator.E006", "takes no arguments"),
        ({**GOOD, "KEY_CONTEXT": ["asyncio.sleep"]}, "invalidator.E006", "takes no arguments"),
    ],
)
def test_each_fault_has_an_id_and_a_repair(setting: object, check_id: str, hint: str) -> None:
    with override_settings(INVALIDATOR=setting):
        [error] = found()
    assert error.id == check_id
    assert hint in str(error.hint)


def test_a_sidecar_that_does_not_run_here_is_no_fault() -> None:
    """`manage.py migrate` runs on hosts without one, and a check connects to nothing."""
    with override_settings(INVALIDATOR={**GOOD, "SIDECAR": "/nowhere/shop.ledger"}):
        assert found() == []


@pytest.mark.parametrize(("writes", "hold", "warned"), [("strict", 7, 1), ("strict", 8, 0), ("after_commit", 1, 0)])
def test_a_short_hold_is_warned_of_where_it_is_used(writes: str, hold: float, warned: int) -> None:
    with override_settings(INVALIDATOR={**GOOD, "WRITES": writes, "HOLD": hold, "MAX_STALENESS": 2}):
        warnings = found()
    assert [warning.id for warning in warnings] == ["invalidator.W001"] * warned
    assert all("8, or more" in str(warning.hint) for warning in warnings)


def test_they_run_before_management_commands() -> None:
    with override_settings(INVALIDATOR={**GOOD, "TLL": 1}), pytest.raises(SystemCheckError, match="TTL"):
        call_command("check")


def ids_in_code() -> dict[str, set[str]]:
    """By id, the functions that make or pass it; ids are written out, so that they can be searched for."""
    found: dict[str, set[str]] = {}
    for path in PACKAGE.rglob("*.py"):
        for function in ast.walk(ast.parse(path.read_text())):
            if isinstance(function, ast.FunctionDef):
                for node in ast.walk(function):
                    if isinstance(node, ast.Constant) and ID.fullmatch(str(node.value)):
                        found.setdefault(node.value, set()).add(f"{path.name}:{function.name}")
    return found


def test_every_id_has_one_function() -> None:
    ids = ids_in_code()
    assert len(ids) > 15
    assert {check_id: functions for check_id, functions in ids.items() if len(functions) != 1} == {}


def test_every_id_is_documented_once_and_every_documented_one_exists() -> None:
    page = ROOT / "docs" / "django" / "settings.md"
    documented = re.findall(r"^\| `(invalidator\.\w+)` \|", page.read_text(), re.MULTILINE)
    assert sorted(documented) == sorted(ids_in_code())


def test_every_function_with_an_id_is_registered() -> None:
    registered = {check.__name__ for check in checks.registry.registry.get_checks(include_deployment_checks=True)}
    assert {place.partition(":")[2] for places in ids_in_code().values() for place in places} <= registered


def test_a_pattern_that_matches_no_model_is_a_warning_with_the_one_that_was_meant() -> None:
    setting = {"include": ["*", "zoo.Cages", "ZOO.cage", "zoo.*"], "exclude": ["nothing.*", "zoo.animal_foods"]}
    with override_settings(INVALIDATOR={**GOOD, "MODELS": setting}):
        one, other = found()
    assert one.id == other.id == "invalidator.W002"
    assert "'zoo.Cages'" in one.msg
    assert one.hint == "Did you mean 'zoo.Cage'?"
    assert "'nothing.*'" in other.msg
    assert '"app_label.*"' in str(other.hint)
