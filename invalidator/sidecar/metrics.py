"""
The sidecar's metrics for Prometheus, computed from `Health` when they are scraped.

They need the extra `prometheus`. Without it, `exposition` raises ImportError, and nothing else changes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import version
from typing import TYPE_CHECKING

from ..protocol.states import State
from .daemon import Health

if TYPE_CHECKING:
    from prometheus_client import Metric

PREFIX = "invalidator_sidecar"

GAUGES: dict[str, tuple[str, Callable[[Health], float | None]]] = {
    "alive": ("Whether the listener makes progress, connected or not.", lambda health: health.alive),
    "leased": ("Whether workers with the same bound hold a lease.", lambda health: health.leased),
    "proven_age_seconds": ("Seconds since the last proof; none before the first.", lambda health: health.proven_age_s),
    "slots": ("Slots of the ledger.", lambda health: health.slots),
}
COUNTERS: dict[str, tuple[str, Callable[[Health], float]]] = {
    "messages_received": ("Messages that came over the subscription.", lambda health: health.received),
    "names_applied": ("Keys and tags applied to the ledger.", lambda health: health.names),
    "flushes": ("How often everything was voided.", lambda health: health.flushes),
    "replays": ("How often the journal was caught up with.", lambda health: health.replays),
    "reconnects": ("How often the connection was lost.", lambda health: health.reconnects),
}


def exposition(look: Callable[[], Sequence[Health]], accept: str) -> tuple[bytes, str]:
    """
    Return all metrics in a format of Prometheus, and the content type.

    Args:
        look: returns the state of each namespace.
        accept: the `Accept` header of the scraper, which names the formats that it reads.

    Raises:
        ImportError: prometheus_client is not installed.
    """
    from prometheus_client import CollectorRegistry, ProcessCollector
    from prometheus_client.exposition import choose_encoder
    from prometheus_client.registry import Collector

    class SidecarCollector(Collector):
        def collect(self) -> Iterator[Metric]:
            return collect(look())

    registry = CollectorRegistry()  # not the default registry, which holds the application's metrics
    registry.register(SidecarCollector())
    ProcessCollector(registry=registry)
    encode, content_type = choose_encoder(accept)
    return encode(registry), content_type


def collect(healths: Sequence[Health]) -> Iterator[Metric]:
    """Yield the metrics of *healths*, one family after the other."""
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily

    yield InfoMetricFamily(PREFIX, "The sidecar.", value={"version": version("invalidator")})
    for name, (text, read) in GAUGES.items():
        gauge = GaugeMetricFamily(f"{PREFIX}_{name}", text, labels=["namespace"])
        for health in healths:
            value = read(health)
            if value is not None:
                gauge.add_metric([health.namespace], value)
        yield gauge
    for name, (text, count) in COUNTERS.items():
        counter = CounterMetricFamily(f"{PREFIX}_{name}", text, labels=["namespace"])
        for health in healths:
            counter.add_metric([health.namespace], count(health))
        yield counter
    refused = CounterMetricFamily(
        f"{PREFIX}_messages_refused", "Messages that could not be read.", labels=["namespace", "reason"]
    )
    state = GaugeMetricFamily(f"{PREFIX}_state", "1 for the state of the subscription.", labels=["namespace", "state"])
    for health in healths:
        for reason, times in health.refused.items():
            refused.add_metric([health.namespace, reason], times)
        for each in State:
            state.add_metric([health.namespace, each], health.state == each)
    yield refused
    yield state
