"""What the doctor finds, and how versions compare."""

import pytest

from invalidator.doctor.findings import Finding, version_numbers


def test_a_finding_can_be_printed_as_json() -> None:
    finding = Finding(check="clock", level="ok", found="CLOCK_BOOTTIME")
    assert finding.as_dict() == {"check": "clock", "level": "ok", "found": "CLOCK_BOOTTIME", "means": "", "repair": ""}


@pytest.mark.parametrize(("text", "numbers"), [("3.10.1", (3, 10, 1)), ("3.5.rc1", (3, 5)), ("", ()), ("unstable", ())])
def test_the_leading_numbers_of_a_version(text: str, numbers: tuple[int, ...]) -> None:
    assert version_numbers(text) == numbers


def test_versions_compare_by_number() -> None:
    assert version_numbers("3.10.0") > version_numbers("3.9.9") > version_numbers("")
