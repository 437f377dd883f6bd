"""Each module of both packages has its tests where one looks for them."""

from pathlib import Path
from types import ModuleType

import pytest

import django_integration
import invalidator

ROOT = Path(__file__).parents[2]
TESTED_ELSEWHERE = {
    "invalidator/link/base.py": "types, and a script that a server runs: tests/integration/link/test_redis.py",
    "invalidator/protocol/effects.py": "types alone: tests/unit/invalidator/protocol/test_subscription.py",
    "django_integration/apps.py": "the start of the app: tests/unit/django_integration/test_runtime.py",
    "django_integration/pytest_fixtures.py": "in sample projects: tests/project/test_invalidator_pytest.py",
    "django_integration/slow_path.py": "one dictionary: tests/unit/django_integration/transactions/test_view.py",
    "django_integration/urls.py": "one list: tests/unit/django_integration/test_views.py",
}


def modules(package: ModuleType) -> list[str]:
    """The modules of *package* that have tests of their own."""
    folder = Path(package.__path__[0])
    names = (path.relative_to(folder.parent) for path in folder.rglob("*.py") if path.name != "__init__.py")
    return sorted(str(name) for name in names if str(name) not in TESTED_ELSEWHERE)


@pytest.mark.parametrize("module", [*modules(invalidator), *modules(django_integration)])
def test_a_module_has_a_test_module_of_its_name(module: str) -> None:
    """invalidator/link/redis.py has link/test_redis.py in tests/unit/invalidator or in tests/integration."""
    path = Path(module)
    name = f"test_{path.name.lstrip('_')}"
    places = [ROOT / "tests" / "unit" / path.parent / name]
    places += [ROOT.joinpath("tests", "integration", *path.parent.parts[1:], name)]
    assert any(place.exists() for place in places), f"neither {places[0]} nor {places[1]} exists"


@pytest.mark.parametrize("module", TESTED_ELSEWHERE)
def test_a_module_that_is_tested_elsewhere_exists(module: str) -> None:
    assert (ROOT / module).exists()
    place = TESTED_ELSEWHERE[module].rpartition(" ")[2]
    assert (ROOT / place).exists()
