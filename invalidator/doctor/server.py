"""
Checks of a server: what its answers mean for the promise, and what to do about it. Nothing is asked here.

A finding names its meaning and the exact repair, or it is not worth a line. What cannot be checked (a hosted server
hides CONFIG) is a warning, not a failure.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..config import PROOFS_PER_BOUND, Config
from ..link import is_address, parse_address
from ..message import MAX_BODY_BYTES
from ..names import redis_names
from ..protocol.frames import Info
from ..protocol.subscription import PAGE
from ..requirements import version_numbers
from .findings import Finding

LEAST_VERSION = (6, 2)
"""RESP3 came with 6.0, exclusive ranges of stream ids with 6.2."""
FULL = 0.9

COMMANDS = (
    "hello client|setinfo select ping info role subscribe publish get set xadd xrange xrevrange zadd zrem zrange "
    "zremrangebyscore pexpire pttl time eval evalsha script|load"
)
"""All commands that the library sends. docs/wire-protocol.md lists the same."""
HELPFUL = {
    "info": "without it a restart of the server cannot be recognized, so every reconnect voids the caches",
    "role": "without it a primary that was demoted is noticed only when the connection ends",
}
"""What the library can do without, and what that costs."""

# redis-py removes the code from some errors ("NOPERM …"), and scripts do not: so these are words of the texts.
_FORBIDDEN = (
    "NOPERM",
    "no permissions",
    "No permissions",
    "ACL failure",
    "can't run this command",
    "can't access at least one",
    "unknown command",
)


def check_reachable(url: str, error: str) -> Finding:
    """Check whether there is a connection; *error* says why not."""
    place = parse_address(url).place if is_address(url) else url
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
        means="nothing is received and nothing can be published: entries live for the bound, invalidations wait",
        repair=repair,
    )


def check_version(info: Info) -> Finding:
    """Check which server it is, and whether it is new enough."""
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
    """Check whether this server accepts publishes."""
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
            means="a replica does not accept publishes, so its answers prove nothing",
            repair=f"put the primary into the url: {primary}",
        )
    return Finding(check="role", level="ok", found="primary")


def check_rights(objections: dict[str, str], user: str, namespace: str) -> Finding:
    """Check whether every command is allowed. *objections* are the server's errors by command, "" for none."""
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
            means="; ".join(helpful) if only_helpful else "invalidations are not received, or cannot be published",
            repair=acl_command(user, namespace),
        )
    first = next((text for text in refused.values() if not any(words in text for words in _FORBIDDEN)), "")
    return Finding(
        check="rights",
        level="fail",
        found=f"refused: {names} ({first})",
        means="invalidations are not received, or cannot be published",
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
    """Return the command that gives *user* the rights that are needed, and removes none."""
    rights = " ".join(f"+{command}" for command in COMMANDS.split())
    names = redis_names(namespace)
    return f"ACL SETUSER {user} ~invalidator:{{{namespace}}}:* &{names.channel} {rights}"


def check_output_buffer(limit: str | None) -> Finding:
    """Check how much may wait for a subscriber before the server disconnects it: `client-output-buffer-limit`."""
    fields = (limit or "").split()
    if "pubsub" not in fields:
        return Finding(
            check="output buffer",
            level="warn",
            found="the server does not show it (CONFIG GET client-output-buffer-limit)",
            means="a subscriber that is slow for a moment may be disconnected; it reconnects and loses nothing",
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
            means=f"a page of the journal can have {_bytes(page)}: a subscriber that reads it is always disconnected",
            repair=repair,
        )
    if not hard:
        return Finding(
            check="output buffer",
            level="warn",
            found=found,
            means="for a subscriber that was stopped, the server's memory grows without bound",
            repair=repair,
        )
    return Finding(check="output buffer", level="ok", found=found)


def check_eviction(info: Info) -> Finding:
    """Check what the server does when its memory is full: `maxmemory-policy`, which INFO shows."""
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
    """Check what a primary without its replicas does: `min-replicas-to-write`, None if the server does not show it."""
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
            means="a primary that is cut off goes on accepting invalidations, and subscribers of the new one miss them",
            repair="CONFIG SET min-replicas-to-write 1, CONFIG SET min-replicas-max-lag 10, and CONFIG REWRITE",
        )
    return Finding(check="replicas", level="ok", found=found)


def check_latency(took: Sequence[float], config: Config) -> Finding:
    """Check how fast the server answers; *took* are seconds, sorted."""
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
