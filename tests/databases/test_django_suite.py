"""How the results of Django's own suite are compared with those without this app."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.databases.django_suite import __main__ as suite
from tests.databases.django_suite.__main__ import Results, compare, label_of, places
from tests.databases.django_suite.what import DIFFERENCES, NOT_MODELS, USUAL, all_labels
from tests.databases.servers import PostgreSQL

DIFFERENT = next(iter(DIFFERENCES))


@dataclass
class Fake:
    """Has these results with the app, and fails these tests without it."""

    results: Results
    fails_as_ever: tuple[str, ...] = ()
    ran: list[tuple[str, list[str]]] = field(default_factory=list)

    def run(self, mode: str, databases: dict[str, Any], labels: list[str]) -> Results:
        self.ran.append((mode, labels))
        if mode == "plain":
            return {test: ("failed" if test in self.fails_as_ever else "passed", "") for test in labels}
        return self.results


def wrong(fake: Fake) -> list[str]:
    return compare(fake, "recorded", {}, ["queries"])[1]  # type: ignore[arg-type]


def test_all_is_well_if_all_pass() -> None:
    fake = Fake({"a.tests.A.test_x": ("passed", ""), "a.tests.A.test_y": ("skipped", "no feature")})
    assert wrong(fake) == []
    assert fake.ran == [("recorded", ["queries"])], "nothing has to be run without the app"


def test_what_fails_with_the_app_alone_is_wrong() -> None:
    fake = Fake({"a.tests.A.test_x": ("failed", "2 != 1"), "a.tests.A.test_y": ("failed", "")}, ("a.tests.A.test_y",))
    assert wrong(fake) == ["a.tests.A.test_x\n2 != 1"]
    assert fake.ran[1:] == [("plain", ["a.tests.A.test_x", "a.tests.A.test_y"])]


def test_a_difference_that_is_meant_to_be_is_none_and_must_be_one() -> None:
    """A list that nobody shortens would hide the next difference of the same test."""
    assert wrong(Fake({DIFFERENT: ("failed", "")})) == []
    assert wrong(Fake({DIFFERENT: ("passed", "")})) == [f"{DIFFERENT} is listed as a difference, and passes"]
    assert wrong(Fake({"another": ("passed", "")})) == [], "not among the labels that were run"


def test_each_difference_says_why_it_is_right() -> None:
    assert all(len(why) > 20 for why in DIFFERENCES.values())


def test_a_class_that_cannot_be_set_up_is_run_again_by_its_name() -> None:
    assert label_of("a.tests.A.test_x") == "a.tests.A.test_x"
    assert label_of("setUpClass (a.tests.A)") == "a.tests.A"


def test_everything_about_models_is_every_package_of_tests_but_those_named(tmp_path: Path) -> None:
    for name in ("queries", "template_tests", "fixtures"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").touch()
    (tmp_path / "templates").mkdir()
    (tmp_path / "runtests.py").touch()
    assert list(all_labels(tmp_path)) == ["fixtures", "queries"]
    assert not {label.partition(".")[0] for label in USUAL} & NOT_MODELS


def test_two_runs_on_one_server_have_databases_of_their_own() -> None:
    server = PostgreSQL()
    names = [entry["NAME"] for mode in suite.MODES for entry in places("postgresql", mode, server).values() if entry]
    assert len(set(names)) == 4
    assert all(entry["ENGINE"].endswith("sqlite3") for entry in places("sqlite", "recorded", None).values())


def test_a_run_that_ends_without_results_is_an_error(tmp_path: Path) -> None:
    broken = suite.Suite(Path("/bin/false"), tmp_path)
    with pytest.raises(RuntimeError, match="ended with 1"):
        broken.run("plain", {}, [])
