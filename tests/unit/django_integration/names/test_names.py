"""A container of names: keys and tags, each once, and never more than so many."""

import pytest

from django_integration.names import Names
from invalidator import InvalidName, tag


def test_a_name_is_a_key_or_a_tag_and_kept_once() -> None:
    names = Names()
    assert not names
    for name in ("b", "a", "b", tag("prices"), tag("prices")):
        names.add_name(name)
    assert (list(names.keys), list(names.tags)) == (["b", "a"], ["prices"])
    assert len(names) == 3


def test_an_impossible_key_is_refused() -> None:
    with pytest.raises(InvalidName):
        Names().add_name("")


def test_everything_leaves_no_name_beside_it() -> None:
    names, others = Names(), Names(everything=True)
    names.add_name("key")
    names.update(others)
    assert names == others
    assert names, "it is something to publish"
    names.clear()
    assert names == Names()


def test_rows_too_many_become_unknown_rows_and_the_rest_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("django_integration.names.names.MAX_NAMES", 20)
    names = Names()
    names.add_name("key")
    names.add_name(tag("shop.product:1"))  # is no model's
    for pk in range(100):
        names.tags.update(dict.fromkeys(("zoo.cage", f"zoo.cage:{pk}", "zoo.cage[name=a]")))
        names.bound()
        assert len(names) <= 20
    assert not names.everything
    assert "zoo.cage:*" in names.tags
    assert "shop.product:1" in names.tags
    assert "key" in names.keys


def test_names_too_many_become_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("django_integration.names.names.MAX_NAMES", 20)
    names = Names()
    for number in range(21):
        names.add_name(tag(f"zoo.cages:{number}"))
    assert names.everything
    assert len(names) == 0
