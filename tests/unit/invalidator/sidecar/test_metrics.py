"""The numbers for Prometheus; test_http.py reads them as a scraper does."""

from dataclasses import fields, replace

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from invalidator.sidecar.daemon import Health
from invalidator.sidecar.metrics import COUNTERS, GAUGES, PREFIX, exposition
from tests.unit.invalidator.sidecar.support import HEALTH

BLOG = replace(HEALTH, namespace="blog", leased=False, proven_age_s=None, state="connecting", refused={"malformed": 2})


def samples(accept: str = "") -> dict[tuple[str, ...], float]:
    """Values by name and labels' values."""
    body, content_type = exposition(lambda: [HEALTH, BLOG], accept)
    parse = parse_openmetrics if "openmetrics" in content_type else parse_text
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in parse(body.decode())
        for sample in family.samples
    }


@pytest.mark.parametrize("accept", ["", "application/openmetrics-text; version=1.0.0"])
def test_a_scraper_reads_them_in_either_format(accept: str) -> None:
    found = samples(accept)
    assert found[f"{PREFIX}_leased", "shop"] == 1
    assert found[f"{PREFIX}_leased", "blog"] == 0
    assert found[f"{PREFIX}_names_applied_total", "shop"] == 5
    assert found[f"{PREFIX}_messages_refused_total", "blog", "malformed"] == 2
    assert found[f"{PREFIX}_state", "blog", "connecting"] == 1


def test_what_was_never_proven_has_no_age() -> None:
    """A zero would look as fresh as can be."""
    found = samples()
    assert (f"{PREFIX}_proven_age_seconds", "shop") in found
    assert (f"{PREFIX}_proven_age_seconds", "blog") not in found


def test_every_number_of_a_health_is_told() -> None:
    """Who adds one to `Health` adds it here, or says in this test why not."""
    words = {"namespace", "path", "position", "last_error"}  # no numbers
    told = len(GAUGES) + len(COUNTERS) + len({"refused", "state"})
    assert told == len(fields(Health)) - len(words)


def test_a_second_scrape_is_not_a_second_registration() -> None:
    assert samples().keys() == samples().keys()
