"""Every option is checked, and a bad one is refused with what would be right."""

import inspect

import pytest

from invalidator.bus import Invalidator
from invalidator.config import CONFIG_OPTIONS, HOLD, MAXSIZE, OPTIONS, PROOFS_PER_BOUND, TTL, Config
from invalidator.errors import InvalidSetting
from invalidator.near_cache import NearCache


@pytest.mark.parametrize(
    ("option", "bad"),
    [
        ("max_staleness", [0, -1, 0.009, 3601, float("nan"), float("inf"), "2", None, True]),
        ("replica_lag", [-0.1, 3601, float("nan"), "0", None, False]),
        ("publish_timeout", [0, -1, 601, "1", None]),
        ("close_timeout", [-1, 601, "1", None]),
        ("queue_size", [0, -1, 1.5, "10", None, True]),
        ("journal_length", [0, 99, 1.5, "1000", None]),
        ("slots", [0, 63, 2**32 + 1, 128.0, "128", None]),
        ("when_unleased", ["", "long", None, 1]),
        ("publish", ["", "drop", None, True]),
        ("namespace", ["", "a b", None]),
    ],
)
def test_a_value_that_cannot_work_is_refused_by_name(option, bad) -> None:
    for value in bad:
        with pytest.raises(InvalidSetting, match=f"^{option} must be .*") as caught:
            Config(**{"namespace": "shop", option: value})
        assert repr(value) in str(caught.value)
        assert isinstance(caught.value, ValueError)


@pytest.mark.parametrize(
    ("option", "good"),
    [
        ("max_staleness", [0.01, 1, 2.0, 3600]),
        ("replica_lag", [0, 0.5, 3600]),
        ("close_timeout", [0, 600]),
        ("queue_size", [1]),
        ("journal_length", [100]),
        ("slots", [64, 2**32]),
        ("when_unleased", ["short", "bypass", "serve"]),
        ("publish", ["queue", "raise"]),
    ],
)
def test_the_limits_themselves_are_taken(option, good) -> None:
    for value in good:
        assert getattr(Config(**{"namespace": "shop", option: value}), option) == value


def test_the_defaults_are_those_that_are_promised() -> None:
    """max_staleness is 2 s: DESIGN, section 2."""
    config = Config(namespace="shop")
    assert (config.max_staleness, config.when_unleased, config.replica_lag, config.publish) == (
        2.0,
        "short",
        0,
        "queue",
    )


@pytest.mark.parametrize("max_staleness", [0.01, 0.5, 2, 10, 3600])
def test_times_follow_from_the_bound(max_staleness) -> None:
    """Proofs come several times per bound; a silent connection is given up in time to prove another."""
    config = Config(namespace="shop", max_staleness=max_staleness)
    assert config.max_staleness_ns == int(max_staleness * 1e9)
    assert config.proof_interval_ns * PROOFS_PER_BOUND <= config.max_staleness_ns
    assert 250_000_000 <= config.answer_timeout_ns <= 5_000_000_000
    if max_staleness >= 0.5:
        assert config.answer_timeout_ns <= config.max_staleness_ns / 2


@pytest.mark.parametrize("name", OPTIONS)
def test_a_default_is_a_value_that_can_work(name) -> None:
    option = OPTIONS[name]
    if not option.is_required:
        option.validate(name, option.default)


def test_an_option_without_a_default_must_be_given() -> None:
    assert [name for name, option in OPTIONS.items() if option.is_required] == ["namespace"]
    with pytest.raises(TypeError, match="namespace"):
        Config()


def test_the_options_of_a_signature_are_those_of_the_table() -> None:
    near_cache = inspect.signature(NearCache).parameters
    assert (near_cache["maxsize"].default, near_cache["ttl"].default) == (MAXSIZE.default, TTL.default)
    assert inspect.signature(Invalidator.hold).parameters["duration"].default == HOLD.default
    assert CONFIG_OPTIONS.keys() == inspect.signature(Config).parameters.keys()
