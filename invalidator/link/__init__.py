"""
Links carry commands and answers; they decide nothing.

`redis.py` speaks to a real server and is the only importer of redis; `memory.py` is a server in this process. Both
serve a listener with a `Connection` and a publisher with `publish`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol
from urllib.parse import urlsplit

from ..errors import InvalidSetting
from ..names import RedisNames
from ..subscription import Command, Frame

PUBLISH_SCRIPT = """\
-- KEYS: journal, epoch. ARGV: channel, journal length, a token for a new epoch, bodies...
-- Returns the id of the last message and how many subscribers it reached.
local last = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)[1]
local id, reached
if last then
  id = last[1]
  if #ARGV == 3 then redis.call('SET', KEYS[2], ARGV[3], 'NX') end
else
  redis.call('SET', KEYS[2], ARGV[3])
  id = redis.call('XADD', KEYS[1], '*', 'p', '', 'm', '{"v":1,"op":"epoch"}')
end
for i = 4, #ARGV do
  local previous = id
  id = redis.call('XADD', KEYS[1], 'MAXLEN', '~', ARGV[2], '*', 'p', previous, 'm', ARGV[i])
  reached = redis.call('PUBLISH', ARGV[1], id .. ' ' .. previous .. ' ' .. ARGV[i])
end
return {id, reached or 0}
"""
"""
Append to the journal and publish, in one atomic call. Without bodies it only makes sure that a journal and its epoch
exist.
"""


class Accepted(NamedTuple):
    """The server has taken some messages: the id of the last, and how many subscriptions it reached."""

    id: str
    listeners: int


class Connection(Protocol):
    """A subscription's connection. It belongs to one thread; others may only interrupt it."""

    def send(self, commands: Sequence[Command]) -> None:
        """Send *commands* in one piece. Raises LinkDown."""

    def receive(self, timeout_s: float) -> list[Frame]:
        """Wait for answers; [] when none came in *timeout_s*. Raises LinkDown."""

    def interrupt(self) -> None:
        """Make `receive` raise LinkDown, now or when it is called. From any thread."""

    def close(self) -> None:
        """Close. In a forked child: let go of the descriptor, and leave the parent's connection alone."""


class Link(Protocol):
    """The way to one server."""

    def connect(self) -> Connection:
        """Open a connection for a subscription. Raises LinkDown."""

    def publish(self, names: RedisNames, journal_length: int, bodies: Sequence[bytes]) -> Accepted:
        """Publish *bodies* in order, in one atomic call. Raises LinkDown: they may then have been accepted or not."""

    def open_journal(self, names: RedisNames, journal_length: int) -> Command:
        """The command by which a subscription begins a journal."""

    def after_fork(self) -> None:
        """Forget the parent's connections."""

    def close(self) -> None:
        """Let go of everything."""


def make_link(url: str, *, timeout_s: float) -> Link:
    """
    Return the link for *url*: `redis://`, `rediss://` or `unix://` (as in redis-py), or `memory://`.

    Raises:
        InvalidSetting: the URL cannot work.
    """
    if not isinstance(url, str):
        raise InvalidSetting(f"url must be a str such as 'redis://localhost:6379/0', not {type(url).__name__}")
    scheme = urlsplit(url).scheme
    if scheme == "memory":
        from .memory import MemoryLink

        return MemoryLink(url)
    if scheme in ("redis", "rediss", "unix"):
        from .redis import RedisLink

        return RedisLink(url, timeout_s=timeout_s)
    raise InvalidSetting(f"url must begin with redis://, rediss://, unix:// or memory://, not {url!r}")
