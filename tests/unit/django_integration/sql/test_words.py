"""A text of SQL, split into statements and words."""

import pytest

from django_integration.sql.words import is_doubtful, plain_name, statements, text_of


def split(text: str) -> list[list[str]]:
    return [[word.text for word in words] for words in statements(text)]


def test_statements_are_split_into_words_and_signs() -> None:
    assert split("SELECT a.b FROM c; UPDATE d SET e = 1;") == [
        ["SELECT", "a", ".", "b", "FROM", "c"],
        ["UPDATE", "d", "SET", "e", "=", "1"],
    ]


def test_comments_are_no_words_and_a_string_is_one() -> None:
    assert split("SELECT 'a; b' -- c; d\n/* e; f */, 1") == [["SELECT", "'a; b'", ",", "1"]]
    assert split("-- nothing") == []


def test_keywords_of_several_words_are_several() -> None:
    assert split("a left outer join b order by c") == [["a", "left", "outer", "join", "b", "order", "by", "c"]]


def test_what_is_in_quotes_is_no_keyword() -> None:
    (words,) = statements("FROM \"FROM\" 'FROM'")
    assert [word.upper for word in words] == ["FROM", "", ""]


def test_a_placeholder_names_nothing() -> None:
    (words,) = statements("a = %s AND b = %(c)s")
    assert [word.text for word in words if word.is_name] == ["a", "AND", "b"]


@pytest.mark.parametrize("text", [r"'\''", "/*!40000 x */", "/* a /* b */", "1 # 2", "1--1"])
def test_what_databases_read_differently_is_doubtful(text: str) -> None:
    assert is_doubtful(text)


def test_usual_text_is_not() -> None:
    assert not is_doubtful("SELECT 'it''s' /* a comment */ -- another\nFROM x WHERE y - -1 > 0")


@pytest.mark.parametrize(
    "name", ["Zoo_Cage", '"zoo_cage"', "`zoo_cage`", "[zoo_cage]", 'public."zoo_cage"', "zoo.cage.zoo_cage"]
)
def test_a_table_has_one_plain_name(name: str) -> None:
    assert plain_name(name) == "zoo_cage"


def test_bytes_are_text() -> None:
    assert text_of(b"SELECT 1") == "SELECT 1"
    assert text_of("SELECT 1") == "SELECT 1"
    assert text_of(b"\xff") == "\N{REPLACEMENT CHARACTER}"


def test_what_a_driver_composes_says_its_text_itself() -> None:
    class Composed:
        def as_string(self, context: object) -> str:
            return f"SELECT {context}"

    assert text_of(Composed(), "cursor") == "SELECT cursor"


def test_what_cannot_say_it_is_doubtful_and_names_its_parts() -> None:
    class Composed:
        def as_string(self, context: object) -> str:
            raise TypeError(context)

        def __repr__(self) -> str:
            return "Composed([SQL('SELECT * FROM '), Identifier('zoo_cage')])"

    text = text_of(Composed())
    assert "zoo_cage" in text
    assert is_doubtful(text)
