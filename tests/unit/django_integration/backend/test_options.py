"""The OPTIONS of an alias: which there are, and which cannot work."""

import pytest
from django.core.exceptions import ImproperlyConfigured

from django_integration.backend.options import check_options, tags_in
from invalidator import tag


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"MAX_ENTRIES": 5, "CULL_FREQUENCY": 2, "COPY": "none", "TAGS": ["a"], "DEPENDENCIES": True},
        {"L2": "redis", "NEAR_TIMEOUT": 5, "DEPENDENCIES": False, "TAGS": []},
    ],
)
def test_what_works(options) -> None:
    check_options(options)


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"MAXSIZE": 5, "TTL": 1}, "MAXSIZE, TTL .* not known.*CULL_FREQUENCY"),
        ({"COPY": "shallow"}, "COPY.*'shallow'"),
        ({"TAGS": "prices"}, "TAGS.*prices"),
        ({"TAGS": [""]}, "TAGS.*empty"),
        ({"TAGS": ["a"], "L2": "redis"}, "TAGS.*cannot go with L2"),
        ({"DEPENDENCIES": "yes"}, "DEPENDENCIES.*'yes'"),
        ({"DEPENDENCIES": True, "L2": "redis"}, "DEPENDENCIES.*cannot go with L2"),
    ],
)
def test_what_cannot_work(options, why) -> None:
    """A message names the option, and what is wrong with it."""
    with pytest.raises(ImproperlyConfigured, match=why):
        check_options(options)


def test_tags_may_be_tags_of_the_library() -> None:
    assert tags_in({"TAGS": [tag("a"), "b"]}) == ("a", "b")
