"""
One process' part in a namespace: what it says, and (`feeds/`) what it receives.

Nothing starts at import or when an `Invalidator` is made; the listener starts with the first fill. After a fork the
child has a new node id, new locks, and starts its own listener with its own first fill (at once if it has callbacks);
the lease and the position it has read stay valid.

Rule 1: an invalidation is stamped here before it is published, so that who calls `invalidate` never reads what it
replaced.
Rule 2: callbacks run without any lock held, and their exceptions end with them.
"""

from __future__ import annotations

import asyncio
import atexit
import logging
import os
import secrets
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

from . import forks, message
from .config import HOLD, Config
from .entry import ValidityRule
from .errors import InvalidMessage, InvalidName, InvalidSetting, JournalUnread, LedgerFileError, LinkDown, PublishError
from .feeds import LedgerFeed
from .feeds.listener import Listener, apply_to_ledger, make_listener
from .feeds.listener_feed import ListenerFeed
from .feeds.sidecar_feed import SidecarFeed
from .ledger import Clock, Ledger, Words, now_ns
from .ledger.file import default_path
from .link import Link, make_link
from .message import Body
from .names import Tag, check_key, check_tags, name_slots, redis_names
from .protocol.journal import Journal
from .protocol.subscription import Happening
from .publishing.hold import Hold
from .publishing.publisher import Publisher
from .receipt import Receipt
from .status import Invalidation, Journaled, Past, Status
from .weak_list import WeakList

log = logging.getLogger("invalidator.bus")

_JOURNAL_PAGE = 200
"""Messages. At most 4 MiB, as for a replay."""

Callback = Callable[[Invalidation], object]


class Attached(Protocol):
    """A cache that keeps entries under this bus' names."""

    def drop(self, keys: Iterable[str], loaded_before: int) -> None:
        """Let the entries of *keys* leave that were loaded before that time: their names were invalidated."""

    def watch(self, words: Words) -> None:
        """A hit has to compare with the count of changes in *words* from now on."""

    def sweep(self) -> object:
        """Let every entry leave that may not be served."""


class Invalidator:
    """
    Tells every server of a namespace what became stale, and hears it from them.

    Args:
        url: `redis://host:port/db`, `rediss://…`, `unix:///path`; `memory://` for one process alone, or `embedded://`
            for those of one developer, who start and stop a server of their own.
        namespace: who hears whom, and the other options: see `Config`.
        sidecar: None to listen with a thread of this process; "auto" to use this host's sidecar if one is alive; or
            the path of its ledger.
        clock: nanoseconds on this host's steady clock; for tests.
        link: the way to the server, instead of *url*; for tests.

    Raises:
        InvalidSetting: an option cannot work.
        LedgerFileError: there is no sidecar's ledger at that path, or it does not fit.
    """

    def __init__(
        self,
        url: str,
        *,
        namespace: str,
        sidecar: str | os.PathLike[str] | None = None,
        clock: Clock = now_ns,
        link: Link | None = None,
        **options: Any,
    ) -> None:
        try:
            self.config = Config(namespace=namespace, **options)
        except TypeError as error:
            raise InvalidSetting(f"unknown option: {error}") from None
        self.url = url
        self.clock = clock
        self.node = secrets.token_hex(6)
        self._link = link or make_link(url, timeout_s=self.config.publish_timeout, namespace=namespace)
        self._names = redis_names(namespace)
        self._publisher = self._make_publisher()
        self._caches: WeakList[Attached] = WeakList()
        self._callbacks: dict[object, tuple[Callback, frozenset[str], frozenset[str]]] = {}
        self._closed = False
        self._closing = threading.Lock()
        self._feed = self._choose_feed(sidecar)
        self.slots = self._feed.view.slots
        self.watched: Words = self._feed.view.words
        _living.add(self)
        forks.register_for_forks(self)

    def _make_publisher(self) -> Publisher:
        return Publisher(
            self._link,
            self._names,
            node=self.node,
            journal_length=self.config.journal_length,
            when_down=self.config.publish,
            queue_size=self.config.queue_size,
        )

    def _choose_feed(self, sidecar: str | os.PathLike[str] | None) -> LedgerFeed:
        """By the sidecar if there is to be one. "auto" asks whether one is alive, once."""
        if sidecar is not None:
            is_auto = sidecar == "auto"
            path = default_path(self.namespace) if is_auto else Path(sidecar)
            try:
                feed = SidecarFeed(
                    self.config, self.clock, path, any_owner=not is_auto, watch=self._watch, sweep=self._sweep
                )
            except LedgerFileError:
                if not is_auto:
                    raise
            else:
                if not is_auto or feed.is_leased():
                    return feed
            log.info("no live sidecar, listening for ourselves namespace=%s path=%s", self.namespace, path)
        ledger = Ledger.private(slots=self.config.slots, namespace=self.namespace)
        return ListenerFeed(ledger, self._make_listener)

    @property
    def namespace(self) -> str:
        """Who hears whom."""
        return self.config.namespace

    @property
    def ledger(self) -> Ledger:
        """Where this process stamps what it invalidates itself; and what it hears, if it listens for itself."""
        return self._feed.own

    # Saying.

    def invalidate(self, *keys: str, tags: Iterable[str | Tag] = ()) -> Receipt:
        """
        Say that *keys*, and everything with one of *tags*, became stale: here at once, everywhere within
        `max_staleness`.

        Call it after the change is committed; until then a loader reads the old value.

        Raises:
            InvalidName: a name cannot be one, or there is none.
            PublishError: Redis did not take it and `publish` is "raise".
            ClosedError: after `close`.
        """
        return self.announce(*keys, tags=tags)()

    async def ainvalidate(self, *keys: str, tags: Iterable[str | Tag] = ()) -> Receipt:
        """
        `invalidate` for coroutines: in force here before the first await; the event loop does not wait for Redis.

        Who is cancelled meanwhile (a web server cancels the request of a client that went away) has said it all the
        same: what changed is committed.
        """
        tell = self.announce(*keys, tags=tags)
        return await asyncio.shield(asyncio.get_running_loop().run_in_executor(None, tell))

    def announce(self, *keys: str, tags: Iterable[str | Tag] = (), at: int | None = None) -> Callable[[], Receipt]:
        """
        The first half of `invalidate`, in force here; who calls what it returns, exactly once, tells the others.

        Args:
            at: what was loaded up to then is stale: a time just read from the clock; None for now.
        """
        keys, tags = self._check_names(keys, tags)
        self._feed.before_publish()
        at = self.clock() if at is None else at
        self.ledger.stamp(name_slots(keys, tags, self.ledger.slots), at)
        return lambda: self._tell_of(keys, tags, at)

    def _tell_of(self, keys: tuple[str, ...], tags: tuple[str, ...], at: int) -> Receipt:
        try:
            return self._say(lambda: self._publisher.publish(keys, tags))
        finally:
            self._drop(keys, at)  # they are void since they were stamped: the others come first

    def clear(self) -> Receipt:
        """Say that everything in the namespace became stale. Raises as `invalidate` does."""
        self._feed.before_publish()
        self.ledger.flush(self.clock())
        return self._say(lambda: self._publisher.publish((), (), clear=True))

    def hold(self, *keys: str, tags: Iterable[str | Tag] = (), duration: float = HOLD.default) -> Hold:
        """
        Announce, before a commit, that names are about to become stale: nobody caches them until the hold is released
        or ends.

        A writer that dies between its commit and its invalidation then leaves no stale entry behind. The write must be
        committed before the hold ends: see `Hold.check`.

        Args:
            duration: seconds; what a dead writer costs.

        Raises:
            InvalidName, InvalidSetting: an argument cannot work.
            PublishError: Redis did not take it. Nothing was held: do not commit.
            ClosedError: after `close`.
        """
        HOLD.validate("duration", duration)
        hold = Hold(secrets.token_hex(8), duration, self.clock, self._extend_hold, self.release_hold)
        try:
            hold.extend(*keys, tags=tags)
        except PublishError:
            self.ledger.release(name_slots(hold.keys, hold.tags, self.ledger.slots), hold.owner, self.clock())
            raise
        return hold

    def _extend_hold(self, hold: Hold, keys: tuple[str, ...], tags: Iterable[str | Tag]) -> None:
        keys, tags = self._check_names(keys, tags)
        bodies = message.hold_bodies(self.node, hold.owner, int(hold.duration * 1000), keys, tags)
        hold.remember(keys, tags, bodies)
        self._feed.before_publish()
        now = self.clock()
        for body in bodies:
            apply_to_ledger(self.ledger, message.decode(body), now)
        self._say(lambda: self._publisher.publish_hold(hold, bodies))

    def release_hold(self, hold: Hold) -> Receipt:
        """Called by *hold* when it is released."""
        self._feed.before_publish()
        now = self.clock()
        self.ledger.release(name_slots(hold.keys, hold.tags, self.ledger.slots), hold.owner, now)
        try:
            return self._say(lambda: self._publisher.publish_release(hold))
        finally:
            self._drop(hold.keys, now)

    def _say(self, publish: Callable[[], Receipt]) -> Receipt:
        """Publish what was stamped here, after `before_publish`."""
        try:
            receipt = publish()
        except BaseException as error:  # a worker's time-out too: without `after_publish`, doubt would never end
            lost = Receipt()
            lost.lose(str(error) or type(error).__name__)
            self._feed.after_publish(lost)
            raise
        self._feed.after_publish(receipt)
        return receipt

    def _check_names(self, keys: Iterable[str], tags: Iterable[str | Tag]) -> tuple[tuple[str, ...], tuple[str, ...]]:
        keys = tuple(dict.fromkeys(map(check_key, keys)))
        tags = check_tags(tags)
        if not (keys or tags):
            raise InvalidName("nothing to invalidate: name keys or tags, or call clear() for everything")
        return keys, tags

    # Hearing.

    @property
    def echoes(self) -> bool:
        """Whether the ledger stamps what this process says once more, as it does for what others say: a sidecar's."""
        return self._feed.kind == "sidecar"

    def start(self) -> None:
        """Start to hear now instead of with the first fill. Does nothing if that has begun, or after `close`."""
        self._feed.start()

    def wait_until_leased(self, timeout: float) -> bool:
        """
        Start the listener and wait until there is a lease, at most *timeout* seconds. Returns whether there is one.
        """
        self.start()
        rule = self.make_rule()
        return self._feed.wait_until(lambda: rule.lease_remaining_ns() > 0, timeout)

    def wait_until_proven(self, at: int) -> bool:
        """
        Wait until every invalidation that was accepted before *at*, a time of `clock`, is known here, at most
        `max_staleness`. Returns whether that is so.
        """
        view = self._feed.view
        return self._feed.wait_until(lambda: view.read_lease()[0] > at, self.config.max_staleness)

    def was_invalidated(self, keys: Iterable[str], tags: Iterable[str] = (), *, since: int) -> bool:
        """Whether one of *keys* or *tags* became stale since then, a time of `clock`, as far as is known here."""
        slots = name_slots(keys, tags, self.slots)
        return max(self.ledger.newest_stamp(slots), self._feed.view.newest_stamp(slots)) >= since

    def on_invalidate(
        self, callback: Callback, keys: Iterable[str] = (), tags: Iterable[str | Tag] = ()
    ) -> Callable[[], None]:
        """
        Call *callback* with an `Invalidation` when one of *keys* or *tags* (without any: anything) became stale, said
        by whomever.

        It also hears of everything that may have made it stale: a clear, or a flush because something may have been
        missed. It runs in the listener's thread, which proves nothing while it waits: be quick, or hand over.

        Returns:
            a function that ends this.
        """
        if isinstance(keys, str):
            raise InvalidName(f"keys must be a list, tuple or set of strings; for one key write keys=[{keys!r}]")
        if self._feed.kind == "sidecar":
            raise InvalidSetting(
                "a sidecar's worker gets no messages: use an Invalidator with sidecar=None for callbacks"
            )
        token = object()
        self._callbacks[token] = (callback, frozenset(map(check_key, keys)), frozenset(check_tags(tags)))
        self.start()

        def end() -> None:
            self._callbacks.pop(token, None)

        return end

    @property
    def has_callbacks(self) -> bool:
        """Whether `on_invalidate` has been given any that did not end."""
        return bool(self._callbacks)

    def invalidated(self, body: Body, id: str, now: int) -> None:
        """Called by the listener: a message was applied to the ledger."""
        if body.node != self.node:
            self._drop(body.keys, now)
        if body.op != "hold":  # it announces a change that is still to come: who acted on it would read the old value
            reason = "clear" if body.op == "clear" else "invalidate"
            self._tell(Invalidation(body.keys, body.tags, reason == "clear", reason, id, body.node))

    def flushed(self, reason: str, now: int) -> None:
        """Called by the listener: the ledger was voided."""
        self._tell(Invalidation((), (), True, reason, "", ""))

    def _tell(self, invalidation: Invalidation) -> None:
        for callback, keys, tags in list(self._callbacks.values()):
            wanted = not (keys or tags) or invalidation.everything
            if wanted or not keys.isdisjoint(invalidation.keys) or not tags.isdisjoint(invalidation.tags):
                try:
                    callback(invalidation)
                except Exception:
                    log.exception("on_invalidate callback failed callback=%r", callback)

    def _drop(self, keys: Iterable[str], loaded_before: int) -> None:
        if keys:
            for cache in self._caches:
                cache.drop(keys, loaded_before)

    def _watch(self, words: Words) -> None:
        self.watched = words
        for cache in self._caches:
            cache.watch(words)

    def _sweep(self) -> None:
        for cache in self._caches:
            cache.sweep()

    def _make_listener(self, ledger: Ledger, journal: Journal | None) -> Listener:
        return make_listener(self.config, self._link, ledger, self, node=self.node, clock=self.clock, journal=journal)

    def read_journal(self, most: int = 10_000) -> Iterator[Journaled]:
        """
        The last messages of the namespace, newest first: what became stale lately, said by whomever.

        Args:
            most: how many are read; in pages, as they are asked for.

        Raises:
            JournalUnread: the server did not answer.
        """
        before = ""
        while most > 0:
            wanted = min(most, _JOURNAL_PAGE)
            try:
                page = self._link.read_journal(self._names, before, wanted)
            except LinkDown as error:
                raise JournalUnread(f"the journal cannot be read: {error}") from error
            yield from (_journaled(id, body) for id, body in page)
            if len(page) < wanted:
                return
            most -= wanted
            before = page[-1][0]

    # For caches.

    def make_rule(self) -> ValidityRule:
        """The rule by which entries under this bus are served."""
        return ValidityRule(
            self._feed.view,
            self.clock,
            own=self.ledger,
            max_staleness_ns=self.config.max_staleness_ns,
            when_unleased=self.config.when_unleased,
            replica_lag_ns=self.config.replica_lag_ns,
        )

    def attach(self, cache: Attached) -> None:
        """Let *cache* hear of every key that became stale, as long as it lives."""
        self._caches.add(cache)
        watched = None
        while watched is not self.watched:  # another thread may change it, and tell only the caches it knew of
            watched = self.watched
            cache.watch(watched)

    # Looking.

    def status(self) -> Status:
        """How we are doing. Cheap: no I/O, no lock."""
        tally = self._feed.tally
        remaining_ns = self.make_rule().lease_remaining_ns()
        now = self.clock()
        return Status(
            namespace=self.namespace,
            node=self.node,
            state="closed" if self._closed else self._feed.state,
            listener=self._feed.kind,
            leased=remaining_ns > 0,
            lease_remaining_s=max(0, remaining_ns) / 1e9,
            max_staleness_s=self.config.max_staleness,
            position=self._feed.position,
            flushes=tally.flushes,
            replays=tally.replays,
            reconnects=tally.reconnects,
            received=tally.received,
            refused=dict(tally.refused),
            published=self._publisher.published,
            queued=self._publisher.waiting,
            undelivered=self._publisher.undelivered,
            queue_overflows=self._publisher.overflows,
            last_disconnect=_past(tally.last_disconnect, now),
            last_flush=_past(tally.last_flush, now),
            last_gap=_past(tally.last_gap, now),
            last_error=tally.last_error or self._publisher.last_error,
        )

    # Ending and forking.

    def close(self) -> None:
        """
        Deliver what waits (for at most `close_timeout` seconds), then stop. May be called again.

        Caches on this bus go on answering: without a lease, as `when_unleased` says.
        """
        with self._closing:
            if self._closed:
                return
            self._closed = True
        self._publisher.close(self.config.close_timeout)
        self._feed.close(self.config.close_timeout)
        self._link.close()
        _living.discard(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Invalidator namespace={self.namespace} node={self.node} state={self.status().state}>"

    def fork_locks(self) -> Iterable[forks.Lock]:
        """See `forks.ForkOwner`."""
        return self._feed.fork_locks()

    def after_fork_in_child(self) -> None:
        """Go on as a new node, without the parent's connections, queue and listener."""
        self._closing = threading.Lock()
        if not self._closed:
            self.node = secrets.token_hex(6)
            self._link.after_fork()
            self._publisher.after_fork(self.node)
        self._feed.after_fork_in_child()


_living: WeakList[Invalidator] = WeakList()


@forks.on_fork_in_child
def _start_those_with_callbacks() -> None:
    for bus in _living:
        if bus.has_callbacks:  # they wait for changes, not for a fill
            bus.start()


def _close_all() -> None:
    for bus in _living:
        bus.close()


atexit.register(_close_all)


def _journaled(id: str, data: bytes) -> Journaled:
    at = int(id.partition("-")[0]) / 1000
    try:
        body = message.decode(data)
    except InvalidMessage:
        return Journaled(id, at, "unknown", "", (), ())
    return Journaled(id, at, body.op, body.node, body.keys, body.tags)


def _past(happening: Happening | None, now: int) -> Past | None:
    return Past(happening.reason, (now - happening.at) / 1e9) if happening else None
