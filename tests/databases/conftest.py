"""Tests of the databases that tests are on."""

from tests.databases.chosen import chosen


def pytest_report_header() -> str:
    """Say which database this run is on."""
    return f"database: {chosen()}"
