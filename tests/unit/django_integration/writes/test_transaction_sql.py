"""Which texts begin and end a transaction."""

import pytest

from django_integration.transactions.in_sql import Step
from django_integration.writes import transaction_sql
from django_integration.writes.transaction_sql import steps_of

BEGIN, COMMIT, ROLLBACK, MAY_COMMIT = Step("begin"), Step("commit"), Step("roll back"), Step("may commit")


@pytest.mark.parametrize(
    ("text", "steps"),
    [
        ("SELECT 1", []),
        ("BEGIN", [BEGIN]),
        (" begin immediate ;", [BEGIN]),
        ("BEGIN ISOLATION LEVEL SERIALIZABLE", [BEGIN]),
        ("START TRANSACTION READ ONLY", [BEGIN]),
        ("START SLAVE", []),
        ("-- note\nBEGIN", [BEGIN]),
        ("/* note */ BEGIN", [BEGIN]),
        ("COMMIT", [COMMIT]),
        ("COMMIT WORK", [COMMIT]),
        ("END TRANSACTION", [COMMIT]),
        ("COMMIT AND CHAIN", [Step("commit", chains=True)]),
        ("COMMIT AND NO CHAIN", [COMMIT]),
        ("COMMIT PREPARED 'a'", [Step("commit prepared")]),
        ("PREPARE TRANSACTION 'a'", [Step("prepared")]),
        ("PREPARE plan AS SELECT 1", []),
        ("ROLLBACK PREPARED 'a'", []),
        ("ROLLBACK", [ROLLBACK]),
        ("ABORT", [ROLLBACK]),
        ("ROLLBACK AND CHAIN", [Step("roll back", chains=True)]),
        ("SAVEPOINT one", [Step("savepoint", "one")]),
        ('SAVEPOINT "One"', [Step("savepoint", "one")]),
        ("SAVEPOINT `one`;", [Step("savepoint", "one")]),
        ("SAVE TRANSACTION one", [Step("savepoint", "one")]),
        ("RELEASE SAVEPOINT one", [Step("release", "one")]),
        ("RELEASE one", [Step("release", "one")]),
        ("ROLLBACK TO one", [Step("roll back to", "one")]),
        ("ROLLBACK TO SAVEPOINT ONE", [Step("roll back to", "one")]),
        ("ROLLBACK WORK TO SAVEPOINT one", [Step("roll back to", "one")]),
        ("ROLLBACK TRANSACTION one", [Step("roll back to", "one")]),
        ("XA START 'a'", [BEGIN]),
        ("XA END 'a'", []),
        ("XA PREPARE 'a'", [Step("prepared")]),
        ("XA COMMIT 'a' ONE PHASE", [Step("commit prepared")]),
        ("XA ROLLBACK 'a'", [ROLLBACK]),
        ("SET autocommit = 0", [Step("autocommit off")]),
        ("SET @@session.autocommit=OFF", [Step("autocommit off")]),
        ("SET SESSION autocommit := 1", [Step("autocommit on")]),
        ("SET TRANSACTION ISOLATION LEVEL SERIALIZABLE", []),
        ("SET NAMES 'utf8'", []),
        ("UPDATE a SET b = 'x; COMMIT'", []),
        ("UPDATE a SET b = 1; COMMIT", [COMMIT]),
        ("BEGIN; UPDATE a SET b = 1; COMMIT; BEGIN", [BEGIN, COMMIT, BEGIN]),
        ("DO $$ BEGIN UPDATE a SET b = 1; END $$", [MAY_COMMIT]),
        ("CREATE TRIGGER t AFTER INSERT ON a BEGIN UPDATE a SET b = 1; END", [MAY_COMMIT]),
        ("BEGIN NOT ATOMIC UPDATE a SET b = 1; END", [MAY_COMMIT]),
        ("COMMIT --note", [MAY_COMMIT]),
        ("/*!50000 COMMIT */", [MAY_COMMIT]),
        ("BEGIN UPDATE a SET b = 1; END;", [MAY_COMMIT]),
    ],
)
def test_a_text_is_read(text: str, steps: list[Step]) -> None:
    assert list(steps_of(text, defining_commits=False)) == steps


@pytest.mark.parametrize("text", ["CREATE TABLE a (b int)", "drop table a", "TRUNCATE a", "LOCK TABLES a WRITE"])
def test_what_defines_may_commit_where_the_database_does(text: str) -> None:
    assert list(steps_of(text, defining_commits=True)) == [MAY_COMMIT]
    assert list(steps_of(text, defining_commits=False)) == []


def test_a_text_too_long_to_be_read_may_have_committed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transaction_sql, "LONGEST_PARSED", 10)
    assert list(steps_of("BEGIN; SELECT 1", defining_commits=False)) == [MAY_COMMIT]


def test_savepoints_of_django_are_not_parsed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each has another name, and an atomic block inside another sends two of them."""
    monkeypatch.setattr(transaction_sql, "_steps_of", None)
    for text in ('SAVEPOINT "s140_x1"', "RELEASE SAVEPOINT `s140_x1`", 'ROLLBACK TO SAVEPOINT "s140_x1"'):
        assert len(steps_of(text, defining_commits=True)) == 1
