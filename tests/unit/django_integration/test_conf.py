"""The setting INVALIDATOR: typed, live, and picky."""

import re
from pathlib import Path

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.test import override_settings

from django_integration import conf as configuration
from django_integration.conf import KEYS, conf, problems
from invalidator.extending import OPTIONS

from .conftest import ROOT

GOOD = {"URL": "memory://", "NAMESPACE": "tests"}


def test_values_are_read_when_they_are_asked_for() -> None:
    assert conf.namespace == "tests"
    with override_settings(INVALIDATOR={**GOOD, "NAMESPACE": "shop", "TTL": 5}):
        assert (conf.namespace, conf.ttl) == ("shop", 5)
    assert (conf.namespace, conf.ttl) == ("tests", None)


def test_every_key_has_a_property() -> None:
    for name, key in KEYS.items():
        with override_settings(INVALIDATOR=GOOD):
            assert getattr(conf, name.lower()) == (GOOD[name] if key.is_required else key.default)


def test_the_defaults_are_the_librarys() -> None:
    """But for COPY and GUARD: a framework hands its objects to code that writes into them, and knows of DEBUG."""
    different = {name.upper() for name, option in OPTIONS.items() if KEYS[name.upper()].default != option.default}
    assert different == {"COPY", "GUARD"}


def test_what_a_key_may_be_is_what_the_library_takes() -> None:
    """
    But for a namespace, which the library looks at later, MAXSIZE and TTL, which may not be all that, and GUARD, which
    may be None.
    """
    narrower = {"NAMESPACE", "MAXSIZE", "TTL", "GUARD"}
    assert {name for name in map(str.upper, OPTIONS) if KEYS[name].check != OPTIONS[name.lower()].check} == narrower


@pytest.mark.parametrize(
    ("key", "suggestion"),
    [("NAMESPCE", "NAMESPACE"), ("max_staleness", "MAX_STALENESS"), ("MAX_SIZE", "MAXSIZE"), ("REDIS_URL", "URL")],
)
def test_an_unknown_key_is_refused_with_the_one_that_was_meant(key: str, suggestion: str) -> None:
    with override_settings(INVALIDATOR={**GOOD, key: 1}):
        [problem] = problems()
    assert problem.fault == "unknown"
    assert repr(key) in problem.message
    assert suggestion in problem.hint


def test_an_unknown_key_like_no_other_is_refused_with_all_there_are() -> None:
    with override_settings(INVALIDATOR={**GOOD, "QQQ": 1, 7: 2}):
        assert [", ".join(KEYS) in problem.hint for problem in problems()] == [True, True]


BAD_VALUES = {
    "URL": ["", None, 6379, b"redis://"],
    "NAMESPACE": ["", None, 1],
    "MAX_STALENESS": [0, -1, "2", None, True, float("nan")],
    "WHEN_UNLEASED": ["stale", None, 1],
    "REPLICA_LAG": [-0.1, "0", None, False],
    "PUBLISH": ["drop", None],
    "QUEUE_SIZE": [0, 1.5, "10", True],
    "PUBLISH_TIMEOUT": [0, "1", None],
    "CLOSE_TIMEOUT": [-1, None],
    "JOURNAL_LENGTH": [0, 1.5, None],
    "SLOTS": [0, "many", None],
    "SIDECAR": ["", "Auto", "shop.ledger", Path("shop.ledger"), b"auto", True, 0],
    "WRITES": ["Strict", True, None],
    "MODELS": [
        *([], "shop.*", {"includes": ["*"]}, {"include": "shop.*"}, {"exclude": ["shop"]}, {"include": [7]}),
        *({"include": ["shop.product.x"]}, {"include": [""]}, {"include": None}),
    ],
    "COPY": ["copy", True, None],
    "GUARD": [-0.1, 1.1, "1", True],
    "VERIFY": [-0.1, 1.1, "1", True, None],
    "VERIFY_IGNORE": ["clock:*", [1], [""], None],
    "HOLD": [0, 0.05, 3601, float("inf"), float("nan"), "30", None],
    "KEY_CONTEXT": ["tenant", "", ["language", "zone"], 7, {"language": 1}, ["shop tenants"]],
    "MAXSIZE": [0, -1, "many", None],
    "TTL": [0, -1, "300", True],
}


@pytest.mark.parametrize(("key", "value"), [(key, value) for key, values in BAD_VALUES.items() for value in values])
def test_a_value_that_cannot_be_is_named_with_what_could(key: str, value: object) -> None:
    with override_settings(INVALIDATOR={**GOOD, key: value}):
        [problem] = problems()
        with pytest.raises(ImproperlyConfigured, match=key):
            getattr(conf, key.lower())
    assert problem.fault == "value"
    assert key in problem.message
    assert KEYS[key].check.right in problem.hint


@pytest.mark.parametrize("value", [None, "auto", "/run/shop.ledger", Path("/run/shop.ledger")])
def test_a_sidecar_is_none_or_auto_or_an_absolute_path(value: object) -> None:
    with override_settings(INVALIDATOR={**GOOD, "SIDECAR": value}):
        assert not problems()
        assert conf.sidecar == value


@pytest.mark.parametrize("missing", ["URL", "NAMESPACE"])
def test_what_has_no_default_must_be_there(missing: str) -> None:
    with override_settings(INVALIDATOR={key: value for key, value in GOOD.items() if key != missing}):
        [problem] = problems()
        with pytest.raises(ImproperlyConfigured, match=missing):
            getattr(conf, missing.lower())
    assert problem.fault == "missing"


@pytest.mark.parametrize("value", [None, [], "redis://localhost"])
def test_the_setting_must_be_a_dict(value: object) -> None:
    with override_settings(INVALIDATOR=value):
        [problem] = problems()
        with pytest.raises(ImproperlyConfigured, match="INVALIDATOR"):
            configuration.validate()
    assert problem.fault == "setting"
    assert configuration.EXAMPLE in problem.hint


def test_everything_wrong_is_said_at_once() -> None:
    wrong = override_settings(INVALIDATOR={"NAMESPCE": "x", "TTL": -1})
    with wrong, pytest.raises(ImproperlyConfigured) as raised:
        configuration.validate()
    for said in ("NAMESPCE", "NAMESPACE", "URL", "TTL"):
        assert said in str(raised.value)


def test_the_documentation_has_every_key_with_its_default() -> None:
    text = (ROOT / "docs" / "django" / "settings.md").read_text()
    table = dict(re.findall(r"^\| `([A-Z_]+)` \| (?:`(.+?)`)? *\|", text, re.MULTILINE))
    defaults = {name: "" if key.is_required else key.default for name, key in KEYS.items()}
    assert {name: default and eval(default) for name, default in table.items()} == defaults
