"""What every link offers: a `Connection` for a listener, and `publish` for a publisher."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from ..names import RedisNames
from ..protocol.frames import Command, Frame

PUBLISH_SCRIPT = """\
-- KEYS: journal, epoch, holds.
-- ARGV: channel, journal length, a token for a new epoch, how long the bodies hold (ms, or 0), the number of
-- holds that end, those, the bodies.
-- Returns the id of the last message and how many subscribers it reached.
local last = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)[1]
local id, reached
if last then
  id = last[1]
  if #ARGV == 5 then redis.call('SET', KEYS[2], ARGV[3], 'NX') end
else
  redis.call('SET', KEYS[2], ARGV[3])
  -- The first id is drawn: a journal that was deleted in this very millisecond must not seem to go on in this one.
  local entry = {'p', '', 'm', '{"v":1,"op":"epoch"}'}
  local time = redis.call('TIME')
  local drawn = tonumber(string.sub(ARGV[3], 1, 12), 16) or 0
  local first = string.format('%.0f-%.0f', time[1] * 1000 + math.floor(time[2] / 1000), drawn)
  id = redis.pcall('XADD', KEYS[1], first, unpack(entry))
  -- An emptied journal, or one from before the clock went back, gives later ids by itself.
  if type(id) == 'table' then id = redis.call('XADD', KEYS[1], '*', unpack(entry)) end
end
local bodies = 6 + ARGV[5]
for i = 6, bodies - 1 do redis.call('ZREM', KEYS[3], ARGV[i]) end
local now
if ARGV[4] ~= '0' then
  local time = redis.call('TIME')
  now = time[1] * 1000 + math.floor(time[2] / 1000)
  redis.call('ZREMRANGEBYSCORE', KEYS[3], '-inf', now)
end
for i = bodies, #ARGV do
  local previous = id
  id = redis.call('XADD', KEYS[1], 'MAXLEN', '~', ARGV[2], '*', 'p', previous, 'm', ARGV[i])
  reached = redis.call('PUBLISH', ARGV[1], id .. ' ' .. previous .. ' ' .. ARGV[i])
  if now then redis.call('ZADD', KEYS[3], now + ARGV[4], ARGV[i]) end
end
if now and redis.call('PTTL', KEYS[3]) < tonumber(ARGV[4]) then redis.call('PEXPIRE', KEYS[3], ARGV[4]) end
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


class Post(NamedTuple):
    """
    What to publish in one atomic call.

    Args:
        bodies: messages, in order.
        hold_ms: how long these bodies hold, if they are holds; a subscriber that connects meanwhile finds them.
        ended: bodies of holds that end with this post.
    """

    bodies: Sequence[bytes]
    hold_ms: int = 0
    ended: Sequence[bytes] = ()


class Connection(Protocol):
    """A subscription's connection. It belongs to one thread; other threads may only interrupt it."""

    def send(self, commands: Sequence[Command]) -> None:
        """Send *commands* in one piece. Raises LinkDown."""

    def receive(self, timeout_s: float) -> list[Frame]:
        """Wait for frames, and return [] if none arrived within *timeout_s* seconds. Raises LinkDown."""

    def interrupt(self) -> None:
        """Make the current or the next `receive` raise LinkDown. May be called by any thread."""

    def close(self) -> None:
        """Close. In a forked child, close the descriptor only: the parent's connection stays open."""


class Link(Protocol):
    """The way to one server."""

    def connect(self) -> Connection:
        """Open a connection for a subscription. Raises LinkDown."""

    def publish(self, names: RedisNames, journal_length: int, post: Post) -> Accepted:
        """Publish *post* in one atomic call. Raises LinkDown; Redis may then have accepted it or not."""

    def read_journal(self, names: RedisNames, before: str, count: int) -> list[tuple[str, bytes]]:
        """
        Return the ids and bodies of at most *count* messages of the journal, newest first: those before the id
        *before*, or, if that is "", from the last one. Raises LinkDown.
        """

    def open_journal(self, names: RedisNames, journal_length: int) -> Command:
        """Return the command by which a subscription begins a journal."""

    def after_fork(self) -> None:
        """Forget the parent's connections."""

    def close(self) -> None:
        """Close all connections."""
