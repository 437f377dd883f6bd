"""Which versions are old."""

import pytest

from invalidator.requirements import LEAST_HIREDIS, version_numbers


@pytest.mark.parametrize(
    ("version", "numbers"),
    [("3.5.0", (3, 5, 0)), ("3.10.1", (3, 10, 1)), ("4.0", (4, 0)), ("7.2.4-rc1", (7, 2, 4)), ("", ())],
)
def test_the_numbers_of_a_version(version, numbers) -> None:
    assert version_numbers(version) == numbers


def test_ten_is_more_than_nine() -> None:
    assert version_numbers("3.10.0") > version_numbers(LEAST_HIREDIS) > version_numbers("3.4.9")
