"""Every module has its tests where one looks for them."""

from pathlib import Path

import pytest

import invalidator

ROOT = Path(__file__).parents[2]
PACKAGE = Path(invalidator.__file__).parent
TESTED_ELSEWHERE = {
    "__init__.py": "its doctest runs in tests/project/test_packaging.py's company",
    "__main__.py": "one line",
    "base.py": "types, and a script that a server runs: tests/integration/link/test_redis.py",
    "effects.py": "types alone: tests/unit/invalidator/protocol/test_subscription.py",
    "testing.py": "tests/integration/test_embedded_server.py",
}


@pytest.mark.parametrize(
    "module",
    sorted(str(path.relative_to(PACKAGE)) for path in PACKAGE.rglob("*.py") if path.name not in TESTED_ELSEWHERE),
)
def test_a_module_has_a_test_module_of_its_name(module) -> None:
    """invalidator/link/redis.py has link/test_redis.py in tests/unit/invalidator or in tests/integration."""
    path = Path(module)
    mirror = path.parent / f"test_{path.name}"
    places = [ROOT / "tests" / "unit" / "invalidator" / mirror, ROOT / "tests" / "integration" / mirror]
    assert any(place.exists() for place in places), f"neither {places[0]} nor {places[1]} exists"
