"""
Publishes invalidations to Redis, and queues them while Redis does not accept them.

While the queue is empty, the calling thread publishes itself, so that `invalidate()` returns an accepted receipt. As
soon as something waits, everything goes through the outbox, and a background thread, the *courier*, publishes it in
order. The courier ends when the outbox is empty.

Rule 1: accepted means that the server has answered. If an answer is lost, the message is sent again: names may be
published twice, but never not at all.
Rule 2: nothing overtakes what waits in the queue.
Rule 3: what can never be delivered is counted and logged, and its receipt says so.
Rule 4: an exception may strike at any line: a soft time limit, a greenlet's time-out, Ctrl-C. What was being published
is queued then, whatever `when_down` says, and the exception goes on to the caller.
Rule 5: where no thread can be started (the interpreter is going down), the calling thread is the courier.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from enum import Enum
from random import Random

from .. import message
from ..config import WhenDown
from ..errors import ClosedError, LinkDown, PublishError
from ..link import Accepted, Link, Post
from ..names import RedisNames
from ..receipt import Receipt
from ..steps import MakeWorker, Pause, Steps, ThreadWorker, Worker
from .hold import Hold
from .outbox import Batch, Outbox

log = logging.getLogger("invalidator.publisher")

BODIES_AT_ONCE = 64
"""In one call of the script: 1 MiB, and a few milliseconds of the server's time."""
FIRST_RETRY_S = 0.05
LAST_RETRY_S = 2.0
HERE_S = 0.2
"""For a caller that has to be the courier: one more try, after the one that failed."""
GRACE_S = 0.1
"""For a courier to end when it has to: between two tries it does so at once, while it waits for Redis it is left."""


class Act(Enum):
    """A step of the courier."""

    TAKE = "take a batch from the outbox; end if it is empty"
    PUBLISH = "publish the batch"
    CONFIRM = "tell the outbox that the batch was accepted"


class Publisher:
    """
    Publishes for one process.

    Args:
        link: the way to the server.
        names: what the namespace is called there.
        node: the id of this node.
        journal_length: how many messages the journal keeps.
        when_down: "queue" queues what Redis does not accept and tries again; "raise" raises PublishError.
        queue_size: how many names may wait before they become one clear.
        random: draws the delays between attempts.
        make_worker: makes what drives the courier.
    """

    def __init__(
        self,
        link: Link,
        names: RedisNames,
        *,
        node: str,
        journal_length: int,
        when_down: WhenDown,
        queue_size: int,
        random: Random | None = None,
        make_worker: MakeWorker = ThreadWorker,
    ) -> None:
        self.published = 0
        self.undelivered = 0
        self.last_error: str | None = None
        self._link = link
        self._names = names
        self._journal_length = journal_length
        self._when_down = when_down
        self._queue_size = queue_size
        self._random = random or Random()
        self._make_worker = make_worker
        self.after_fork(node)

    def after_fork(self, node: str) -> None:
        """Begin anew as *node*, with an empty queue: what waits is delivered by the parent."""
        self._node = node
        self._outbox = Outbox(self._queue_size)
        self._lock = threading.RLock()  # a signal handler, or a finalizer, may invalidate while its thread holds it
        self._courier: Worker | None = None
        self._closing = threading.Event()
        self._out_of_time = threading.Event()

    @property
    def waiting(self) -> int:
        """How many names wait for Redis."""
        return len(self._outbox)

    @property
    def overflows(self) -> int:
        """How often so many names waited that they became one clear."""
        return self._outbox.overflows

    def publish(self, keys: Sequence[str], tags: Sequence[str], *, clear: bool = False) -> Receipt:
        """
        Publish that *keys* and *tags*, or with *clear* the whole namespace, became stale.

        Raises:
            PublishError: Redis did not accept it, and `when_down` is "raise".
            ClosedError: after `close`.
        """
        bodies = [message.clear_body(self._node)] if clear else message.bodies(self._node, keys, tags)
        return self._publish_or_queue(
            Post(bodies), lambda: Batch(dict.fromkeys(keys), dict.fromkeys(tags), clear=clear)
        )

    def publish_release(self, hold: Hold) -> Receipt:
        """Publish that the names of *hold* became stale, and that the hold ends. Raises as `publish` does."""
        return self._publish_or_queue(self._release(hold), lambda: Batch(holds={hold.owner: hold}))

    def publish_hold(self, hold: Hold, bodies: Sequence[bytes]) -> Receipt:
        """
        Announce *hold*. It never waits in the queue: a write that cannot be announced must not be committed.

        Raises:
            PublishError: Redis did not accept it.
            ClosedError: after `close`.
        """
        self._check_open()
        receipt = Receipt()
        try:
            accepted = self._post(Post(bodies, hold_ms=int(hold.duration * 1000)))
        except LinkDown as error:
            self._note_down(error)
            raise PublishError(f"Redis did not accept the hold, so the write must not be committed: {error}") from error
        receipt.accept(*accepted)
        return receipt

    def publish_later(self, keys: Sequence[str], tags: Sequence[str]) -> Receipt:
        """Queue that *keys* and *tags* became stale, and wait for nothing. Raises ClosedError after `close`."""
        self._check_open()
        return self._queue(Batch(dict.fromkeys(keys), dict.fromkeys(tags)))

    def _publish_or_queue(self, post: Post, make_batch: Callable[[], Batch]) -> Receipt:
        self._check_open()
        if not self._outbox:
            receipt = Receipt()
            try:
                receipt.accept(*self._post(post))
            except LinkDown as error:
                self._note_down(error)
                if self._when_down == "raise":
                    raise PublishError(f"Redis did not accept the invalidation: {error}") from error
            except BaseException:  # rule 4
                self._queue(make_batch())
                raise
            else:
                self.last_error = None
                return receipt
        elif self._when_down == "raise":
            raise PublishError(f"Redis did not accept earlier invalidations yet: {self.last_error}")
        return self._queue(make_batch())

    def _check_open(self) -> None:
        if self._closing.is_set():
            raise ClosedError("this Invalidator is closed")

    def close(self, timeout_s: float) -> int:
        """
        Deliver what waits, for at most *timeout_s* seconds; count and log what could not be delivered. Returns how many
        names that were.
        """
        self._closing.set()
        courier = self._courier
        if courier is not None:
            courier.join(timeout_s)
        elif self._outbox:  # no thread could be started
            self._deliver_here(timeout_s)
        before = self.undelivered
        with self._lock:
            self._out_of_time.set()
            self._abandon()
        if courier is not None:
            courier.join(GRACE_S)
        return self.undelivered - before

    def _deliver_here(self, timeout_s: float) -> None:
        """Be the courier, for at most *timeout_s* seconds: rule 5."""
        deadline = time.monotonic() + timeout_s
        for step in self._deliver():
            if isinstance(step, Pause):
                if time.monotonic() + step.seconds >= deadline:
                    return
                step.unless.wait(step.seconds)

    def _abandon(self) -> None:
        lost = self._outbox.abandon("closed before Redis came back")
        if lost:
            self.undelivered += lost
            log.error("invalidations lost: closed before Redis accepted them names=%d error=%s", lost, self.last_error)

    def _queue(self, batch: Batch) -> Receipt:
        with self._lock:
            receipt = self._outbox.put(batch)
            if self._out_of_time.is_set():  # closed while this was being published
                self._abandon()
                return receipt
        self._start_courier()
        return receipt

    def _start_courier(self) -> None:
        courier: Worker | None = None
        try:
            with self._lock:
                if self._courier is not None:
                    return
                courier = self._courier = self._make_worker("invalidator-publisher", self._deliver())
            # Not under the lock: gevent suspends whoever starts a thread, and a lock from before it took over (in an
            # application that was preloaded) would block every other greenlet, and with them this one.
            courier.start()
        except RuntimeError as error:  # out of threads, or the interpreter is going down
            log.warning("no thread can be started to deliver the queue error=%s", error)
            try:
                self._deliver_here(HERE_S)  # still the one courier: another thread leaves the batch under way to it
            finally:
                if self._courier is courier:
                    self._courier = None
        except BaseException:  # rule 4: it may have struck before the courier began
            if courier is not None and not courier.was_started and self._courier is courier:
                self._courier = None
            raise

    def _deliver(self) -> Steps:
        """The courier: publish what is in the outbox, then end."""
        delay_s = FIRST_RETRY_S
        while True:
            yield Act.TAKE
            with self._lock:
                batch = self._outbox.take()
                if batch is None:
                    self._courier = None
                    return
            yield None
            try:
                yield Act.PUBLISH
                accepted = self._send(batch)
                yield None
            except GeneratorExit:
                raise
            except BaseException as error:  # noqa: BLE001 - a courier that ends leaves its queue for ever
                self._note_down(error)
                with self._lock:
                    self._outbox.failed()
                if self._closing.is_set():
                    delay_s = FIRST_RETRY_S  # the time that is left is short
                    yield Pause(delay_s, unless=self._out_of_time)
                    if self._out_of_time.is_set():
                        return
                else:
                    yield Pause(self._random.uniform(0, delay_s), unless=self._closing)
                    delay_s = min(2 * delay_s, LAST_RETRY_S)
                continue
            delay_s = FIRST_RETRY_S
            log.info("queue delivered names=%d id=%s", len(batch), accepted.id)
            self.last_error = None
            yield Act.CONFIRM
            with self._lock:
                self._outbox.delivered(*accepted)
            yield None

    def _send(self, batch: Batch) -> Accepted:
        accepted = Accepted("", 0)
        for hold in batch.holds.values():
            accepted = self._post(self._release(hold))
        if batch.clear:
            accepted = self._post(Post([message.clear_body(self._node)]))
        elif batch.keys or batch.tags:
            accepted = self._post(Post(message.bodies(self._node, batch.keys, batch.tags)))
        return accepted

    def _release(self, hold: Hold) -> Post:
        return Post(message.release_bodies(self._node, hold.owner, hold.keys, hold.tags), ended=hold.bodies)

    def _post(self, post: Post) -> Accepted:
        accepted = Accepted("", 0)
        for start in range(0, len(post.bodies), BODIES_AT_ONCE):
            some = Post(post.bodies[start : start + BODIES_AT_ONCE], post.hold_ms, post.ended)
            accepted = self._link.publish(self._names, self._journal_length, some)
            self.published += len(some.bodies)
        return accepted

    def _note_down(self, error: BaseException) -> None:
        reason = str(error) if isinstance(error, LinkDown) else f"{type(error).__name__}: {error}"
        if self.last_error is None:  # once per outage, not once per retry
            log.warning("redis does not accept invalidations error=%s", reason)
        self.last_error = reason
