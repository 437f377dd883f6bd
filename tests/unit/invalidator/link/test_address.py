"""Where a server is: what a URL says, and that nothing of a password is ever repeated."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from invalidator.errors import InvalidSetting
from invalidator.link.address import Address, is_address, parse_address


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("redis://", Address("redis")),
        ("redis://h", Address("redis", "h")),
        ("redis://h:1/2", Address("redis", "h", 1, database=2)),
        ("redis://h?db=2", Address("redis", "h", database=2)),
        ("redis://h/2?db=2", Address("redis", "h", database=2)),
        ("redis://:p@h", Address("redis", "h", password="p")),
        ("redis://u:p%2F%3A%40@h", Address("redis", "h", username="u", password="p/:@")),
        ("redis://u:p@ss@h", Address("redis", "h", username="u", password="p@ss")),
        ("redis://u:p:q@h", Address("redis", "h", username="u", password="p:q")),
        ("redis://h?username=u&password=p%20q", Address("redis", "h", username="u", password="p q")),
        ("redis://[::1]:7000/3", Address("redis", "::1", 7000, database=3)),
        ("redis://u:p@[::1]", Address("redis", "::1", username="u", password="p")),
        ("rediss://h?ssl_cert_reqs=none", Address("rediss", "h", options={"ssl_cert_reqs": "none"})),
        ("rediss://h?ssl_check_hostname=no", Address("rediss", "h", options={"ssl_check_hostname": False})),
        ("redis://h?client_name=shop", Address("redis", "h", options={"client_name": "shop"})),
        ("unix:///run/redis.sock?db=1", Address("unix", "", 0, "/run/redis.sock", 1)),
        ("unix://u:p@/run/a%40b.sock", Address("unix", "", 0, "/run/a@b.sock", 0, "u", "p")),
    ],
)
def test_what_a_url_says(url: str, expected: Address) -> None:
    assert parse_address(url) == expected


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("redis://:hunter/2@h/0", "percent|%2F"),
        ("redis://:hunter#2@h/0", "%23"),
        ("redis://:hunter?2@h/0", "%3F"),
        ("redis://:hunter/2", "port must be a number"),
        ("redis://:hunter2", "port must be a number"),
        ("redis://:hunter?hunter", "port must be a number"),
        ("redis://me:hunter2:3/0", "ends with '@'"),
        ("redis://h:hunter2/0", "port must be a number from 1 to 65535"),
        ("redis://h:99999/0", "port must be a number from 1 to 65535"),
        ("redis://h:0/0", "port must be a number from 1 to 65535"),
        ("redis://h/hunter2", "number of a database"),
        ("redis://h/1?db=2", "two databases"),
        ("redis://h/0#hunter2", "'#'"),
        ("redis://[::1/0", "brackets"),
        ("redis://::1/0", "brackets"),
        ("redis://me:hunter2@[::1", "brackets"),
        ("redis://[]/0", "brackets"),
        ("redis://h]/0", "brackets"),
        ("redis://h?protocol=2", "option protocol cannot be set.*RESP3"),
        ("redis://h?socket_timeout=1", "socket_timeout cannot be set.*publish_timeout"),
        ("redis://h?max_connections=1", "publish_connections"),
        ("redis://h?decode_responses=true", "decode_responses cannot be set"),
        ("redis://h?clientname=x", "did you mean client_name"),
        ("redis://h?PASSWORD=hunter2", "did you mean password"),
        ("redis://h?hunter2", "an option that is none"),
        ("redis://h?db=hunter2", "option db must be a whole number"),
        ("rediss://h?ssl_check_hostname=hunter2", "true or false"),
        ("redis://h?ssl_ca_certs=/x", "rediss://"),
        ("unix://run/redis.sock", "whole path"),
        ("unix://", "whole path"),
    ],
)
def test_one_that_cannot_work(url: str, says: str) -> None:
    """The error says which part is wrong, and what would be right."""
    with pytest.raises(InvalidSetting, match=f"url cannot work: .*({says})") as caught:
        parse_address(url)
    assert "hunter" not in str(caught.value)


SIGNS = st.text(st.sampled_from("aZ9/?#@:[]%& =;"), max_size=8)


@given(user=SIGNS, password=SIGNS, host=st.sampled_from(["h", "[::1]", "[::1", "", "h:1", "h:x", "h]"]), end=SIGNS)
def test_no_error_repeats_a_password(user: str, password: str, host: str, end: str) -> None:
    """Whatever a URL looks like: people forget to percent-encode."""
    secret = f"s3cret{password}s3cret"
    try:
        address = parse_address(f"redis://{user}:{secret}@{host}/{end}")
    except InvalidSetting as error:
        shown = str(error)
    else:
        shown = f"{address} {address!r}"
    assert "s3cret" not in shown


def test_its_text_is_a_url_without_what_signs_in() -> None:
    assert str(parse_address("redis://u:p@[::1]:7000/3")) == "redis://***@[::1]:7000/3"
    assert str(parse_address("unix:///run/redis.sock")) == "unix:///run/redis.sock?db=0"


@pytest.mark.parametrize("url", ["memory://", "embedded://x", "localhost", ""])
def test_other_urls_are_no_addresses(url: str) -> None:
    assert not is_address(url)
