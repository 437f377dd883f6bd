"""
`invalidator doctor`: what, on this host and on its Redis server, can keep the promise from being kept.

Each check is a function of what was found out (`INFO`, a setting, the answers to commands), so that it can be tested
without the server that it complains about. What is asked for is asked over one connection of our own link.

Rule 1: looking changes nothing. Rights are tried with commands that are wrong on purpose: the server refuses them as
forbidden before it looks at what they say, and as wrong after. The one thing that is carried out is a message in our
own channel that means "nothing happened".
Rule 2: a finding says what it means and names the exact repair, or it is not worth a line.
Rule 3: what cannot be looked at (a hosted server hides CONFIG) is a warning, not a failure.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from .config import PROOFS_PER_BOUND, Config
from .errors import InvalidatorError, InvalidSetting, LedgerFileError, LinkDown
from .ledger import HEADER_WORDS, PROVEN_AT, now_ns
from .ledger_file import LedgerFile, default_path
from .link import PUBLISH_SCRIPT, Connection, Link, make_link
from .message import MAX_BODY_BYTES
from .names import RedisNames, redis_names
from .protocol.frames import Command, Failure, Info, Push, Reply, parse_info, to_text
from .protocol.subscription import PAGE
from .requirements import LEAST_HIREDIS, version_numbers

Level = Literal["ok", "warn", "fail"]

LEAST_VERSION = (6, 2)
"""RESP3 came with 6.0, exclusive ranges of stream ids with 6.2."""
PINGS = 100
ANSWER_TIMEOUT_S = 2.0
FULL = 0.9

NOTHING_HAPPENED = b'{"v":1,"op":"epoch"}'
"""A message that every version of ours reads and does nothing about."""

COMMANDS = (
    "hello client|setinfo select ping info role subscribe publish get set xadd xrange xrevrange zadd zrem zrange "
    "zremrangebyscore pexpire pttl time eval evalsha script|load"
)
"""All that we ever send. docs/wire-protocol.md lists the same."""
HELPFUL = {
    "info": "without it nothing tells whether the server was restarted, so every reconnect voids the caches",
    "role": "without it a primary that was demoted is noticed only when the connection ends",
}
"""What we can do without, and at what price."""

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

# redis-py cuts the code off some errors ("NOPERM …"), and scripts do not: words of the texts, therefore.
_FORBIDDEN = (
    "NOPERM",
    "no permissions",
    "No permissions",
    "ACL failure",
    "can't run this command",
    "can't access at least one",
    "unknown command",
)
_WRONG_ON_PURPOSE = ("syntax error", "not an integer", "not a float", "not a valid float", "Invalid stream ID")


class Unhealthy(InvalidatorError):
    """A check failed; the message names it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """
    One thing that was looked at.

    Args:
        check: what was looked at, in a word or two.
        level: "ok"; "warn" (it costs something, or cannot be seen); "fail" (the promise cannot be kept, or nothing
            works).
        found: the facts.
        means: what follows from them; "" if all is well.
        repair: what to do, exactly; "" if nothing.
    """

    check: str
    level: Level
    found: str
    means: str = ""
    repair: str = ""

    def as_dict(self) -> dict[str, str]:
        """Ready for JSON."""
        return asdict(self)


def examine(url: str, config: Config, *, path: Path | None = None, slots: int = 2**20) -> Iterator[Finding]:
    """
    Look at everything, and yield what was found, one after the other.

    Args:
        url: of the server.
        config: of a process; its namespace, bound and timeouts count.
        path: of the sidecar's ledger; None for where it is by default.
        slots: of the ledger that a sidecar would make.

    Raises:
        InvalidSetting: the URL cannot work.
    """
    if url.startswith("memory:"):
        raise InvalidSetting("memory:// is a server in this process: there is nothing to look at")
    yield check_hiredis()
    yield check_clock(_read("/sys/devices/system/clocksource/clocksource0/current_clocksource"), _time_offset())
    yield from check_ledger(path or default_path(config.namespace), config, slots=slots, is_default=path is None)
    link = make_link(url, timeout_s=max(config.publish_timeout, ANSWER_TIMEOUT_S), namespace=config.namespace)
    with contextlib.closing(link):
        yield from _examine_by(link, config, url)


def _examine_by(link: Link, config: Config, url: str) -> Iterator[Finding]:
    try:
        connection = link.connect()
    except LinkDown as error:
        yield check_reachable(url, str(error))
        return
    try:
        yield check_reachable(url, "")
        yield from _examine_server(Questions(connection), config, url)
    except LinkDown as error:
        yield Finding(
            check="connection",
            level="fail",
            found=f"it ended while we looked: {error}",
            means="not everything could be checked",
            repair="see the server's log, and run this again",
        )
    finally:
        connection.close()


def _examine_server(server: Questions, config: Config, url: str) -> Iterator[Finding]:
    names = redis_names(config.namespace)
    answer = server.ask("INFO")
    info = parse_info(answer.value) if isinstance(answer, Reply) else {}
    if info:
        yield check_version(info)
        yield check_role(info)
        yield check_eviction(info)
    yield check_rights(try_rights(server, names), _user(server, url), config.namespace)
    yield check_output_buffer(server.ask_setting("client-output-buffer-limit"))
    if info:
        yield check_replicas(info, server.ask_setting("min-replicas-to-write"))
    yield check_latency(measure(server), config)


# Asking.


class Questions:
    """
    Commands and their answers, one at a time, over a connection that may also be a subscription.

    `ask` raises LinkDown when the connection ends or says nothing for too long.
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
        """Subscribe, which is answered by a push or a failure."""
        frame = self._wait(("SUBSCRIBE", channel), lambda _: True)
        return frame if isinstance(frame, Failure) else Reply(None)

    def ask_setting(self, name: str) -> str | None:
        """A setting of the server; None if it does not tell."""
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


def try_rights(server: Questions, names: RedisNames) -> dict[str, str]:
    """Try each command that we need. Returns what the server said against it, "" for nothing."""
    scripted = server.ask(
        "EVAL", RIGHTS_SCRIPT, 3, names.journal, names.epoch, names.holds, names.channel, NOTHING_HAPPENED
    )
    said = {
        "info": server.ask("INFO", "server"),
        "role": server.ask("ROLE"),
        "ping": server.ask("PING"),
        "get": server.ask("GET", names.epoch),
        "xrange": server.ask("XRANGE", names.journal, "-", "+", "COUNT", 1),
        "xrevrange": server.ask("XREVRANGE", names.journal, "+", "-", "COUNT", 1),
        "zrange": server.ask("ZRANGE", names.holds, 0, 0),
        "eval": scripted,
        "evalsha": server.ask("EVALSHA", "0" * 40, 0),
        "script|load": server.ask("SCRIPT", "LOAD", PUBLISH_SCRIPT),
        "subscribe": server.subscribe(names.channel),
    }
    objections = {command: answer.text if isinstance(answer, Failure) else "" for command, answer in said.items()}
    if "No matching script" in objections["evalsha"]:
        objections["evalsha"] = ""
    if isinstance(scripted, Reply):
        for command, text in zip(SCRIPT_COMMANDS, scripted.value, strict=True):
            objection = to_text(text)
            if not any(words in objection for words in _WRONG_ON_PURPOSE):
                objections[command] = objections.get(command) or objection
    return objections


def measure(server: Questions, times: int = PINGS) -> list[float]:
    """How long *times* PINGs took, in seconds, sorted."""
    took = []
    for _ in range(times):
        began = time.perf_counter()
        server.ask("PING")
        took.append(time.perf_counter() - began)
    return sorted(took)


def _user(server: Questions, url: str) -> str:
    answer = server.ask("ACL", "WHOAMI")
    return to_text(answer.value) if isinstance(answer, Reply) else urlsplit(url).username or "default"


def _read(path: str) -> str:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return ""


def _time_offset() -> bool:
    """Whether this process lives in a time namespace of its own, with another steady clock than the host's."""
    return any(line.split()[1:] not in (["0", "0"], []) for line in _read("/proc/self/timens_offsets").splitlines())


# Checks of this host.


def check_hiredis(installed: str | None = None) -> Finding:
    """The parser: *installed* version, None for what this Python has."""
    if installed is None:
        try:
            installed = version("hiredis")
        except PackageNotFoundError:
            installed = ""
    found = f"hiredis {installed or 'is not installed'}"
    if version_numbers(installed) < version_numbers(LEAST_HIREDIS):
        return Finding(
            check="hiredis",
            level="fail",
            found=found,
            means=f"hiredis before {LEAST_HIREDIS} leaks memory with every message that is received; without it Python "
            "parses them",
            repair=f"pip install --upgrade 'hiredis>={LEAST_HIREDIS}'",
        )
    return Finding(check="hiredis", level="ok", found=found)


def check_clock(source: str, is_shifted: bool, platform: str = sys.platform) -> Finding:
    """
    The host's steady clock.

    Args:
        source: what the kernel makes it from; "" if that is not known.
        is_shifted: whether this process sees another steady clock than the rest of the host.
    """
    if platform == "linux" and not hasattr(time, "CLOCK_BOOTTIME"):
        return Finding(
            check="clock",
            level="fail",
            found="Python has no CLOCK_BOOTTIME here",
            means="nothing counts the time that this host sleeps",
            repair="use a Python that was built on Linux 2.6.39 or newer",
        )
    name = "CLOCK_BOOTTIME" if platform == "linux" else "CLOCK_MONOTONIC"
    found = f"{name}, made from {source}" if source else name
    if is_shifted:
        return Finding(
            check="clock",
            level="fail",
            found=f"{found}, in a time namespace of its own (/proc/self/timens_offsets)",
            means="this process and a sidecar outside of it disagree about the time, so that no lease means anything",
            repair="run workers and sidecar in the same time namespace (no `unshare --time` around one of them)",
        )
    if source in ("hpet", "acpi_pm", "jiffies"):
        return Finding(
            check="clock",
            level="warn",
            found=found,
            means="reading it takes about a microsecond, and every hit of a cache reads it",
            repair="echo tsc > /sys/devices/system/clocksource/clocksource0/current_clocksource, if that is offered in "
            "available_clocksource; on a virtual machine, its host's kvm-clock or hyperv_clocksource",
        )
    return Finding(check="clock", level="ok", found=found)


def check_ledger(path: Path, config: Config, *, slots: int, is_default: bool) -> Iterator[Finding]:
    """The place of the sidecar's ledger, and the ledger if there is one."""
    size = 8 * (HEADER_WORDS + slots)
    try:
        room = os.statvfs(path.parent)
    except OSError as error:
        yield Finding(
            check="ledger's place",
            level="fail",
            found=f"{path.parent}: {error.strerror}",
            means="a sidecar could not put its ledger there",
            repair=f"mount memory there (`mount -t tmpfs -o size=32m tmpfs {path.parent}`), or name another path",
        )
        return
    free = room.f_bavail * room.f_frsize
    yield check_room(path, free, size, _kind_of_file_system(path.parent))
    if not path.exists():
        yield Finding(
            check="sidecar",
            level="ok" if is_default else "fail",
            found=f"no ledger at {path}",
            means="each process listens for itself" if is_default else "a worker with this path does not start",
            repair="" if is_default else f"invalidator sidecar --namespace {config.namespace} --path {path}",
        )
        return
    try:
        file = LedgerFile(path, namespace=config.namespace, any_owner=not is_default)
    except LedgerFileError as error:
        yield Finding(
            check="sidecar",
            level="fail",
            found=str(error),
            means="workers refuse this ledger",
            repair="restart the sidecar, which puts a new one in its place; run it as root or as the workers' user, or "
            "name its path to the workers",
        )
        return
    except OSError as error:
        yield Finding(
            check="sidecar", level="fail", found=f"{path}: {error.strerror}", means="workers cannot read this ledger"
        )
        return
    yield check_lease(path, file.view.words[PROVEN_AT], now_ns(), config)


def check_room(path: Path, free: int, size: int, kind: str) -> Finding:
    """
    Whether a ledger fits.

    Args:
        free, size: bytes that are left where *path* is; that a ledger takes.
        kind: of file system; "" if that is not known.
    """
    found = f"{path.parent} ({kind or 'unknown'}): {free / 2**20:,.0f} MiB free, a ledger takes {size / 2**20:,.1f} MiB"
    if free < size and not path.exists():
        return Finding(
            check="ledger's place",
            level="fail",
            found=found,
            means="a sidecar does not start there",
            repair=f"make room (Kubernetes: a larger sizeLimit; Docker: --shm-size), or take fewer slots: "
            f"--slots {2 ** max(10, (free // 16).bit_length())}",
        )
    if kind and kind not in ("tmpfs", "ramfs", "devtmpfs"):
        return Finding(
            check="ledger's place",
            level="warn",
            found=found,
            means="this is a disk: the kernel will write the ledger to it every few seconds",
            repair="name a path on a tmpfs, such as /dev/shm or /run",
        )
    return Finding(check="ledger's place", level="ok", found=found)


def check_lease(path: Path, proven_at: int, now: int, config: Config) -> Finding:
    """Whether a sidecar lives."""
    age = (now - proven_at) / 1e9
    if proven_at and age < config.max_staleness:
        return Finding(check="sidecar", level="ok", found=f"{path}: proven {age:.1f} s ago")
    return Finding(
        check="sidecar",
        level="warn",
        found=f"{path}: {f'last proven {age:,.0f} s ago' if proven_at else 'never proven'}",
        means=f"its sidecar is dead or cannot reach Redis: workers keep each entry for {config.max_staleness:g} s",
        repair="see the sidecar's log and its /readyz, and start it if it does not run: "
        f"invalidator sidecar --namespace {config.namespace}; if there shall be none, remove the file",
    )


def _kind_of_file_system(directory: Path) -> str:
    """As the kernel calls it; "" where it does not tell."""
    best, kind = "", ""
    place = f"{directory.resolve()}/"
    for line in _read("/proc/self/mounts").splitlines():
        mounted, found = line.split()[1:3]
        if place.startswith(f"{mounted.rstrip('/')}/") and len(mounted) >= len(best):
            best, kind = mounted, found
    return kind


# Checks of the server.


def check_reachable(url: str, error: str) -> Finding:
    """Whether there is a connection: *error* says why not."""
    parts = urlsplit(url)
    place = parts.path if parts.scheme == "unix" else f"{parts.hostname}:{parts.port or 6379}"
    if not error:
        return Finding(check="reachable", level="ok", found=place)
    if any(word in error for word in ("Authentication", "WRONGPASS", "NOAUTH", "NOPERM", "invalid username")):
        repair = "put the user and the password into the url: redis://user:password@host:port/0"
    elif "HELLO" in error or "unknown command" in error:
        repair = "upgrade: Redis 6.2 or Valkey is the least that will do"
    elif "SSL" in error or "CERTIFICATE" in error:
        repair = "rediss:// is TLS and redis:// is not; name the certificates: rediss://…?ssl_ca_certs=/path"
    else:
        repair = "start the server, or correct the url; then look for a firewall between: redis-cli -u URL ping"
    return Finding(
        check="reachable",
        level="fail",
        found=f"{place}: {error}",
        means="nothing is heard and nothing can be said: entries live for the bound, invalidations wait",
        repair=repair,
    )


def check_version(info: Info) -> Finding:
    """Which server, and whether it is new enough."""
    redis_version = info.get("redis_version", "")
    found = f"Valkey {info['valkey_version']}" if "valkey_version" in info else f"Redis {redis_version or 'unknown'}"
    if redis_version and version_numbers(redis_version) < LEAST_VERSION:
        return Finding(
            check="version",
            level="fail",
            found=found,
            means="the journal cannot be read page by page before 6.2",
            repair="upgrade to Redis 6.2 or newer, or to Valkey",
        )
    return Finding(check="version", level="ok", found=found)


def check_role(info: Info) -> Finding:
    """Whether this server takes the publishes."""
    role = info.get("role", "master")
    if info.get("cluster_enabled") == "1":
        return Finding(
            check="role",
            level="fail",
            found="a node of a cluster",
            means="cluster mode is not supported yet: processes refuse to listen there",
            repair="give a server without cluster-enabled; a small one is enough, as it only carries names",
        )
    if role != "master":
        primary = f"{info.get('master_host', '?')}:{info.get('master_port', '?')}"
        return Finding(
            check="role",
            level="fail",
            found=f"a {role} of {primary}",
            means="a replica does not take the publishes, so that nothing it says proves anything",
            repair=f"put the primary into the url: {primary}",
        )
    return Finding(check="role", level="ok", found="primary")


def check_rights(objections: dict[str, str], user: str, namespace: str) -> Finding:
    """Whether every command is allowed: *objections* by command, "" for none."""
    refused = {command: text for command, text in objections.items() if text}
    if not refused:
        return Finding(check="rights", level="ok", found=f"user {user} may do all that is needed")
    names = ", ".join(refused)
    if all(any(words in text for words in _FORBIDDEN) for text in refused.values()):
        helpful = [HELPFUL[command] for command in refused if command in HELPFUL]
        only_helpful = len(helpful) == len(refused)
        return Finding(
            check="rights",
            level="warn" if only_helpful else "fail",
            found=f"user {user} may not: {names} ({next(iter(refused.values()))})",
            means="; ".join(helpful) if only_helpful else "invalidations are not heard, or cannot be said",
            repair=acl_command(user, namespace),
        )
    first = next((text for text in refused.values() if not any(words in text for words in _FORBIDDEN)), "")
    return Finding(
        check="rights",
        level="fail",
        found=f"refused: {names} ({first})",
        means="invalidations are not heard, or cannot be said",
        repair=_repair_refusal(first, namespace),
    )


def _repair_refusal(text: str, namespace: str) -> str:
    if "WRONGTYPE" in text:
        return f"another program uses our keys: DEL what `KEYS 'invalidator:{{{namespace}}}:*'` names, and keep it out"
    if "OOM" in text or "maxmemory" in text:
        return "the server's memory is full: raise maxmemory, or move the invalidations to a server of their own"
    if "NOREPLICAS" in text or "good replicas" in text:
        return "start the replicas that min-replicas-to-write asks for, or CONFIG SET min-replicas-to-write lower"
    if "READONLY" in text or "read only replica" in text:
        return "this is a replica: put the primary into the url"
    if "MISCONF" in text:
        return "the server cannot save its data: make room on its disk, or CONFIG SET stop-writes-on-bgsave-error no"
    return "see the server's log"


def acl_command(user: str, namespace: str) -> str:
    """What gives *user* the least rights that are needed, and takes none away."""
    rights = " ".join(f"+{command}" for command in COMMANDS.split())
    names = redis_names(namespace)
    return f"ACL SETUSER {user} ~invalidator:{{{namespace}}}:* &{names.channel} {rights}"


def check_output_buffer(limit: str | None) -> Finding:
    """How much may wait for a subscriber before the server cuts it: `client-output-buffer-limit`."""
    fields = (limit or "").split()
    if "pubsub" not in fields:
        return Finding(
            check="output buffer",
            level="warn",
            found="the server does not tell (CONFIG GET client-output-buffer-limit)",
            means="a subscriber that is slow for a moment may be cut; it comes back and loses nothing",
            repair="if this server is hosted, look into its settings; else allow the user who asks +config|get",
        )
    at = fields.index("pubsub")
    hard, soft, seconds = (int(field) for field in fields[at + 1 : at + 4])
    found = f"pubsub: {_bytes(hard)}, or {_bytes(soft)} for {seconds} s"
    page = PAGE * MAX_BODY_BYTES
    repair = "CONFIG SET client-output-buffer-limit 'pubsub 33554432 8388608 60', and CONFIG REWRITE"
    if 0 < hard < 2 * page or (0 < soft < 2 * page and seconds < 10):
        return Finding(
            check="output buffer",
            level="fail",
            found=found,
            means=f"a page of the journal can have {_bytes(page)}: a subscriber that reads it is cut, again and again",
            repair=repair,
        )
    if not hard:
        return Finding(
            check="output buffer",
            level="warn",
            found=found,
            means="a subscriber that was stopped makes the server's memory grow for ever",
            repair=repair,
        )
    return Finding(check="output buffer", level="ok", found=found)


def check_eviction(info: Info) -> Finding:
    """What the server does when its memory is full: `maxmemory-policy`, which INFO tells."""
    policy, most = info.get("maxmemory_policy", "noeviction"), int(info.get("maxmemory", 0))
    found = f"maxmemory {_bytes(most)}, maxmemory-policy {policy}"
    used = int(info.get("used_memory", 0))
    if most and policy.startswith("allkeys"):
        return Finding(
            check="eviction",
            level="warn",
            found=found,
            means="the journal may be evicted like any other key: all caches are voided then, and no value is stale",
            repair="CONFIG SET maxmemory-policy volatile-lru (or noeviction), CONFIG REWRITE; or a server of its own",
        )
    if most and used > FULL * most:
        return Finding(
            check="eviction",
            level="warn",
            found=f"{found}, {used / most:.0%} used",
            means="when it is full, invalidations are refused and wait in their writers' queues",
            repair=f"CONFIG SET maxmemory {2 * most}, or move other data away",
        )
    means = ""
    if most and policy.startswith("volatile"):
        means = "of our keys only the holds of strict writes have a TTL and may be evicted"
    return Finding(check="eviction", level="ok", found=found, means=means)


def check_replicas(info: Info, setting: str | None) -> Finding:
    """What a primary does that lost its replicas: `min-replicas-to-write`, None if the server does not tell."""
    replicas = int(info.get("connected_slaves", 0))
    found = f"{replicas} connected, min-replicas-to-write {setting if setting is not None else 'unknown'}"
    least = int(setting or 0)
    if least > replicas:
        return Finding(
            check="replicas",
            level="fail",
            found=found,
            means="every write is refused, ours too: invalidations wait in their writers' queues",
            repair=f"start the missing replicas, or CONFIG SET min-replicas-to-write {replicas}",
        )
    if replicas and not least:
        return Finding(
            check="replicas",
            level="warn",
            found=found,
            means="a primary that is cut off goes on accepting invalidations that nobody behind the new one hears",
            repair="CONFIG SET min-replicas-to-write 1, CONFIG SET min-replicas-max-lag 10, and CONFIG REWRITE",
        )
    return Finding(check="replicas", level="ok", found=found)


def check_latency(took: Sequence[float], config: Config) -> Finding:
    """How fast the server answers: *took* seconds, sorted."""
    p50, p99 = took[len(took) // 2], took[len(took) * 99 // 100]
    found = f"PING p50 {p50 * 1000:.2f} ms, p99 {p99 * 1000:.2f} ms"
    interval = config.max_staleness / PROOFS_PER_BOUND
    repair = "put the server nearer, look for slow commands (SLOWLOG GET 10, LATENCY DOCTOR), or raise max_staleness"
    if p50 > interval:
        return Finding(
            check="latency",
            level="fail",
            found=found,
            means=f"a proof is asked for every {interval:g} s and takes longer: leases run out all the time",
            repair=repair,
        )
    if p99 > interval / 2:
        return Finding(
            check="latency",
            level="warn",
            found=found,
            means=f"close to the {interval:g} s between two proofs: a lease may run out when the server is busy",
            repair=repair,
        )
    return Finding(check="latency", level="ok", found=found)


def _bytes(count: int) -> str:
    if not count:
        return "unlimited"
    for unit, size in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if count >= size:
            return f"{count / size:.4g} {unit}"
    return f"{count} bytes"
