"""Facts as words, and streams that end."""

import io
import subprocess
import sys

from invalidator.cli.output import NAMES_PER_LINE, accept_any_character, as_words, one_line


def test_facts_that_are_empty_are_left_out() -> None:
    facts = {"keys": ["a", "b"], "tags": [], "node": "", "id": None, "lines": 0}
    assert list(as_words(facts)) == ["keys a b", "lines 0"]


def test_a_name_that_is_not_one_word_is_quoted() -> None:
    assert list(as_words({"keys": ["two words", 'quo"te', "plain"]})) == ['keys "two words" "quo\\"te" plain']


def test_of_many_names_some_are_shown() -> None:
    (words,) = as_words({"keys": [str(number) for number in range(NAMES_PER_LINE + 5)]})
    assert words.endswith(f"{NAMES_PER_LINE - 1} … and 5 more")


def test_one_line_stays_one_line() -> None:
    assert one_line("a\nb\x1b[2Jc") == "a\\nb\\u001b[2Jc"
    assert one_line("größer …") == "größer …"


def test_a_terminal_that_knows_fewer_characters_gets_escapes() -> None:
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    accept_any_character(stream)
    stream.write("…")
    stream.flush()
    assert stream.buffer.getvalue() == b"\\u2026"  # type: ignore[attr-defined]
    accept_any_character(io.StringIO())


def test_a_stream_that_nobody_reads_is_dropped() -> None:
    """What is still in its buffer goes nowhere, and the interpreter ends quietly."""
    code = (
        "import os, sys; from invalidator.cli.output import drop_output; "
        "sys.stdout.write('left'); drop_output(sys.stdout)"
    )
    done = subprocess.run([sys.executable, "-E", "-c", code], check=False, capture_output=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
