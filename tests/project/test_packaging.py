"""What users install: the wheel, built as a release builds it."""

import email
import re
import subprocess
import sys
import zipfile
from email.message import Message
from pathlib import Path

import pytest
from hatchling.builders.sdist import SdistBuilder
from hatchling.builders.wheel import WheelBuilder

ROOT = Path(__file__).parents[2]
PACKAGES = ("invalidator", "django_integration")
PLUGIN = "invalidator_pytest.py"
GENERATED = ("__pycache__", ".mypy_cache")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("wheel")
    (built,) = WheelBuilder(str(ROOT)).build(directory=str(directory), versions=["standard"])
    return Path(built)


@pytest.fixture(scope="module")
def contents(wheel: Path) -> set[str]:
    return set(zipfile.ZipFile(wheel).namelist())


@pytest.fixture(scope="module")
def metadata(wheel: Path) -> Message:
    with zipfile.ZipFile(wheel) as archive:
        (path,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        return email.message_from_bytes(archive.read(path))


@pytest.mark.parametrize("package", PACKAGES)
def test_the_wheel_holds_every_file_of_the_package(package: str, contents: set[str]) -> None:
    """Modules, py.typed, templates, static files: what is in the tree and not in the wheel works only for us."""
    files = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / package).rglob("*")
        if path.is_file() and not any(part in GENERATED for part in path.parts)
    }
    assert f"{package}/py.typed" in files
    assert files <= contents


def test_the_wheel_holds_nothing_else(contents: set[str]) -> None:
    """Neither the tests nor the example project land in somebody's site-packages."""
    assert {name.partition("/")[0] for name in contents if ".dist-info/" not in name} == {*PACKAGES, PLUGIN}


def test_the_wheel_carries_the_licence(contents: set[str]) -> None:
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in contents)


def test_the_wheel_is_what_python_imports(wheel: Path) -> None:
    """The wheel works without the sources beside it."""
    code = f"import sys; sys.path.insert(0, {str(wheel)!r}); import invalidator; print(invalidator.__file__)"
    done = subprocess.run([sys.executable, "-I", "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.startswith(str(wheel))


def test_only_four_packages_are_required(metadata: Message) -> None:
    """Everything else is an extra; a cache library has no business filling somebody's environment."""
    requirements = metadata.get_all("Requires-Dist", [])
    required = {re.split(r"[^\w-]", line)[0] for line in requirements if "extra ==" not in line}
    assert required == {"cachetools", "hiredis", "msgspec", "redis"}
    assert set(metadata.get_all("Provides-Extra", [])) == {"cli", "django", "embedded", "prometheus"}


def test_the_command_is_installed(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        (path,) = (name for name in archive.namelist() if name.endswith(".dist-info/entry_points.txt"))
        entry_points = archive.read(path).decode()
    assert "invalidator = invalidator.cli:main" in entry_points
    assert f"[pytest11]\ninvalidator = {PLUGIN.removesuffix('.py')}" in entry_points


def test_the_source_distribution_can_be_built(tmp_path: Path) -> None:
    (built,) = SdistBuilder(str(ROOT)).build(directory=str(tmp_path), versions=["standard"])
    assert Path(built).stat().st_size > 0
