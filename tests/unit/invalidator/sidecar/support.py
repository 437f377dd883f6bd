"""A namespace that is well, for tests that need one."""

from invalidator.sidecar.daemon import Health

HEALTH = Health(
    namespace="shop",
    path="/run/shop.ledger",
    slots=1024,
    state="live",
    alive=True,
    leased=True,
    proven_age_s=0.1,
    position="7-0",
    flushes=1,
    replays=2,
    reconnects=3,
    received=4,
    names=5,
    refused={},
    last_error=None,
)
