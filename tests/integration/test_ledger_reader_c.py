"""docs/ledger-format.md is enough for another language: its reader in C agrees with ours."""

import random
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import invalidator.ledger.table as ledger_module
from invalidator.entry import Entry, ValidityRule
from invalidator.ledger import (
    FLUSHED_AT,
    HEADER_WORDS,
    LAYOUT_WORD,
    LISTENING_SINCE,
    PROVEN_AT,
    RING,
    Ledger,
    now_ns,
)
from invalidator.ledger.file import LedgerFile, writing
from invalidator.names import key_slot, name_slots, tag_slot
from tests.support import S

DOCS = Path(__file__).parents[2] / "docs"
SLOTS = 1000
QUESTIONS = 250
NAMES = ["a", "product:42", "prices", "größe", "日本語", "x" * 512, "with space", "'", "%s"]

Reader = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="module")
def program(tmp_path_factory) -> Path:
    """The reader of the page, compiled with every warning an error."""
    program = tmp_path_factory.mktemp("reader") / "ledger_reader"
    flags = ["-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror"]
    subprocess.run(["cc", *flags, "-o", program, DOCS / "ledger_reader.c"], check=True)
    return program


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger"


@pytest.fixture
def ledger(path: Path) -> Iterator[Ledger]:
    with writing(path, namespace="shop", slots=SLOTS) as ledger:
        ledger.words[FLUSHED_AT] = ledger.words[LISTENING_SINCE] = 0
        yield ledger


@pytest.fixture
def ask(program: Path, path: Path) -> Reader:
    def ask(*arguments: object, namespace: str = "shop") -> "subprocess.CompletedProcess[str]":
        command = [str(argument) for argument in (program, path, namespace, *arguments)]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    return ask


def test_it_has_less_than_a_hundred_lines() -> None:
    """A format that needs more is too complicated."""
    assert len((DOCS / "ledger_reader.c").read_text().splitlines()) < 100


def test_it_agrees_with_the_rule_for_random_names_and_times(path, ledger, ask) -> None:
    """Keys and tags of any bytes, stamps, flushes and proofs: the same verdict as `ValidityRule`, word for word."""
    choose = random.Random(5)
    view = LedgerFile(path, namespace="shop").view
    verdicts = set()
    for _ in range(QUESTIONS):
        now = now_ns()

        def some_time(now: int = now) -> int:
            """Tens of seconds apart, so that the milliseconds between the two answers do not matter."""
            return now - choose.choice([5, 25, 45]) * S

        ledger.words[PROVEN_AT] = choose.choice([0, some_time()])
        ledger.words[FLUSHED_AT] = choose.choice([0, 0, 0, some_time()])
        ledger.words[LISTENING_SINCE] = choose.choice([0, some_time()])
        key, *tags = choose.choices(NAMES, k=choose.randint(1, 4))
        for slot in name_slots([key, *tags], [key, *tags], SLOTS):
            ledger.words[HEADER_WORDS + slot] = 0
        ledger.stamp(name_slots(choose.sample(NAMES, 1), choose.sample(NAMES, 1), SLOTS), some_time())
        loaded_at, max_staleness = some_time() + S * choose.randint(-2, 2), choose.choice([15, 35, 55])
        rule = ValidityRule(view, now_ns, max_staleness_ns=max_staleness * S)
        expected = rule.check(Entry(1, loaded_at=loaded_at, slots=name_slots([key], tags, SLOTS)))
        answer = ask(max_staleness, loaded_at, key, *tags)
        assert (answer.stdout.strip(), answer.returncode) == (expected, int(expected != "valid")), answer
        verdicts.add(expected)
    assert verdicts == {"valid", "invalidated", "unleased"}


def test_a_stamp_of_the_very_time_of_the_load_voids_it(ledger, ask) -> None:
    """It is unknown which came first."""
    now = now_ns()
    ledger.prove(now)
    ledger.stamp([key_slot("a", SLOTS)], now)
    assert ask(600, now, "a").stdout == "invalidated\n"
    assert ask(600, now + 1, "a").stdout == "valid\n"


def test_no_proof_covers_what_was_loaded_before_the_writer_listened(ledger, ask) -> None:
    """It is served for `max_staleness` after its own load."""
    now = now_ns()
    ledger.listen(now - 50 * S)
    ledger.prove(now)
    assert [ask(600, now - age * S, "a").stdout for age in (700, 55, 45)] == ["unleased\n", "valid\n", "valid\n"]
    assert [ask(30, now - age * S, "a").stdout for age in (55, 50, 45)] == ["unleased\n", "unleased\n", "valid\n"]


def test_a_key_is_not_a_tag(ledger, ask) -> None:
    now = now_ns()
    ledger.prove(now)
    ledger.stamp([tag_slot("a", SLOTS)], now)
    assert ask(600, now, "a").stdout == "valid\n"
    assert ask(600, now, "b", "a").stdout == "invalidated\n"


@pytest.mark.parametrize("length", [1, 63, 64])
def test_namespaces_of_every_length_are_distinguished(tmp_path, program, length) -> None:
    """A name of 64 bytes has no zero at its end."""
    namespace = "n" * length
    with writing(tmp_path / "ledger", namespace=namespace, slots=64):
        for asked, status in ((namespace, 1), (namespace[:-1] + "m", 2), (namespace + "n", 2), ("", 2)):
            command = [program, tmp_path / "ledger", asked, "1", "1", "a"]
            assert subprocess.run(command, capture_output=True, check=False).returncode == status


class TestWhatItRefuses:
    @pytest.mark.parametrize(
        ("damage", "why"),
        [
            (lambda words: words.__setitem__(0, 0), "no ledger of layout 2"),
            (lambda words: words.__setitem__(LAYOUT_WORD, 1), "no ledger of layout 2"),
            (lambda words: words.__setitem__(2, SLOTS + 1), "not that of its slots"),
            (lambda words: words.__setitem__(RING, 1), "not that of its slots"),
            (lambda words: words.__setitem__(PROVEN_AT, now_ns() + 100 * S), "its clock is not ours"),
        ],
    )
    def test_a_header_that_does_not_fit(self, ledger, ask, damage, why) -> None:
        assert ask(1, 1, "a").returncode == 1
        damage(ledger.words)
        answer = ask(1, 1, "a")
        assert (answer.returncode, answer.stdout) == (2, "")
        assert why in answer.stderr

    def test_another_namespace(self, ledger, ask) -> None:
        assert "for another namespace" in ask(1, 1, "a", namespace="bank").stderr

    def test_a_file_that_others_can_write(self, path, ledger, ask) -> None:
        path.chmod(0o660)
        assert "others can write it" in ask(1, 1, "a").stderr

    def test_what_is_no_file(self, path, ask) -> None:
        """A missing one, and a directory; a FIFO must not make it wait."""
        assert ask(1, 1, "a").returncode == 2
        path.mkdir()
        assert ask(1, 1, "a").returncode == 2


def test_the_test_vectors_of_the_page_are_right() -> None:
    """Authors of a reader begin with them."""
    page = (DOCS / "ledger-format.md").read_text()
    rows = re.findall(r"^\| `(.+)` \| `\w+` \| `\w+` \| (\d+) / (\d+) \| (\d+) / (\d+) \|$", page, re.MULTILINE)
    assert len(rows) == 4
    for name, *slots in rows:
        assert [int(slot) for slot in slots] == [
            place(name, count) for count in (2**20, 1000) for place in (key_slot, tag_slot)
        ]


def test_the_page_names_the_words_where_they_are() -> None:
    page = (DOCS / "ledger-format.md").read_text()
    rows = re.findall(r"^\| (\d+) \| (\d+) \| `(\w+)` \|", page, re.MULTILINE)
    ours = {"LAYOUT": "LAYOUT_WORD", "SLOTS": "SLOTS_WORD", "MAGIC": "MAGIC_WORD"}
    assert len(rows) == 13
    for word, offset, name in rows:
        assert int(word) == getattr(ledger_module, ours.get(name, name)), name
        assert int(offset) == 8 * int(word)
    assert f"0x{ledger_module.MAGIC:X}" in page
