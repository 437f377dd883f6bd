"""What an Invalidator reports about itself can be printed as JSON."""

import json

from invalidator import Invalidator
from invalidator.status import CAUSES, Invalidation, Past, Stats, Status


def stats(**counts: int) -> Stats:
    zero = dict.fromkeys(("hits", "misses", "loads", "load_failures", "joins", "fills", "refused_fills"), 0)
    return Stats(**{**zero, **counts}, evictions=dict.fromkeys(CAUSES, 0), size=1, maxsize=2)


def test_stats_are_ready_for_json() -> None:
    told = json.loads(json.dumps(stats(hits=3, misses=1).as_dict()))
    assert told["hit_ratio"] == 0.75
    assert told["evictions"] == {"invalidated": 0, "expired": 0, "room": 0, "hand": 0, "changed": 0}


def test_before_the_first_read_nothing_was_hit() -> None:
    assert stats().hit_ratio == 0


def test_a_status_is_ready_for_json() -> None:
    with Invalidator("memory://", namespace="status") as bus:
        status = bus.status()
        told = json.loads(json.dumps(status.as_dict()))
    assert set(told) == set(Status.__dataclass_fields__)
    assert (told["state"], told["leased"], told["last_flush"], told["last_error"]) == ("idle", False, None, None)


def test_what_happened_is_reported_with_its_age() -> None:
    assert Past("cut", 1.5).age_s == 1.5


def test_a_flush_is_no_message() -> None:
    def heard(everything: bool, reason: str) -> Invalidation:
        return Invalidation((), (), everything, reason, "", "")

    assert heard(False, "invalidate").is_message
    assert heard(True, "clear").is_message
    assert not heard(True, "first subscription").is_message
