"""What the doctor finds."""

from invalidator.doctor.findings import Finding


def test_a_finding_can_be_printed_as_json() -> None:
    finding = Finding(check="clock", level="ok", found="CLOCK_BOOTTIME")
    assert finding.as_dict() == {"check": "clock", "level": "ok", "found": "CLOCK_BOOTTIME", "means": "", "repair": ""}
