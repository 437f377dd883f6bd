"""Which tables a text of SQL reads."""

import pytest

from django_integration.sql.reads import Reading, read
from django_integration.sql.words import LONGEST_PARSED

CAGE, FOOD, NOTE = "zoo_cage", "zoo_food", "zoo_note"

READS: dict[str, set[str]] = {
    "SELECT * FROM zoo_cage": {CAGE},
    "select\n*\nfrom\nZOO_Cage": {CAGE},
    'SELECT * FROM "public"."zoo_cage" JOIN `db`.`zoo_food` USING (id)': {CAGE, FOOD},
    "SELECT * FROM [zoo_cage], main.zoo_food": {CAGE, FOOD},
    "SELECT * FROM 'zoo_cage'": {CAGE},
    "SELECT c.a, b FROM zoo_cage AS c, zoo_food f, zoo_note WHERE c.id = f.id ORDER BY a, b": {CAGE, FOOD, NOTE},
    "SELECT * FROM zoo_cage LEFT OUTER JOIN zoo_food ON true NATURAL JOIN zoo_note": {CAGE, FOOD, NOTE},
    "SELECT STRAIGHT_JOIN a FROM zoo_cage STRAIGHT_JOIN zoo_food": {CAGE, FOOD},
    "SELECT * FROM ((zoo_cage a CROSS JOIN zoo_food b) JOIN zoo_note c ON a.x = c.x)": {CAGE, FOOD, NOTE},
    "SELECT * FROM zoo_cage LEFT JOIN (zoo_food, zoo_note) ON true": {CAGE, FOOD, NOTE},
    "SELECT * FROM ONLY zoo_cage*, ONLY (zoo_food)": {CAGE, FOOD},
    "SELECT (SELECT MAX(x) FROM zoo_food), 1 FROM zoo_cage": {CAGE, FOOD},
    "SELECT * FROM zoo_cage WHERE EXISTS (SELECT 1 FROM zoo_food) AND x IN (TABLE zoo_note)": {CAGE, FOOD, NOTE},
    "SELECT * FROM (SELECT * FROM zoo_cage) AS c, LATERAL (SELECT * FROM zoo_food) f": {CAGE, FOOD},
    "(SELECT a FROM zoo_cage) UNION ALL (SELECT b FROM zoo_food) EXCEPT SELECT c FROM zoo_note": {CAGE, FOOD, NOTE},
    "TABLE zoo_cage": {CAGE},
    "VALUES (1), (2)": set(),
    "SELECT * FROM (VALUES (1), (2)) AS v(a, b), zoo_cage": {CAGE},
    "SELECT 1": set(),
    "SELECT now(), version()": set(),
    "SELECT 1 FROM dual": set(),
    "SELECT EXTRACT(year FROM x), SUBSTRING(y FROM 1 FOR 2), TRIM(BOTH ' ' FROM z) FROM zoo_cage": {CAGE},
    "SELECT POSITION('x' IN y), OVERLAY(a PLACING b FROM 1) FROM zoo_cage, zoo_food": {CAGE, FOOD},
    "SELECT * FROM zoo_cage WHERE a IS NOT DISTINCT FROM b OR a IS DISTINCT FROM c": {CAGE},
    "SELECT DISTINCT ON (a) b FROM zoo_cage": {CAGE},
    "SELECT 'x FROM zoo_food', 'it''s' FROM zoo_cage -- FROM zoo_note\n/* FROM zoo_note */": {CAGE},
    "SELECT $$ FROM zoo_food $$ FROM zoo_cage": {CAGE},
    "SELECT * FROM generate_series(1, 3) AS g(n), unnest(ARRAY[1]) WITH ORDINALITY AS t(x, n), zoo_cage": {CAGE},
    "SELECT * FROM ROWS FROM (unnest(a), json_each(b)) AS x, zoo_cage": {CAGE},
    "SELECT g.n FROM generate_series(1, 3) g(n)": set(),
    "SELECT count(*) FILTER (WHERE a > 1) OVER (PARTITION BY b ORDER BY c) FROM zoo_cage WINDOW w AS (ORDER BY x)": {
        CAGE
    },
    "SELECT a FROM zoo_cage GROUP BY ROLLUP (a, b), (c, d) HAVING x > 1 LIMIT 1 OFFSET 2": {CAGE},
    "SELECT * FROM zoo_cage PARTITION (p0) FORCE INDEX (a, b), zoo_food FOR UPDATE OF zoo_cage": {CAGE, FOOD},
    "SELECT * FROM zoo_cage TABLESAMPLE SYSTEM (10), zoo_food": {CAGE, FOOD},
    "SELECT * FROM zoo_cage FOR SYSTEM_TIME AS OF '2026-01-01', zoo_food": {CAGE, FOOD},
    "SELECT CASE WHEN a THEN b ELSE c END, x::decimal(1, 2), CAST(%s AS varchar(10)) FROM zoo_cage": {CAGE},
    "SELECT * FROM zoo_cage WHERE x = ANY(%s) AND y = %(y)s AND z = :z LIMIT %s": {CAGE},
    "WITH c AS (SELECT * FROM zoo_cage), f(x, y) AS MATERIALIZED (SELECT * FROM c) SELECT * FROM f, zoo_food": {
        CAGE,
        FOOD,
    },
    "WITH zoo_cage AS (SELECT * FROM zoo_food) SELECT * FROM zoo_cage, ZOO_CAGE AS b": {FOOD},
    "WITH zoo_cage AS (SELECT * FROM zoo_cage WHERE x = 1) SELECT * FROM zoo_cage": {CAGE},
    "WITH zoo_cage AS (SELECT 1 FROM zoo_food) SELECT * FROM public.zoo_cage": {CAGE, FOOD},
    'WITH "x" AS (SELECT 1 FROM zoo_food) SELECT * FROM x': {FOOD},
    "SELECT * FROM (WITH zoo_cage AS (SELECT 1) SELECT * FROM zoo_cage) q, zoo_cage": {CAGE},
    "WITH RECURSIVE t(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM t JOIN zoo_cage ON true) SELECT * FROM t": {CAGE},
    "WITH RECURSIVE a AS (SELECT * FROM b), b AS (SELECT 1 FROM zoo_food) SELECT * FROM a": {FOOD},
    "WITH RECURSIVE t AS (SELECT 1 FROM t) CYCLE n SET c USING p, u AS (SELECT 1) SELECT * FROM t, u, zoo_note": {NOTE},
    "WITH gone AS (DELETE FROM zoo_cage RETURNING *) SELECT * FROM gone": {CAGE},
    "WITH new AS (INSERT INTO zoo_cage (a) VALUES (1) RETURNING id) SELECT * FROM new": {CAGE},
    "WITH up AS (UPDATE zoo_cage SET a = 1 RETURNING *) SELECT * FROM up": {CAGE},
    "INSERT INTO zoo_note (name) SELECT name FROM zoo_cage": {CAGE},
    "INSERT INTO zoo_note (a) WITH x AS (SELECT 1 FROM zoo_cage) SELECT * FROM x": {CAGE},
    "INSERT INTO zoo_note VALUES (1)": set(),
    "REPLACE INTO zoo_note SELECT * FROM zoo_cage": {CAGE},
    "UPDATE zoo_note SET name = f.name FROM zoo_cage f WHERE x = 1": {CAGE},
    "UPDATE zoo_note SET name = 'x'": set(),
    "DELETE FROM zoo_note": set(),
    "DELETE FROM zoo_note WHERE id IN (SELECT id FROM zoo_cage)": {CAGE},
    "DELETE FROM zoo_note USING zoo_cage": {CAGE},
    "MERGE INTO zoo_note n USING zoo_cage c ON n.id = c.id WHEN MATCHED THEN UPDATE SET name = ''": {CAGE},
    "COPY zoo_cage TO STDOUT": {CAGE},
    "COPY public.zoo_cage (a, b) TO '/tmp/x'": {CAGE},
    "COPY (SELECT * FROM zoo_cage) TO STDOUT": {CAGE},
    "COPY zoo_cage FROM STDIN": set(),
    "EXPLAIN ANALYZE SELECT * FROM zoo_cage": {CAGE},
    "DECLARE c CURSOR FOR SELECT * FROM zoo_cage": {CAGE},
    "FETCH 10 FROM c": set(),
    "PREPARE p AS SELECT * FROM zoo_cage": {CAGE},
    "CREATE TABLE x AS SELECT * FROM zoo_cage": {CAGE},
    "CREATE TABLE x (y int REFERENCES zoo_food ON DELETE CASCADE)": set(),
    "SET @x = (SELECT MAX(id) FROM zoo_cage)": {CAGE},
    "SELECT a INTO @x FROM zoo_cage": {CAGE},
    "SELECT 1 FROM zoo_cage; SELECT 2 FROM zoo_food": {CAGE, FOOD},
    "SELECT * FROM zoo_cage c WITH (NOLOCK) JOIN zoo_food f WITH (NOLOCK) ON 1=1": {CAGE, FOOD},
    "SAVEPOINT x": set(),
    "PRAGMA table_info(zoo_cage)": set(),
}


@pytest.mark.parametrize("text", READS)
def test_the_tables_that_are_read(text: str) -> None:
    reading = read(text)
    assert set(reading.tables) == READS[text]
    assert not reading.unknown
    assert not reading.in_doubt


@pytest.mark.parametrize("text", READS)
def test_no_other_name_is_mentioned_as_a_table(text: str) -> None:
    """What is mentioned counts as read: too many names would be needless misses, and hide what the rest finds."""
    assert {CAGE, FOOD, NOTE}.isdisjoint(read(text).mentioned)


def test_a_name_in_a_place_that_is_not_understood_counts() -> None:
    """Some database may have a syntax of its own."""
    assert CAGE in read("SELECT * FROM x PIVOT zoo_cage").mentioned


@pytest.mark.parametrize(
    ("text", "unknown"),
    [
        ("CALL raise_prices(1)", "the procedure 'raise_prices'"),
        ("EXEC dbo.raise_prices 1", "the procedure 'raise_prices'"),
        ("EXECUTE IMMEDIATE 'SELECT * FROM zoo_cage'", "SQL in a string"),
        ("DO $$ BEGIN PERFORM 1 FROM zoo_cage; END $$", "a block of SQL"),
        ("SELECT total_of(42)", "the function 'total_of'"),
        ("SELECT * FROM prices_of(42) AS p(a, b)", "the function 'prices_of'"),
        ("SELECT * FROM zoo_food, shop.prices_of(42)", "the function 'prices_of'"),
        ("SELECT * FROM crosstab('SELECT * FROM zoo_cage')", "the function 'crosstab'"),
    ],
)
def test_what_reads_tables_that_are_not_named(text: str, unknown: str) -> None:
    assert read(text).unknown == (unknown,)


def test_functions_of_databases_read_no_tables() -> None:
    assert not read("SELECT COALESCE(a, b), json_agg(x), pg_sleep(1), nextval('s'), date_trunc('day', d)").unknown


def test_a_function_beside_tables_is_not_asked_about() -> None:
    """As it is not where the ORM calls it: most of them compute something from the row."""
    assert not read("SELECT total_of(a) FROM zoo_cage").unknown


@pytest.mark.parametrize(
    "text",
    [
        r"SELECT 'C:\' FROM zoo_cage --'",
        "SELECT 1--1 FROM zoo_cage",
        "SELECT a #> b FROM zoo_cage",
        "CALL p('zoo_cage')",
        f"SELECT '{'x' * LONGEST_PARSED}' FROM zoo_cage",
    ],
)
def test_in_doubt_every_table_that_is_named_counts(text: str) -> None:
    assert read(text).in_doubt


@pytest.mark.parametrize(
    "text", ["", ";", ")", "SELECT * FROM", "WITH", "WITH x AS", "WITH x AS (", "SELECT (((", "COPY", "TABLE"]
)
def test_what_is_no_sql_is_no_error(text: str) -> None:
    assert isinstance(read(text), Reading)
