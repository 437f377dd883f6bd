"""The pages fit together, and the names and files that they mention are there."""

import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), ROOT / "benchmarks" / "README.md"])
FENCE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
FOLDERS = ("invalidator", "django_integration", "tests", "benchmarks", "example_project", "docs")
PATH_OF_OURS = re.compile(rf"`((?:{'|'.join(FOLDERS)})/[\w./-]*\w/?)`")
DOTTED_NAME = re.compile(r"[`\"]((?:invalidator|django_integration)(?:\.[a-z]\w+)+(?:\.[A-Z]\w+)?)(?:\(\))?[`\"]")
PATH_OF_DOCS = re.compile(r"\bdocs/[\w./-]+\.(?:md|svg|c)\b")


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


def prose_of(page: Path) -> str:
    """The text of *page* without its blocks of code."""
    return FENCE.sub("", page.read_text())


def anchors_of(page: Path) -> set[str]:
    """The anchors that GitHub gives the headings of *page*."""
    seen: Counter[str] = Counter()
    anchors = set()
    for heading in re.findall(r"^#+ (.+)$", prose_of(page), re.MULTILINE):
        text = LINK.sub(lambda link: link.group().partition("](")[0].lstrip("!["), heading)
        anchor = re.sub(r"[^\w\- ]", "", text.strip().lower()).replace(" ", "-")
        anchors.add(f"{anchor}-{seen[anchor]}" if seen[anchor] else anchor)
        seen[anchor] += 1
    return anchors


def test_the_anchors_of_headings_are_those_of_github(tmp_path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# One & two\n\n## `lru_cache`, once\n\n```\n# comment\n```\n\n## One & two\n\n## [A](b.md) (c)\n")
    assert anchors_of(page) == {"one--two", "lru_cache-once", "one--two-1", "a-c"}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
class TestAPage:
    def test_its_links_lead_somewhere(self, page) -> None:
        dead = []
        for link in LINK.findall(prose_of(page)):
            if re.match(r"[a-z]+:", link):
                continue
            path, _, anchor = link.partition("#")
            target = (page.parent / path).resolve() if path else page
            if not target.exists() or (anchor and anchor not in anchors_of(target)):
                dead.append(link)
        assert dead == []

    def test_the_files_that_it_names_exist(self, page) -> None:
        named = PATH_OF_OURS.findall(prose_of(page))
        assert [path for path in named if not (ROOT / path).exists()] == []

    def test_no_table_is_cut_in_two(self, page) -> None:
        """A row after an empty line is no row: GitHub shows it as text. A table begins with a header and its rule."""
        lines = ["", *prose_of(page).splitlines(), ""]
        begins = [at for at, line in enumerate(lines) if line.startswith("|") and not lines[at - 1].startswith("|")]
        assert [lines[at] for at in begins if not re.fullmatch(r"\|( ?:?-+:? ?\|)+", lines[at + 1])] == []


RESOLVE = """
import django, os, pkgutil, sys

os.environ["DJANGO_SETTINGS_MODULE"] = "example_project.settings"
django.setup()
for name in sys.argv[1:]:
    pkgutil.resolve_name(name)
"""


def test_the_modules_and_functions_that_pages_name_exist() -> None:
    """Also in examples of settings. (Imports are looked at in test_public_names.py.)"""
    named = {name for page in PAGES if page.name != "CHANGELOG.md" for name in DOTTED_NAME.findall(page.read_text())}
    assert "django_integration.backend.NearCacheBackend" in named
    command = [sys.executable, "-W", "ignore", "-c", RESOLVE, *named]  # the example's warnings are its own
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("picture", sorted((ROOT / "docs").rglob("*.svg")), ids=name_of)
def test_the_files_that_a_picture_names_exist(picture) -> None:
    """Beginning at one of the packages, as the page beside it says; the second of two may leave out what they share."""
    named = re.findall(r"[\w/]+\.py", picture.read_text())
    bases = [ROOT, ROOT / "invalidator", ROOT / "django_integration"]
    assert len(named) > 5
    assert [path for path in named if not any((base / path).exists() for base in bases)] == []


def test_every_page_can_be_reached_from_the_readme() -> None:
    reached, ahead = set(), [ROOT / "README.md"]
    while ahead:
        page = ahead.pop()
        if page in reached or page.suffix != ".md" or not page.exists():
            continue
        reached.add(page)
        links = (link.partition("#")[0] for link in LINK.findall(prose_of(page)))
        ahead += [(page.parent / link).resolve() for link in links if link and ":" not in link]
    assert set(PAGES) - reached == set()


def test_every_page_that_code_names_exists() -> None:
    """In docstrings, comments, and hints of system checks."""
    named = {
        (path, name)
        for folder in (*FOLDERS, ".")
        for source in ((ROOT / folder).glob("*.py") if folder == "." else (ROOT / folder).rglob("*.py"))
        for path in [source.relative_to(ROOT)]
        for name in PATH_OF_DOCS.findall(source.read_text())
    }
    assert len(named) > 20
    assert {(path, name) for path, name in named if not (ROOT / name).exists()} == set()
