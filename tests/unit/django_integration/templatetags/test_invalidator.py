"""`{% cached %}`."""

from collections.abc import Iterator
from typing import Any

import pytest
from django.template import Context, Engine, TemplateSyntaxError

from django_integration import cache, invalidate, tag
from django_integration.reads.default_cache import default_cache
from invalidator import InvalidName
from tests.unit.django_integration.zoo.models import Cage, Note

pytestmark = pytest.mark.usefixtures("db")


@pytest.fixture(autouse=True)
def leased() -> Iterator[None]:
    """What a test loads is leased from the beginning."""
    assert default_cache().bus.wait_until_leased(20)
    yield
    default_cache().bus.clear()


def render(text: str, **values: Any) -> str:
    """*text* as a template."""
    engine = Engine(libraries={"invalidator": "django_integration.templatetags.invalidator"})
    return engine.from_string("{% load invalidator %}" + text).render(Context(values))


def test_a_part_is_cached_until_what_it_reads_changes() -> None:
    text = '{% cached "notes" 300 cage %}{% for note in cage.note_set.all %}{{ note.text }}{% endfor %}{% endcached %}'
    cage = Cage.objects.create()
    Note.objects.create(cage=cage, text="a")
    assert [render(text, cage=cage), render(text, cage=cage)] == ["a", "a"]
    Note.objects.create(text="elsewhere")
    assert f"template.notes@1(on=(zoo.Cage:{cage.pk}))" in cache
    Note.objects.create(cage=cage, text="b")
    assert render(text, cage=cage) == "ab"


def test_a_row_it_varies_on_is_as_in_the_database() -> None:
    text = '{% cached "cage" 300 cage %}{{ cage.name }}{% endcached %}{{ cage.name }}'
    cage = Cage.objects.create(name="old")
    cage.name = "mine"
    assert render(text, cage=cage) == "oldmine"
    Cage.objects.filter(pk=cage.pk).update(name="new")
    assert render(text, cage=cage) == "newmine"


def test_a_row_that_is_gone_is_rendered_and_not_kept() -> None:
    cage = Cage(pk=99, name="gone")
    assert render('{% cached "cage" 300 cage %}{{ cage.name }}{% endcached %}', cage=cage) == "gone"
    assert "template.cage@1(on=(zoo.Cage:99))" not in cache


def test_it_varies_on_values_and_version() -> None:
    text = '{% cached "x" 300 lang version=version %}{{ value }}{% endcached %}'
    assert render(text, lang="en", version=1, value="a") == "a"
    assert render(text, lang="en", version=1, value="b") == "a"
    assert render(text, lang="de", version=1, value="b") == "b"
    assert render(text, lang="en", version=2, value="c") == "c"


@pytest.mark.parametrize("tags", ['tags="prices menu"', "tags=tags"])
def test_tags_add(tags: str) -> None:
    text = '{% cached "x" 300 ' + tags + " %}{{ value }}{% endcached %}"
    assert render(text, value="a", tags=["prices"]) == "a"
    invalidate(tag("prices"))
    assert render(text, value="b", tags=["prices"]) == "b"


def test_tracking_can_be_turned_off() -> None:
    text = '{% cached "x" None cages track=False %}{{ cages.count }}{% endcached %}'
    cages = Cage.objects.all()
    assert render(text, cages=cages) == "0"
    Cage.objects.create()
    assert render(text, cages=cages) == "0"


def test_a_ttl_of_0_keeps_nothing() -> None:
    text = '{% cached "x" "0" %}{{ value }}{% endcached %}'
    assert [render(text, value="a"), render(text, value="b")] == ["a", "b"]


def test_what_it_makes_is_safe_text() -> None:
    text = '{% cached "x" 300 %}<b>{{ value }}</b>{% endcached %}'
    assert [render(text, value="<"), render(text, value="<")] == ["<b>&lt;</b>"] * 2


@pytest.mark.parametrize("text", ["{% cached %}{% endcached %}", '{% cached "x" %}{% endcached %}'])
def test_a_missing_name_or_ttl_is_told(text: str) -> None:
    with pytest.raises(TemplateSyntaxError, match="a name and a TTL"):
        render(text)


def test_a_ttl_that_is_no_number_is_told() -> None:
    with pytest.raises(TemplateSyntaxError, match="'soon'"):
        render('{% cached "x" "soon" %}{% endcached %}')


def test_a_row_without_a_name_of_its_own_is_told() -> None:
    with pytest.raises(InvalidName, match=r"with product=note\.cage"):
        render('{% cached "x" 300 note.cage %}{% endcached %}', note=Note(cage=Cage.objects.create()))


def test_what_has_no_text_of_its_own_is_told() -> None:
    with pytest.raises(InvalidName, match=r"template.x"):
        render('{% cached "x" 300 value %}{% endcached %}', value=[1])


@pytest.mark.parametrize(
    ("bits", "message"),
    [
        ('"x" -1', "0 or more, or None; not -1"),
        ('"x" "nan"', "not 'nan'"),
        ('"x" 300 tll=5', r"has no option 'tll': its options are tags, version, track"),
        ('"x" 300 tag="prices"', r"has no option 'tag': did you mean tags=\?"),
    ],
)
def test_what_cannot_work_is_told_when_the_template_is_read(bits: str, message: str) -> None:
    """And not in production, when the part is first rendered."""
    engine = Engine(libraries={"invalidator": "django_integration.templatetags.invalidator"})
    with pytest.raises(TemplateSyntaxError, match=message):
        engine.from_string("{% load invalidator %}{% cached " + bits + " %}{% endcached %}")


def test_a_ttl_of_a_variable_that_cannot_work_is_told_when_it_is_rendered() -> None:
    with pytest.raises(TemplateSyntaxError, match="not -5"):
        render('{% cached "x" ttl %}{% endcached %}', ttl=-5)


def test_a_text_with_a_sign_of_equality_is_a_value() -> None:
    text = '{% cached "x" 300 "a=b" %}{{ value }}{% endcached %}'
    assert [render(text, value="a"), render(text, value="b")] == ["a", "a"]
