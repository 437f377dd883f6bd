"""What helps those who come after: the hooks before a commit and the workflow run what everybody else runs."""

import configparser
import re
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]


def read(name: str) -> Any:
    return yaml.safe_load((ROOT / name).read_text())


def commands_of_make_check() -> list[str]:
    """The recipe of the target, without comments."""
    recipe = re.search(r"^check:.*\n((?:\t.*\n)+)", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert recipe is not None
    lines = [line.partition(" # ")[0].strip() for line in recipe[1].splitlines()]
    return [line.replace("$(BIN)", ".venv/bin") for line in lines]


def test_the_hooks_before_a_commit_are_the_parts_of_make_check() -> None:
    """A part that is added to one of them and not to the other lets a commit through that `make check` refuses."""
    hooks = [hook for repo in read(".pre-commit-config.yaml")["repos"] for hook in repo["hooks"]]
    assert [hook["entry"].removeprefix("env ") for hook in hooks] == commands_of_make_check()


def test_the_hooks_download_no_tools() -> None:
    """The versions are those of .venv, for everybody."""
    repos = read(".pre-commit-config.yaml")["repos"]
    assert {repo["repo"] for repo in repos} == {"local"}
    assert {hook["language"] for repo in repos for hook in repo["hooks"]} == {"system"}


def test_the_workflow_runs_what_must_pass() -> None:
    steps = [step for job in read(".github/workflows/ci.yml")["jobs"].values() for step in job["steps"]]
    assert any("bash .ci/run" in step.get("run", "") for step in steps)


def test_editors_and_the_formatter_agree() -> None:
    settings = configparser.ConfigParser()
    settings.read_string("[root]\n" + (ROOT / ".editorconfig").read_text())
    line_length = re.search(r"^line-length = (\d+)", (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert line_length is not None
    assert settings["*"]["max_line_length"] == line_length[1]
    assert settings["Makefile"]["indent_style"] == "tab"
