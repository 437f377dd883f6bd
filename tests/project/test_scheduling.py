"""How several processes share the tests: the files that tests/scheduling.py names are there."""

from pathlib import Path

import pytest

from tests.scheduling import CUT, LONG, place_of, unit_of

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("path", LONG)
def test_a_long_file_is_there(path: str) -> None:
    assert (ROOT / path).is_file()


def test_a_file_that_is_cut_is_a_long_one() -> None:
    assert set(LONG) >= CUT


def test_the_tests_of_a_file_stay_together_unless_it_is_cut() -> None:
    assert unit_of("tests/databases/test_matrix.py::test_x[a::b]") == "tests/databases/test_matrix.py"
    assert unit_of("tests/acceptance/test_demo.py::test_x[2]") == "tests/acceptance/test_demo.py::test_x[2]"


def test_long_files_start_first_and_the_others_keep_their_order() -> None:
    nodeids = ["tests/a.py::test_x", f"{LONG[1]}::test_x", "tests/b.py::test_x", f"{LONG[0]}::test_x"]
    assert sorted(nodeids, key=place_of) == [nodeids[3], nodeids[1], nodeids[0], nodeids[2]]
