"""What is public is documented, and what is documented is public."""

import importlib
import re
from pathlib import Path

import pytest

import invalidator
from invalidator import extending

ROOT = Path(__file__).parents[2]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])
PAGE_OF = {"invalidator": ROOT / "docs" / "api.md", "invalidator.extending": ROOT / "docs" / "extending.md"}

IMPORT = re.compile(r"^\s*from ((?:invalidator|django_integration)[\w.]*) import ([\w, ]+)", re.MULTILINE)


def names_in_tables(page: Path) -> set[str]:
    """The names in the first columns of the page's tables, but for those that it says to be of another module."""
    rows = re.findall(r"^\| (`.+?) \| (?!\(of )", page.read_text(), re.MULTILINE)
    return {name for row in rows for name in re.findall(r"`(\w+)`", row)}


@pytest.mark.parametrize("module", [invalidator, extending], ids=lambda module: module.__name__)
class TestAPublicModule:
    def test_each_public_name_is_documented_and_each_documented_name_is_public(self, module) -> None:
        assert names_in_tables(PAGE_OF[module.__name__]) == set(module.__all__)

    def test_it_has_every_name_that_it_promises(self, module) -> None:
        assert [name for name in module.__all__ if not hasattr(module, name)] == []

    def test_it_names_each_once(self, module) -> None:
        assert len(set(module.__all__)) == len(module.__all__)


def test_no_name_comes_in_by_two_doors() -> None:
    assert set(invalidator.__all__).isdisjoint(extending.__all__)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_what_a_page_imports_is_there_and_public(page) -> None:
    for path, names in IMPORT.findall(page.read_text()):
        module = importlib.import_module(path)
        for name in filter(None, map(str.strip, names.split(","))):
            assert hasattr(module, name), f"{page.name}: {path} has no {name}"
            assert name in getattr(module, "__all__", [name]), f"{page.name}: {path}.{name} is not public"
