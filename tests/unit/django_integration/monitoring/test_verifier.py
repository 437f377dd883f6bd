"""What is stale and was never invalidated is found, and nothing else is called so."""

import json
import logging
import os
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from django.db import OperationalError, connection

from django_integration import bus, cache, invalidate, observing, runtime, tag
from django_integration.monitoring import verifier
from django_integration.monitoring.status import look
from django_integration.monitoring.verifier import MOST_FINDINGS, Counts, Finding, Verifier
from django_integration.reads.default_cache import default_cache
from django_integration.testing import IsolatedBus, isolated
from invalidator import Invalidator

from ..zoo.models import Cage

QUICK = {"MAX_STALENESS": 0.6}


@pytest.fixture(autouse=True)
def memory() -> Iterator[IsolatedBus]:
    with isolated(**QUICK) as memory:
        yield memory


class Source:
    """A value that somebody changes; asked through the cache."""

    def __init__(self, value: Any = 1) -> None:
        self.value = value
        self.loads = 0

    def load(self) -> Any:
        self.loads += 1
        if isinstance(self.value, Exception):
            raise self.value
        return self.value

    def ask(self, key: str = "a", tags: tuple[str, ...] = ("t",)) -> Any:
        return cache.get_or_set(key, self.load, tags=tags)


class reviewing:  # noqa: N801 - reads as a function
    """A verifier of every hit inside the block, all of whose suspects are judged after it."""

    def __init__(self, **options: Any) -> None:
        self.verifier = Verifier(**{"settle_s": 0, **options})

    def __enter__(self) -> Verifier:
        observing.review(self.verifier)
        return self.verifier

    def __exit__(self, *error: object) -> None:
        observing.end_review(self.verifier)
        self.verifier.wait()


def findings(verifier: Verifier) -> list[Finding]:
    return list(verifier.report().findings)


def test_what_changed_and_was_not_invalidated_is_found(caplog: pytest.LogCaptureFixture) -> None:
    source = Source({"price": 1})
    with reviewing() as verifier:
        source.ask()
        source.ask()
        assert verifier.report().counts == Counts(reloaded=1, same=1)
        source.value = {"price": 2}
        assert source.ask() == {"price": 1}, "it is served as it would be"
    (found,) = findings(verifier)
    assert (found.key, found.tags, found.cache) == ("a", ("t",), "cache, cached")
    assert found.age_s >= 0
    assert str(found.difference) == "['price']: 1 → 2"
    assert verifier.report().counts == Counts(reloaded=2, same=1, stale=1)
    (record,) = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert record.getMessage().startswith("stale_read key='a'")
    assert "tags=['t'] where=\"['price']\"" in record.getMessage()
    assert "2" not in record.getMessage().partition("tags")[2], "values may be personal"


def test_a_finding_leaves_the_cache() -> None:
    """It would be served on, and found at every hit."""
    source = Source()
    source.ask()
    source.value = 2
    with reviewing():
        source.ask()
    assert source.ask() == 2


def test_an_invalidation_that_is_on_its_way_is_no_finding() -> None:
    """The commit is done, the loader sees it, and the message is not sent yet."""
    source = Source()
    source.ask()
    verifier = Verifier()
    observing.review(verifier)
    source.value = 2
    source.ask()
    invalidate(tag("t"))
    observing.end_review(verifier)
    assert verifier.wait().counts == Counts(reloaded=1, invalidated=1)


def test_an_invalidation_that_another_server_accepted_in_time_is_waited_for(memory: IsolatedBus) -> None:
    """It was accepted and not heard yet: only a proof of later than that tells."""
    source = Source()
    source.ask()
    other = memory.other_server(max_staleness=30)
    with memory.delayed():
        source.value = 2
        other.invalidate(tags=["t"])
        verifier = Verifier(settle_s=0)
        observing.review(verifier)
        source.ask()
        observing.end_review(verifier)
        assert verifier.report().counts.reloaded == 1
    assert verifier.wait().counts.invalidated == 1


def test_without_a_proof_nothing_is_decided(memory: IsolatedBus, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verifier, "PROOFS", 1)
    source = Source()
    source.ask()
    source.value = 2
    with memory.delayed(), reviewing() as reviewer:
        source.ask()
        assert reviewer.wait().counts == Counts(reloaded=1, undecided=1)


def test_what_is_different_at_each_load_is_said_apart() -> None:
    class Ticking(Source):
        def load(self) -> Any:
            self.loads += 1
            return self.loads

    source = Ticking()
    source.ask("clock")
    with reviewing() as verifier:
        source.ask("clock")
    report = verifier.report()
    assert report.counts == Counts(reloaded=1, not_deterministic=1)
    assert report.not_deterministic == ("clock",)
    assert report.findings == ()


def test_a_row_that_is_gone_is_found() -> None:
    source = Source()
    source.ask()
    source.value = Cage.DoesNotExist("no such cage")
    with reviewing() as verifier:
        assert source.ask() == 1
    (found,) = findings(verifier)
    assert found.difference.is_now == "DoesNotExist: no such cage"


def test_a_database_that_is_away_says_nothing() -> None:
    source = Source()
    source.ask()
    source.value = OperationalError("away")
    with reviewing() as verifier:
        assert source.ask() == 1
    assert verifier.report().counts == Counts(reloaded=1, not_reloaded=1)


def test_a_database_that_goes_away_says_nothing() -> None:
    class Failing(Source):
        def load(self) -> Any:
            self.loads += 1
            if self.loads == 3:
                raise OperationalError("away")
            return self.loads

    source = Failing()
    source.ask()
    with reviewing() as verifier:
        source.ask()
    assert verifier.report().counts == Counts(reloaded=1, not_reloaded=1)


def test_a_write_that_tells_nobody_is_found(db: None) -> None:
    """The row is equal, by its primary key, and its columns are not."""
    Cage.objects.create(pk=1, name="old")

    def ask() -> Any:
        return cache.get_or_set("cage", lambda: Cage.objects.get(pk=1), tags=["zoo.cage:1"])

    ask()
    with reviewing() as verifier:
        driver = connection.connection.cursor()  # past Django, as a script in another language would
        driver.execute("UPDATE zoo_cage SET name = 'new' WHERE id = 1")
        connection.connection.commit()
        ask()
    (found,) = findings(verifier)
    assert str(found.difference) == ".name: 'old' → 'new'"
    assert set(found.tags) == {"zoo.cage:1", "zoo.cage:*"}


def test_patterns_are_ignored() -> None:
    source = Source()
    source.ask("clock:1")
    source.ask("a")
    with reviewing(ignore=["clock:*"]) as verifier:
        source.ask("clock:1")
        assert verifier.report().counts.reloaded == 0
        source.ask("a")
        assert verifier.report().counts.reloaded == 1


def test_it_takes_its_share_of_the_hits() -> None:
    source = Source()
    source.ask()
    with reviewing(share=0.5) as verifier:
        for _ in range(400):
            source.ask()
    assert 100 < verifier.report().counts.reloaded < 300


def test_it_reloads_no_more_often_than_it_may() -> None:
    source = Source()
    source.ask()
    with reviewing(per_second=0.001) as verifier:
        for _ in range(10):
            source.ask()
    assert verifier.report().counts == Counts(reloaded=1, same=1, skipped=9)


def test_only_so_much_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verifier, "MOST_SUSPECTS", 2)
    sources = [Source() for _ in range(4)]
    for number, source in enumerate(sources):
        source.ask(str(number))
        source.value = 2
    reviewer = Verifier(settle_s=60)
    observing.review(reviewer)
    for number, source in enumerate(sources):
        source.ask(str(number))
    observing.end_review(reviewer)
    assert reviewer.report().counts == Counts(reloaded=4, undecided=2)
    reviewer.end()
    assert reviewer.wait().counts == Counts(reloaded=4, undecided=4)
    assert reviewer._findings.maxlen == MOST_FINDINGS


def test_the_setting_begins_and_ends_with_the_bus() -> None:
    assert verifier.report() is None
    with isolated(**QUICK, VERIFY=1.0, VERIFY_IGNORE=["clock:*"]):
        source = Source()
        source.ask()
        source.ask()
        report = verifier.report()
        assert report is not None
        assert report.counts == Counts(reloaded=1, same=1)
    assert verifier.report() is None
    source.ask()
    assert type(default_cache()).__name__ == "NearCache"


def test_the_setting_is_in_the_status() -> None:
    assert look()["verifier"] is None
    with isolated(**QUICK, VERIFY=1.0):
        source = Source({"price": 1})
        source.ask()
        source.value = {"price": 2}
        source.ask()
        reviewer = verifier._of_the_setting.verifier
        assert reviewer is not None
        reviewer.wait()
        shown = json.loads(json.dumps(look()))["verifier"]
    assert shown["counts"]["stale"] == 1
    (found,) = shown["findings"]
    assert (found["key"], found["tags"], found["difference"]) == ("a", ["t"], {"where": "['price']"})


def test_a_forked_child_judges_for_itself() -> None:
    with isolated(**QUICK, VERIFY=1.0):
        source = Source()
        source.ask()
        reviewer = verifier._of_the_setting.verifier
        assert reviewer is not None
        with reviewer._lock.lock:
            pid = os.fork()
            if pid == 0:
                os._exit(0 if reviewer._lock.lock.acquire(timeout=5) else 1)
        assert os.waitpid(pid, 0)[1] == 0


def test_its_thread_ends_when_all_is_judged() -> None:
    source = Source()
    source.ask()
    source.value = 2
    with reviewing():
        source.ask()
    names = [thread.name for thread in threading.enumerate()]
    for thread in threading.enumerate():
        if thread.name == "invalidator-verifier":
            thread.join(20)
            assert not thread.is_alive(), names


def test_whatever_is_raised_while_it_judges_does_not_end_its_thread(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A callback for evictions that ends the program, say: the others would never be judged."""
    judge = verifier._judge
    errors = iter([SystemExit()])

    def judge_or_fail(suspect: verifier._Suspect) -> str:
        for error in errors:
            raise error
        return judge(suspect)

    monkeypatch.setattr(verifier, "_judge", judge_or_fail)
    for _ in range(2):
        source = Source()
        source.ask()
        source.value = 2
        with reviewing():
            source.ask()
    assert caplog.text.count("verifier_failed") == 1


def test_it_works_on_a_bus_that_was_closed() -> None:
    source = Source()
    source.ask()
    source.value = 2
    reviewer = Verifier(settle_s=0.2)
    observing.review(reviewer)
    source.ask()
    observing.end_review(reviewer)
    made: Invalidator = bus()
    runtime.reset()
    assert made.status().state == "closed"
    assert reviewer.wait().counts == Counts(reloaded=1, undecided=1)
