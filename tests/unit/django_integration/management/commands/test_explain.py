"""`manage.py invalidator explain`."""

import json
from collections.abc import Iterator

import pytest
from django.core.management import call_command

from django_integration import cache, cached, invalidate, tag
from django_integration.testing import isolated

HERE = __name__
prices = {"lamp": 1}


@pytest.fixture(autouse=True)
def own_bus() -> Iterator[None]:
    prices.update(lamp=1)
    with isolated(MAX_STALENESS=0.6):
        yield


@cached(tags=["prices"])
def price(name: str) -> int:
    return prices[name]


def explain(*arguments: str) -> int:
    try:
        call_command("invalidator", "explain", *arguments)
    except SystemExit as ended:
        return int(ended.code or 0)
    return 0


def test_a_function_is_loaded_and_explained(capsys: pytest.CaptureFixture[str]) -> None:
    invalidate(tag("prices"))
    assert explain(f"{HERE}.price", "lamp") == 0
    shown = capsys.readouterr().out
    assert "loaded now, here" in shown
    assert "depends on  prices" in shown
    assert "by invalidate of tag prices" in shown


def test_a_key_that_names_its_function_is_explained_as_well(capsys: pytest.CaptureFixture[str]) -> None:
    assert explain(price.key("lamp"), "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["entry"]["tags"] == ["prices"]
    assert explain(price.key("chair"), "--json", "--no-load") == 0
    assert json.loads(capsys.readouterr().out)["entry"] is None


def test_any_other_key_is_looked_up_in_the_journal(capsys: pytest.CaptureFixture[str]) -> None:
    invalidate("product:42")
    assert explain("product:42") == 0
    shown = capsys.readouterr().out
    assert "none in this process" in shown
    assert "by invalidate of key product:42" in shown


def test_a_key_that_only_looks_like_a_function_is_a_key(capsys: pytest.CaptureFixture[str]) -> None:
    cache.get_or_set("shop.prices", lambda: 1)
    assert explain("shop.prices") == 0
    assert "valid" in capsys.readouterr().out


def test_what_the_function_raises_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert explain(f"{HERE}.price", "none") == 1
    assert "KeyError" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [("a", "--most", "-1"), ("product:42", "1"), ("",)])
def test_misuse_of_explain_is_refused(arguments: tuple[str, ...]) -> None:
    assert explain(*arguments) == 2
