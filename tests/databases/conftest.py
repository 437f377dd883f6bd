"""Where there is no server, its tests are not collected: nothing is skipped."""

from tests.databases.chosen import chosen
from tests.databases.servers import SERVERS

collect_ignore = [] if chosen() in SERVERS else ["test_servers.py"]


def pytest_report_header() -> str:
    """Say which database this run is on."""
    return f"database: {chosen()}"
