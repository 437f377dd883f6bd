"""What a loader may return, and which TTLs there are."""

import pytest

from invalidator.errors import InvalidSetting
from invalidator.loaded import DEFAULT, Loaded, check_ttl


def test_a_bare_value_leaves_everything_to_the_call() -> None:
    loaded = Loaded("value")
    assert (loaded.value, loaded.ttl, tuple(loaded.tags), tuple(loaded.made_from)) == ("value", DEFAULT, (), ())
    assert repr(DEFAULT) == "DEFAULT"


@pytest.mark.parametrize("ttl", [DEFAULT, None, 0, 0.5, 300])
def test_a_ttl_is_seconds_or_none_or_not_given(ttl) -> None:
    assert check_ttl(ttl) is ttl


@pytest.mark.parametrize("ttl", [-1, True, "300", float("inf"), float("nan")])
def test_anything_else_is_refused(ttl) -> None:
    with pytest.raises(InvalidSetting, match="ttl must be None"):
        check_ttl(ttl)
