"""How versions compare."""

import pytest

from invalidator.requirements import LEAST_HIREDIS, version_numbers


@pytest.mark.parametrize(("text", "numbers"), [("3.10.1", (3, 10, 1)), ("3.5.rc1", (3, 5)), ("", ()), ("unstable", ())])
def test_the_leading_numbers_of_a_version(text: str, numbers: tuple[int, ...]) -> None:
    assert version_numbers(text) == numbers


def test_versions_compare_by_number() -> None:
    assert version_numbers("3.10.0") > version_numbers(LEAST_HIREDIS) > version_numbers("3.4.9") > version_numbers("")
