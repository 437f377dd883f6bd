"""The whole examination: which checks are made, in which order, and with which facts."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from ..config import Config
from ..errors import InvalidSetting, LinkDown
from ..ledger.file import default_path
from ..link import Link, make_link
from ..names import redis_names
from ..protocol.frames import Reply, parse_info
from . import host, server
from .findings import Finding
from .questions import ANSWER_TIMEOUT_S, Questions, ask_user, measure, try_rights


def examine(url: str, config: Config, *, path: Path | None = None, slots: int = 2**20) -> Iterator[Finding]:
    """
    Make all checks, and yield their findings one after the other.

    Args:
        url: of the server.
        config: of a process; its namespace, bound and timeouts are used.
        path: of the sidecar's ledger; None for its default place.
        slots: of the ledger that a sidecar would make.

    Raises:
        InvalidSetting: the URL cannot work.
    """
    if url.startswith("memory:"):
        raise InvalidSetting("memory:// is a server in this process: there is nothing to look at")
    yield host.check_hiredis()
    yield host.look_at_clock()
    yield from host.check_ledger(path or default_path(config.namespace), config, slots=slots, is_default=path is None)
    link = make_link(url, timeout_s=max(config.publish_timeout, ANSWER_TIMEOUT_S), namespace=config.namespace)
    with contextlib.closing(link):
        yield from _examine_by(link, config, url)


def _examine_by(link: Link, config: Config, url: str) -> Iterator[Finding]:
    try:
        connection = link.connect()
    except LinkDown as error:
        yield server.check_reachable(url, str(error))
        return
    try:
        yield server.check_reachable(url, "")
        yield from _examine_server(Questions(connection), config, url)
    except LinkDown as error:
        yield Finding(
            check="connection",
            level="fail",
            found=f"it ended during the examination: {error}",
            means="not everything could be checked",
            repair="see the server's log, and run this again",
        )
    finally:
        connection.close()


def _examine_server(questions: Questions, config: Config, url: str) -> Iterator[Finding]:
    names = redis_names(config.namespace)
    answer = questions.ask("INFO")
    info = parse_info(answer.value) if isinstance(answer, Reply) else {}
    if info:
        yield server.check_version(info)
        yield server.check_role(info)
        yield server.check_eviction(info)
    yield server.check_rights(try_rights(questions, names), ask_user(questions, url), config.namespace)
    yield server.check_output_buffer(questions.ask_setting("client-output-buffer-limit"))
    if info:
        yield server.check_replicas(info, questions.ask_setting("min-replicas-to-write"))
    yield server.check_latency(measure(questions), config)
