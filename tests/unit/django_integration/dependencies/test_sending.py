"""Whether there is more in the SQL of a query than the ORM has put there."""

import pytest

from django_integration.dependencies.sending import Sending, has_query


def sending(sql: str, *inner: str, recorded: str | None = None) -> Sending:
    made = Sending()
    made.sql = sql
    made.inner += inner
    made.recorded += [] if recorded is None else [recorded]
    return made


def test_a_query_alone_holds_no_more() -> None:
    assert not sending('SELECT "a"."select", "a"."table" FROM "a"').holds_more()
    assert not Sending().holds_more()


def test_what_a_compiler_has_written_inside_is_no_more() -> None:
    inner, innermost = 'SELECT "b"."x" FROM "b" WHERE y IN (SELECT "c"."y" FROM "c")', 'SELECT "c"."y" FROM "c"'
    assert not sending(f'SELECT "a"."x" FROM "a" WHERE x IN ({inner})', inner, innermost).holds_more()
    assert not sending(f"({inner}) UNION ({innermost})", inner, innermost).holds_more()


@pytest.mark.parametrize("text", ["SELECT 1 FROM b", "select 1 from b", "TABLE b"])
def test_text_is_more(text: str) -> None:
    assert sending(f"SELECT x FROM a WHERE EXISTS ({text})").holds_more()


def test_text_beside_and_inside_of_what_a_compiler_has_written_is_more() -> None:
    inner = 'SELECT "b"."x" FROM "b"'
    assert sending(f"SELECT (SELECT 1) FROM a WHERE x IN ({inner})", inner).holds_more()
    inner = 'SELECT (SELECT 1) FROM "b"'
    assert sending(f"SELECT x FROM a WHERE x IN ({inner})", inner).holds_more()


def test_a_query_that_was_compiled_and_is_not_in_it_hides_no_text() -> None:
    assert sending("SELECT x FROM a WHERE x IN (SELECT 1)", 'SELECT "b"."x" FROM "b"').holds_more()


def test_text_whose_tables_are_recorded_is_no_more() -> None:
    assert not sending("SELECT (SELECT 1) FROM a", recorded="SELECT 1").holds_more()
    assert sending("SELECT (SELECT 1), (SELECT 2) FROM a", recorded="SELECT 1").holds_more()


def test_a_text_may_have_a_query_in_it() -> None:
    assert has_query("(select 1)")
    assert not has_query("selected = 1")
