"""What is public is documented, and what is documented is public."""

import ast
import importlib
import re
import tomllib
from pathlib import Path

import pytest

import invalidator
from invalidator import extending

ROOT = Path(__file__).parents[2]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])
PAGE_OF = {"invalidator": ROOT / "docs" / "api.md", "invalidator.extending": ROOT / "docs" / "extending.md"}

IMPORT = re.compile(r"^\s*from ((?:invalidator|django_integration)[\w.]*) import ([\w, ]+)", re.MULTILINE)


def names_in_tables(page: Path) -> set[str]:
    """The names in the first columns of the page's tables, but for options, and those of another module."""
    text, _, _ = page.read_text().partition("\n## Options")
    rows = re.findall(r"^\| (`.+?) \| (?!\(of )", text, re.MULTILINE)
    return {name for row in rows for name in re.findall(r"`(\w+)`", row)}


@pytest.mark.parametrize("module", [invalidator, extending], ids=lambda module: module.__name__)
class TestAPublicModule:
    def test_each_public_name_is_documented_and_each_documented_name_is_public(self, module) -> None:
        assert names_in_tables(PAGE_OF[module.__name__]) == set(module.__all__)

    def test_it_has_every_name_that_it_promises(self, module) -> None:
        assert [name for name in module.__all__ if not hasattr(module, name)] == []

    def test_it_names_each_once(self, module) -> None:
        assert len(set(module.__all__)) == len(module.__all__)


def test_the_options_are_documented_as_the_code_says_them() -> None:
    rows = re.findall(r"^\| `(\w+)` \| (?:`(.+?)`)? *\| (.+) \|$", (ROOT / "docs" / "api.md").read_text(), re.MULTILINE)
    documented = {name: (ast.literal_eval(default or "None"), doc) for name, default, doc in rows}
    said = {
        name: (None if option.is_required else option.default, option.doc) for name, option in extending.OPTIONS.items()
    }
    assert documented == said


def test_hiredis_is_required_as_the_code_says_it() -> None:
    """Everywhere else the constant is used."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert f"hiredis>={extending.LEAST_HIREDIS}" in project["project"]["dependencies"]


@pytest.mark.parametrize("text", ["50_000", "3.5.0", "3, 5, 0"])
def test_a_number_of_the_options_stands_in_one_place(text) -> None:
    code = [path for package in ("invalidator", "django_integration") for path in (ROOT / package).rglob("*.py")]
    assert len([path for path in code if re.search(rf"\b{re.escape(text)}\b", path.read_text())]) <= 1


def test_no_name_comes_in_by_two_doors() -> None:
    assert set(invalidator.__all__).isdisjoint(extending.__all__)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_what_a_page_imports_is_there_and_public(page) -> None:
    for path, names in IMPORT.findall(page.read_text()):
        module = importlib.import_module(path)
        for name in filter(None, map(str.strip, names.split(","))):
            assert hasattr(module, name), f"{page.name}: {path} has no {name}"
            assert name in getattr(module, "__all__", [name]), f"{page.name}: {path}.{name} is not public"
