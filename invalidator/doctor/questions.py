"""
What the doctor asks a server. `server.py` judges the answers.

Rule: an examination changes nothing. Rights are tried with commands whose arguments are wrong on purpose: a server that
forbids a command says so before it looks at the arguments, and one that allows it complains about them. The only thing
that is carried out is a message on the namespace's own channel that means "nothing happened".
"""

from __future__ import annotations

import time
from collections.abc import Callable

from ..errors import LinkDown
from ..link import PUBLISH_SCRIPT, Connection, is_address, parse_address
from ..names import RedisNames
from ..protocol.frames import Command, Failure, Push, Reply, to_text

PINGS = 100
ANSWER_TIMEOUT_S = 2.0

NOTHING_HAPPENED = b'{"v":1,"op":"epoch"}'
"""A message that every version of the library reads, and that changes nothing."""

RIGHTS_SCRIPT = """\
local function try(...)
  local answer = redis.pcall(...)
  return type(answer) == 'table' and answer.err or ''
end
return {
  try('XREVRANGE', KEYS[1], '+', '-', 'COUNT', '?'),
  try('XADD', KEYS[1], '?', 'm', ''),
  try('SET', KEYS[2], '', '?'),
  try('ZREM', KEYS[3], ''),
  try('ZREMRANGEBYSCORE', KEYS[3], '?', '?'),
  try('ZADD', KEYS[3], '?', ''),
  try('PTTL', KEYS[3]),
  try('PEXPIRE', KEYS[3], '?'),
  try('TIME'),
  try('PUBLISH', ARGV[1], ARGV[2])
}
"""
SCRIPT_COMMANDS = ("xrevrange", "xadd", "set", "zrem", "zremrangebyscore", "zadd", "pttl", "pexpire", "time", "publish")
"""What `RIGHTS_SCRIPT` tries, in its order. An empty member is in no set: to remove it is to do nothing."""

_WRONG_ON_PURPOSE = ("syntax error", "not an integer", "not a float", "not a valid float", "Invalid stream ID")


class Questions:
    """
    Commands and their answers, one at a time, over a connection that may also be a subscription.

    Each method raises LinkDown when the connection ends, or when no answer comes in time.
    """

    def __init__(self, connection: Connection, timeout_s: float = ANSWER_TIMEOUT_S) -> None:
        self._connection = connection
        self._timeout_s = timeout_s

    def ask(self, *command: str | bytes | int) -> Reply | Failure:
        """Send one command and wait for its answer."""
        frame = self._wait(command, lambda frame: not isinstance(frame, Push))
        assert isinstance(frame, Reply | Failure)
        return frame

    def subscribe(self, channel: str) -> Reply | Failure:
        """Subscribe. The answer is a push or a failure."""
        frame = self._wait(("SUBSCRIBE", channel), lambda _: True)
        return frame if isinstance(frame, Failure) else Reply(None)

    def ask_setting(self, name: str) -> str | None:
        """Return a setting of the server; None if the server does not show it."""
        answer = self.ask("CONFIG", "GET", name)
        if isinstance(answer, Failure) or not answer.value:
            return None
        pairs = answer.value
        value = pairs.get(name.encode()) if isinstance(pairs, dict) else pairs[1]
        return None if value is None else to_text(value)

    def _wait(self, command: Command, is_answer: Callable[[object], bool]) -> object:
        self._connection.send([command])
        deadline = time.monotonic() + self._timeout_s
        while time.monotonic() < deadline:
            for frame in self._connection.receive(max(0, deadline - time.monotonic())):
                if is_answer(frame):
                    return frame
        raise LinkDown(f"no answer to {command[0]!r} for {self._timeout_s:g} s")


def try_rights(questions: Questions, names: RedisNames) -> dict[str, str]:
    """Try each command that is needed. Returns the server's error for each, "" for none."""
    scripted = questions.ask(
        "EVAL", RIGHTS_SCRIPT, 3, names.journal, names.epoch, names.holds, names.channel, NOTHING_HAPPENED
    )
    answers = {
        "info": questions.ask("INFO", "server"),
        "role": questions.ask("ROLE"),
        "ping": questions.ask("PING"),
        "get": questions.ask("GET", names.epoch),
        "xrange": questions.ask("XRANGE", names.journal, "-", "+", "COUNT", 1),
        "xrevrange": questions.ask("XREVRANGE", names.journal, "+", "-", "COUNT", 1),
        "zrange": questions.ask("ZRANGE", names.holds, 0, 0),
        "eval": scripted,
        "evalsha": questions.ask("EVALSHA", "0" * 40, 0),
        "script|load": questions.ask("SCRIPT", "LOAD", PUBLISH_SCRIPT),
        "subscribe": questions.subscribe(names.channel),
    }
    objections = {command: answer.text if isinstance(answer, Failure) else "" for command, answer in answers.items()}
    if "No matching script" in objections["evalsha"]:
        objections["evalsha"] = ""
    if isinstance(scripted, Reply):
        for command, text in zip(SCRIPT_COMMANDS, scripted.value, strict=True):
            objection = to_text(text)
            if not any(words in objection for words in _WRONG_ON_PURPOSE):
                objections[command] = objections.get(command) or objection
    return objections


def measure(questions: Questions, times: int = PINGS) -> list[float]:
    """Return how long *times* PINGs took, in seconds, sorted."""
    took = []
    for _ in range(times):
        began = time.perf_counter()
        questions.ask("PING")
        took.append(time.perf_counter() - began)
    return sorted(took)


def ask_user(questions: Questions, url: str) -> str:
    answer = questions.ask("ACL", "WHOAMI")
    if isinstance(answer, Reply):
        return to_text(answer.value)
    return (parse_address(url).username if is_address(url) else None) or "default"
