"""Reading what a server answers."""

from invalidator.protocol.frames import parse_info, to_text


def test_the_fields_of_info() -> None:
    """A value may hold colons; headings and empty lines are no fields."""
    answer = b"# Server\r\nrun_id:abc\r\n\r\nexecutable:C:\\redis\r\n"
    assert parse_info(answer) == {"run_id": "abc", "executable": "C:\\redis"}
    assert parse_info(answer.decode()) == parse_info(answer)


def test_text_of_what_is_no_utf_8() -> None:
    assert to_text(b"a\xff") == "a\N{REPLACEMENT CHARACTER}"
    assert to_text("a") == "a"
    assert to_text(7) == "7"
