"""Names that cacheops' tests import. Our own app decides what a transaction sees and publishes."""

from collections import defaultdict


class _States:
    def __init__(self) -> None:
        self._states: defaultdict[str, list[object]] = defaultdict(list)


transaction_states = _States()
queue_when_in_transaction = None
