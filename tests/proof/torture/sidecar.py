"""
The process that listens for some of the readers and writers: the library's own sidecar, without a command line.

On its standard input: "q" end.
"""

from __future__ import annotations

import time
from collections import Counter
from pathlib import Path

from invalidator import Config
from invalidator.ledger import POSITION_MS
from invalidator.sidecar import Sidecar

from .worker import NAMESPACE, Orders, Process

LOOK_EVERY_S = 0.02


class SidecarProcess(Process):
    """See the module."""

    def __init__(self, orders: Orders) -> None:
        super().__init__(orders)
        config = Config(namespace=NAMESPACE, max_staleness=orders.max_staleness)
        self.sidecar = Sidecar(orders.url, [config], {NAMESPACE: Path(orders.ledger)})

    def is_leased(self, timeout_s: float) -> bool:
        """Wait for a lease."""
        return all(served.wait_until_leased(timeout_s) for served in self.sidecar.served)

    def tally(self) -> Counter[str]:
        """What the library has counted."""
        tally = Counter[str]()
        for served in self.sidecar.served:
            health = served.health()
            tally.update(flushes=health.flushes, replays=health.replays, reconnects=health.reconnects)
        return tally

    def run(self) -> None:
        """Listen until the order to stop."""
        went_on = any(served.ledger.words[POSITION_MS] for served in self.sidecar.served)
        with self.sidecar:
            self.get_ready(resuming=went_on)
            while "q" not in self.commands():
                self.write_status(if_due=True)
                time.sleep(LOOK_EVERY_S)
            self.write_status()


def main() -> None:
    """Run the sidecar."""
    SidecarProcess(Orders.from_arguments()).run()


if __name__ == "__main__":
    main()
