"""
Where a Redis server is: the one place where a URL of one is taken apart.

    redis://[[username]:password@]host[:port][/database][?options]
    rediss://…                        the same over TLS
    unix://[[username]:password@]/path[?db=number]

Rule 1: a password never reaches an error, a log or a repr. What of a URL cannot be understood may be a part of a
password that was not percent-encoded, so no error repeats it: errors say which part is wrong and what would be right.
Rule 2: what the link needs cannot be changed by an option of the URL: such an option is refused.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, unquote

from ..errors import InvalidSetting

ENCODE = "in a user name or password write '/' as %2F, '?' as %3F, '#' as %23, '@' as %40 and ':' as %3A"

_LAST_PORT = 65535
_WORD = re.compile(r"[A-Za-z_]{1,40}")

_TRUE = ("1", "true", "yes", "on")
_FALSE = ("0", "false", "no", "off")


def _text(value: str) -> str:
    return value


def _number(value: str) -> int:
    if not (value.isascii() and value.isdecimal()):
        raise ValueError("a whole number")
    return int(value)


def _switch(value: str) -> bool:
    if value.lower() not in _TRUE + _FALSE:
        raise ValueError("true or false")
    return value.lower() in _TRUE


OPTIONS: Mapping[str, Callable[[str], Any]] = {
    "db": _number,
    "username": _text,
    "password": _text,
    "client_name": _text,
    "ssl_keyfile": _text,
    "ssl_certfile": _text,
    "ssl_password": _text,
    "ssl_cert_reqs": _text,
    "ssl_ca_certs": _text,
    "ssl_ca_path": _text,
    "ssl_ca_data": _text,
    "ssl_check_hostname": _switch,
    "ssl_ciphers": _text,
}
"""What a URL may ask for, with what reads it; those of TLS have the names and values that redis-py gives them."""

_OURS: Mapping[str, str] = {
    "protocol": "this library speaks RESP3, over which a server pushes messages and answers on one connection",
    "legacy_responses": "this library reads answers as RESP3 has them",
    "decode_responses": "this library decodes what it reads itself",
    "encoding": "this library decodes what it reads itself",
    "encoding_errors": "this library decodes what it reads itself",
    "socket_timeout": "use the option publish_timeout",
    "socket_connect_timeout": "use the option publish_timeout",
    "timeout": "use the option publish_timeout",
    "max_connections": "use the option publish_connections",
    "socket_keepalive": "it is always on",
    "socket_read_size": "it is chosen by this library",
    "retry_on_timeout": "this library tries again itself, see the option publish",
    "retry_on_error": "this library tries again itself, see the option publish",
    "health_check_interval": "this library asks for proofs itself, see the option max_staleness",
}
"""Options of redis-py that would break what the link promises, with what to do instead."""


@dataclass(frozen=True, slots=True)
class Address:
    """
    A server, a database on it, and how to sign in.

    Attributes:
        path: of a Unix socket; then *host* and *port* mean nothing.
        options: others, by the names that redis-py has for them.
    """

    scheme: str
    host: str = "localhost"
    port: int = 6379
    path: str = ""
    database: int = 0
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    options: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @property
    def place(self) -> str:
        """Where it is, for people: host and port, or a path."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return self.path or f"{host}:{self.port}"

    def __str__(self) -> str:
        """The URL, with what signs in left out."""
        sign = "***@" if self.username or self.password else ""
        if self.path:
            return f"unix://{sign}{self.path}?db={self.database}"
        return f"{self.scheme}://{sign}{self.place}/{self.database}"


SCHEMES = ("redis", "rediss", "unix")


def is_address(url: str) -> bool:
    """Whether *url* names a server by its address."""
    scheme, found, _ = url.partition("://")
    return bool(found) and scheme in SCHEMES


def parse_address(url: str) -> Address:
    """
    Return the address that *url* names.

    Raises:
        InvalidSetting: it cannot be one; the message repeats nothing that may be a password.
    """
    scheme, _, rest = url.partition("://")
    place, path, query = _split(rest)
    signing, _, place = place.rpartition("@")
    username, password = _sign_in(signing)
    host, port = ("", 0) if scheme == "unix" else _host_and_port(place)
    options = _options(query)  # after the host: of a password without one, no part is taken for an option
    if scheme != "rediss" and any(name.startswith("ssl_") for name in options):
        raise _wrong("it has options of TLS, which begins with rediss://")
    username = options.pop("username", username)
    password = options.pop("password", password)
    if scheme == "unix":
        if place or len(path) < 2:
            raise _wrong("a Unix socket needs a whole path, such as unix:///run/redis/redis.sock?db=0")
        return Address("unix", host, port, unquote(path), options.pop("db", 0), username, password, options)
    database = _database(path, options)
    return Address(scheme, host, port, "", database, username, password, options)


def _wrong(what: str) -> InvalidSetting:
    return InvalidSetting(f"url cannot work: {what}")


def _split(rest: str) -> tuple[str, str, str]:
    """Host and what signs in, the path, the query."""
    place = re.split(r"[/?#]", rest, maxsplit=1)[0]
    after = rest[len(place) :]
    if "@" in after:
        raise _wrong(f"there is an '@' after the first '/', '?' or '#': {ENCODE}")
    if "#" in after:
        raise _wrong(f"there is a '#': {ENCODE}")
    path, _, query = after.partition("?")
    return place, path, query


def _sign_in(text: str) -> tuple[str | None, str | None]:
    username, _, password = text.partition(":")
    return unquote(username) or None, unquote(password) or None


def _host_and_port(place: str) -> tuple[str, int]:
    if place.startswith("["):
        host, bracket, after = place[1:].partition("]")
        if not bracket or not host or "[" in host or (after and not after.startswith(":")):
            raise _wrong("an IPv6 address stands in brackets, such as redis://[::1]:6379/0")
        return host, _port(after[1:]) if after else 6379
    if "[" in place or "]" in place:
        raise _wrong("an IPv6 address stands in brackets, such as redis://[::1]:6379/0")
    host, colon, port = place.partition(":")
    if ":" in port:
        raise _wrong("an IPv6 address stands in brackets, such as redis://[::1]:6379/0; and a password ends with '@'")
    return unquote(host) or "localhost", _port(port) if colon else 6379


def _port(text: str) -> int:
    if not (text.isascii() and text.isdecimal()) or not 0 < int(text[:6]) <= _LAST_PORT:
        raise _wrong(
            f"the port must be a number from 1 to {_LAST_PORT}; if a password stands there, '@' and the host follow it"
        )
    return int(text)


def _database(path: str, options: dict[str, Any]) -> int:
    number = path.strip("/")
    if number and not (number.isascii() and number.isdecimal()):
        raise _wrong("the path must be the number of a database, such as redis://localhost:6379/0")
    asked = options.pop("db", None)
    if number and asked is not None and asked != int(number):
        raise _wrong(f"it names two databases, {int(number)} in its path and {asked} by its option db")
    return int(number) if number else asked or 0


def _options(query: str) -> dict[str, Any]:
    options: dict[str, Any] = {}
    for name, value in parse_qsl(query, keep_blank_values=True):
        read = OPTIONS.get(name)
        if read is None:
            raise _wrong(_why_not(name))
        try:
            options[name] = read(value)
        except ValueError as right:
            raise _wrong(f"its option {name} must be {right}") from None
    return options


def _why_not(name: str) -> str:
    if not _WORD.fullmatch(name):
        return f"it has an option that is none; {ENCODE}"
    if name in _OURS:
        return f"its option {name} cannot be set: {_OURS[name]}"
    close = difflib.get_close_matches(name.lower(), OPTIONS, 1)
    hint = f": did you mean {close[0]}?" if close else f"; those that may be set are {', '.join(OPTIONS)}"
    return f"its option {name} is not known{hint}"
