"""
One process' part in a namespace: it publishes what became stale here (`publishing/`), and receives what became stale
elsewhere (`feeds/`).

Nothing starts at import or when an `Invalidator` is made; the listener starts with the first miss or fill
(`first_moments.py`). A forked child is a node of its own. It starts its own listener with its own first miss (at once
if it has callbacks); the lease and the position that its parent had read stay valid.

Rule 1: an invalidation is stamped in this process' ledger before it is published, so that the caller of `invalidate`
never reads what it has replaced.
"""

from __future__ import annotations

import asyncio
import atexit
import logging
import os
import secrets
import threading
from collections.abc import Callable, Collection, Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from . import forks, message
from .attached_caches import AttachedCache, AttachedCaches
from .callbacks import Callback, Callbacks
from .config import HOLD, Config
from .entry import ValidityRule
from .errors import InvalidatorError, InvalidName, InvalidSetting, LedgerFileError, PublishError
from .exits import at_end_of_child
from .feeds import LedgerFeed
from .feeds.listener import Listener, apply_to_ledger, make_listener
from .feeds.listener_feed import ListenerFeed
from .feeds.sidecar_feed import SidecarFeed
from .first_moments import FirstMoments
from .journal_reader import read_journal
from .ledger import NEVER, Clock, Ledger, Words, now_ns
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


class Invalidator:
    """
    Publishes to every server of a namespace what became stale, and receives it from them.

    Args:
        url: `redis://host:port/db`, `rediss://…`, `unix:///path`; `memory://` for one process alone; or `embedded://`
            for the processes of one developer, which start and stop a server of their own.
        namespace: the same in all processes that are to invalidate each other's caches. This and the other options
            are those of `Config`.
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
        self._link = link or make_link(
            url,
            timeout_s=self.config.publish_timeout,
            namespace=namespace,
            connections=self.config.publish_connections,
        )
        self._names = redis_names(namespace)
        self._publisher = self._make_publisher()
        self._callbacks = Callbacks()
        self._caches = AttachedCaches()
        self._closed = False
        self._closing = threading.RLock()
        self._feed = self._choose_feed(sidecar)
        self.first_moments = FirstMoments(self._feed, clock, lambda: self._publisher.waiting > 0)
        """For caches: what they do before the first miss."""
        self.slots = self._feed.view.slots
        self._caches.set_hit_words(self._feed.view.words)
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
        """The sidecar's ledger, if there is to be one; "auto" asks once whether a sidecar is alive. Else our own."""
        if sidecar is not None:
            is_auto = sidecar == "auto"
            path = default_path(self.namespace) if is_auto else Path(sidecar)
            try:
                feed = SidecarFeed(
                    self.config,
                    self.clock,
                    path,
                    any_owner=not is_auto,
                    set_hit_words=self._caches.set_hit_words,
                    sweep=self._caches.sweep,
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
        """What processes have in common that invalidate each other's caches."""
        return self.config.namespace

    @property
    def ledger(self) -> Ledger:
        """
        Where this process stamps what it invalidates itself; and if it listens for itself, what it receives as well.
        """
        return self._feed.own

    @property
    def hit_words(self) -> Words:
        """What hits of the caches compare with."""
        return self._caches.hit_words

    # Publishing.

    @property
    def publishes(self) -> bool:
        """
        Whether what is invalidated here is published. An integration may override it, for tests whose changes nobody
        else is to see: then it is in force here, and its receipt is lost.
        """
        return True

    def invalidate(self, *keys: str, tags: Iterable[str | Tag] = ()) -> Receipt:
        """
        Invalidate *keys*, and everything with one of *tags*: here at once, everywhere else within `max_staleness`.

        Call it after the change is committed; until then a loader reads the old value.

        An exception that strikes in the middle (a soft time limit, a greenlet's time-out, Ctrl-C) reaches the caller,
        and the invalidation is queued.

        Raises:
            InvalidName: a name cannot be one, or there is none.
            PublishError: Redis did not take it and `publish` is "raise".
            ClosedError: after `close`.
        """
        try:
            tags = tags if isinstance(tags, Collection) else tuple(tags)  # it may be needed twice
            return self._invalidate(keys, tags)
        except InvalidatorError:
            raise
        except BaseException:
            # Wherever it struck: before the first byte, or after the answer.
            self.invalidate_later(*keys, tags=tags)
            raise

    def _invalidate(self, keys: tuple[str, ...], tags: Iterable[str | Tag]) -> Receipt:
        return self.announce(*keys, tags=tags)()

    def invalidate_later(self, *keys: str, tags: Iterable[str | Tag] = ()) -> Receipt:
        """
        `invalidate` that waits for nothing: in force here at once; a thread publishes it, in order, with what waits.

        For a caller that must not wait: a signal handler, a finalizer.

        Raises:
            InvalidName: a name cannot be one, or there is none.
            ClosedError: after `close`.
        """
        keys, tags = self._check_names(keys, tags)
        at = self._stamp(keys, tags)
        return self._publish(lambda: self._publisher.publish_later(keys, tags), keys, at)

    async def ainvalidate(self, *keys: str, tags: Iterable[str | Tag] = ()) -> Receipt:
        """
        `invalidate` for coroutines: in force here before the first await; the event loop does not wait for Redis.

        A caller that is cancelled meanwhile (a web server cancels the request of a client that went away) has
        published all the same: what changed is committed.
        """
        publish = self.announce(*keys, tags=tags)
        return await asyncio.shield(asyncio.get_running_loop().run_in_executor(None, publish))

    def announce(
        self,
        *keys: str,
        tags: Iterable[str | Tag] = (),
        at: int | None = None,
        elsewhere: Iterable[str] = (),
    ) -> Callable[[], Receipt]:
        """
        The first half of `invalidate`: in force here. Call what it returns, exactly once, to publish.

        Args:
            at: what was loaded up to then is stale: a time just read from the clock; None for now.
            elsewhere: keys that leave in the same message and stay valid in this process, which has their new values.

        Raises:
            InvalidName: a name cannot be one, or there is none.
        """
        elsewhere = tuple(dict.fromkeys(map(check_key, elsewhere)))
        keys, tags = self._check_names(keys, tags) if keys or tags or not elsewhere else ((), ())
        at = self._stamp(keys, tags, at)
        return lambda: self._publish(lambda: self._publisher.publish((*keys, *elsewhere), tags), keys, at)

    def _stamp(self, keys: tuple[str, ...], tags: tuple[str, ...], at: int | None = None) -> int:
        """Void here what was loaded up to *at*, and return that time; None for now. `_publish` has to follow."""
        self._feed.before_publish()
        at = self.clock() if at is None else at
        self.ledger.stamp(name_slots(keys, tags, self.ledger.slots), at)
        return at

    def clear(self) -> Receipt:
        """Invalidate everything in the namespace. Raises as `invalidate` does."""
        self._feed.before_publish()
        self.ledger.flush(self.clock())
        return self._publish(lambda: self._publisher.publish((), (), clear=True))  # queued, if an exception strikes

    def hold(self, *keys: str, tags: Iterable[str | Tag] = (), duration: float = HOLD.default) -> Hold:
        """
        Announce, before a commit, that names are about to become stale: no process caches them until the hold is
        released or ends.

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
        self._publish(lambda: self._publisher.publish_hold(hold, bodies))

    def release_hold(self, hold: Hold) -> Receipt:
        """Called by *hold* when it is released."""
        self._feed.before_publish()
        now = self.clock()
        self.ledger.release(name_slots(hold.keys, hold.tags, self.ledger.slots), hold.owner, now)
        return self._publish(lambda: self._publisher.publish_release(hold), tuple(hold.keys), now)

    def _publish(self, publish: Callable[[], Receipt], keys: Iterable[str] = (), at: int = NEVER) -> Receipt:
        """Publish what was stamped here *at* that time, after `before_publish` of the feed."""
        try:
            receipt = publish() if self.publishes else _kept_here()
        except BaseException as error:  # a worker's time-out, too: without `after_publish`, doubt would never end
            at_end_of_child(_close_all)
            lost = Receipt()
            lost.lose(str(error) or type(error).__name__)
            self._feed.after_publish(lost)
            raise
        finally:
            # These entries are void since they were stamped, so the other processes come first.
            self._caches.evict_invalidated(keys, at)
        if receipt.queued:
            at_end_of_child(_close_all)
        self._feed.after_publish(receipt)
        return receipt

    def _check_names(self, keys: Iterable[str], tags: Iterable[str | Tag]) -> tuple[tuple[str, ...], tuple[str, ...]]:
        keys = tuple(dict.fromkeys(map(check_key, keys)))
        tags = check_tags(tags)
        if not (keys or tags):
            raise InvalidName("nothing to invalidate: name keys or tags, or call clear() for everything")
        return keys, tags

    # Receiving.

    @property
    def echoes(self) -> bool:
        """
        Whether the ledger that reads look at stamps once more what this process publishes, as it stamps what others
        do: a sidecar's does.
        """
        return self._feed.kind == "sidecar"

    def start(self) -> None:
        """Start to receive now instead of with the first miss. Does nothing if that has begun, or after `close`."""
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
        Call *callback* with an `Invalidation` when one of *keys* or *tags* became stale, whichever process published
        that. Without keys and tags, call it for everything.

        It is also called for everything that may have made them stale: a clear, a flush because this process may have
        missed something, and the first subscription, before which it has received nothing. It runs in the listener's
        thread, which proves nothing while it waits: be quick, or hand over to another thread.

        Returns:
            a function that ends this.

        Raises:
            InvalidName: a name cannot be one.
            InvalidSetting: this process reads a sidecar's ledger, and receives no messages.
        """
        if self._feed.kind == "sidecar":
            raise InvalidSetting(
                "a sidecar's worker receives no messages: use an Invalidator with sidecar=None for callbacks"
            )
        end = self._callbacks.add(callback, keys, tags)
        self.start()
        return end

    @property
    def has_callbacks(self) -> bool:
        """Whether `on_invalidate` was given any that has not ended."""
        return len(self._callbacks) > 0

    def invalidated(self, body: Body, id: str, now: int) -> None:
        """Called by the listener: a message was applied to the ledger."""
        if body.node != self.node:
            self._caches.evict_invalidated(body.keys, now)
        if body.op != "hold":  # the change is still to come: a callback that acted on it would read the old value
            reason = "clear" if body.op == "clear" else "invalidate"
            self._callbacks.call(Invalidation(body.keys, body.tags, reason == "clear", reason, id, body.node))

    def listening(self, now: int) -> None:
        """Called by the listener: it receives what is published from now on, and has received nothing before."""
        self._callbacks.call(Invalidation((), (), True, "first subscription", "", ""))

    def flushed(self, reason: str, now: int) -> None:
        """Called by the listener: the ledger was voided."""
        self._callbacks.call(Invalidation((), (), True, reason, "", ""))

    def _make_listener(self, ledger: Ledger, journal: Journal | None) -> Listener:
        return make_listener(self.config, self._link, ledger, self, node=self.node, clock=self.clock, journal=journal)

    def read_journal(self, most: int = 10_000) -> Iterator[Journaled]:
        """
        Yield the last messages of the namespace, newest first: what became stale lately, whichever process published
        it.

        Args:
            most: how many are read; in pages, as they are asked for.

        Raises:
            JournalUnread: the server did not answer.
        """
        return read_journal(lambda before, count: self._link.read_journal(self._names, before, count), most)

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

    def attach(self, cache: AttachedCache) -> None:
        """Let *cache* evict entries whose keys are invalidated, as long as it lives."""
        self._caches.attach(cache)

    def evict_loaded_since(self, at: int) -> None:
        """
        Let everything leave the caches on this bus that was loaded then or later, here only: what they were filled from
        since that time is no more, such as the rows of a test.

        Args:
            at: a time of `clock`.
        """
        self._caches.evict_loaded_since(at)

    # Looking.

    def status(self) -> Status:
        """How this process is doing. Cheap: no I/O, no lock."""
        view, tally = self._feed.view, self._feed.tally
        remaining_ns = self.make_rule().lease_remaining_ns()
        now = self.clock()
        return Status(
            namespace=self.namespace,
            node=self.node,
            state="closed" if self._closed else self._feed.state,
            listener=self._feed.kind,
            leased=remaining_ns > 0,
            lease_remaining_s=max(0, remaining_ns) / 1e9,
            listening_s=(now - view.listening_since()) / 1e9 if view.is_proven() else None,
            max_staleness_s=self.config.max_staleness,
            position=self._feed.position,
            flushes=tally.flushes,
            replays=tally.replays,
            reconnects=tally.reconnects,
            failures=tally.failures + self._callbacks.failures,
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

    def close(self) -> int:
        """
        Deliver what waits (for at most `close_timeout` seconds), then stop. May be called again.

        Caches on this bus go on answering without a lease, as `when_unleased` says.

        Returns:
            how many names could not be delivered, and are lost; the log has them, too, and `status().undelivered`.
        """
        with self._closing:
            if self._closed:
                return 0
            self._closed = True
        lost = self._publisher.close(self.config.close_timeout)
        self._feed.close(self.config.close_timeout)
        self._link.close()
        _living.discard(self)
        return lost

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
        self._closing = threading.RLock()
        if not self._closed:
            self.node = secrets.token_hex(6)
            self._link.after_fork()
            self._publisher.after_fork(self.node)
        self._feed.after_fork_in_child()
        self.first_moments.begin_again()


_living: WeakList[Invalidator] = WeakList()


@forks.on_fork_in_child
def _start_those_with_callbacks() -> None:
    for bus in _living:
        if bus.has_callbacks:  # they wait for changes, not for a miss
            bus.start()


def _close_all() -> None:
    for bus in _living:
        bus.close()


atexit.register(_close_all)


def _kept_here() -> Receipt:
    receipt = Receipt()
    receipt.lose("this process keeps it to itself")
    return receipt


def _past(happening: Happening | None, now: int) -> Past | None:
    return Past(happening.reason, (now - happening.at) / 1e9) if happening else None
