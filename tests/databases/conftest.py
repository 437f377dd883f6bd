"""Tests of the database servers, and of how tests run on them."""

from tests.databases.chosen import chosen


def pytest_report_header() -> str:
    """Name the database of this run."""
    return f"database: {chosen()}"
