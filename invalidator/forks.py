"""
What a forked child needs anew, registered in one place.

A child has all of its parent's memory but only one of its threads: the one that forked. A lock that another thread held
stays locked for ever, and what that thread was changing stays half changed. There are three remedies:

- `FreshLock` and `FreshRLock` are free in a child, whoever held them in the parent. For data that may be half changed
  without harm, and for locks that are held for long.
- `register_for_forks(owner)` makes the fork wait for the locks of *owner*, so that the child finds what they protect
  whole, and calls its `after_fork_in_child`. For locks that are held for a few instructions.
- `on_fork_in_child(callback)` calls a module's function in every child.

Rule 1: a fork releases the locks that it took itself, and no others. Its list is made before the fork: what another
thread registers meanwhile is not on it. In a child the locks of those are made anew, since that thread may hold them.
Rule 2: in a child, first every lock is free, then each owner forgets what only the parent has, then callbacks run; each
in the order of registration. So a callback may start threads.
Rule 3: owners and locks are kept by weak references. Callbacks are kept for ever.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Iterable
from typing import Protocol, TypeVar

from .weak_list import WeakList

log = logging.getLogger("invalidator.forks")

C = TypeVar("C", bound=Callable[[], object])


class Lock(Protocol):
    """What a fork has to be able to take."""

    def acquire(self) -> object: ...
    def release(self) -> None: ...


class ForkOwner(Protocol):
    """An object with locks that a fork waits for, or with something that only the parent has."""

    def fork_locks(self) -> Iterable[Lock]:
        """
        The locks that the fork takes and releases. None of them may be held while taking a lock that is registered
        earlier.
        """

    def after_fork_in_child(self) -> None:
        """Forget what only the parent has: its threads, and its connections."""


class FreshLock:
    """
    A lock that nobody holds in a forked child.

        with fresh.lock:
            ...

    Attributes:
        lock: a `threading.Lock`, which a child replaces. It is the interpreter's own, so that no exception of a signal
            handler (a time limit) can strike between the moment it is taken and the beginning of the block. A block
            that was begun before the fork frees the lock that it took.
    """

    __slots__ = ("__weakref__", "lock")

    def __init__(self) -> None:
        self.renew()
        _fresh_locks.add(self)

    def renew(self) -> None:
        """Be free, whoever holds it."""
        self.lock: threading.Lock | threading.RLock = threading.Lock()


class FreshRLock(FreshLock):
    """A `FreshLock` that its holder may take again."""

    __slots__ = ()

    def renew(self) -> None:
        self.lock = threading.RLock()


class Fork:
    """
    One fork, from just before it to just after it.

    Args:
        owners: those that exist before it.
    """

    def __init__(self, owners: Iterable[ForkOwner]) -> None:
        self.owners = list(owners)
        self._taken: list[Lock] = []

    def take_locks(self) -> None:
        """Wait for the locks of all owners."""
        for owner in self.owners:
            for lock in owner.fork_locks():
                lock.acquire()
                self._taken.append(lock)

    def renew_locks_of_others(self, owners: Iterable[ForkOwner]) -> None:
        """In a child: free the locks of those *owners* that are not among its own, whoever holds them."""
        own = {id(owner) for owner in self.owners}
        for owner in owners:
            for lock in owner.fork_locks() if id(owner) not in own else ():
                # What the interpreter does with the locks of its own modules; those of gevent have it, too.
                getattr(lock, "_at_fork_reinit", _nothing)()

    def release_locks(self) -> None:
        """Release exactly those that `take_locks` took, though it may have been interrupted."""
        while self._taken:
            self._taken.pop().release()


_owners: WeakList[ForkOwner] = WeakList()
_fresh_locks: WeakList[FreshLock] = WeakList()
_callbacks: list[Callable[[], object]] = []
_under_way: dict[int, Fork] = {}
"""By thread: several may fork at once."""


def _nothing() -> None:
    pass


def register_for_forks(owner: ForkOwner) -> None:
    """Let every fork wait for the locks of *owner*, and its children call `after_fork_in_child`, while it lives."""
    _owners.add(owner)


def on_fork_in_child(callback: C) -> C:
    """Call *callback* in every forked child, once all locks are free and all owners have forgotten. A decorator."""
    _callbacks.append(callback)
    return callback


def _before_fork() -> None:
    fork = _under_way[threading.get_ident()] = Fork(_owners)
    fork.take_locks()


def _after_fork_in_parent() -> None:
    fork = _under_way.pop(threading.get_ident(), None)
    if fork is not None:
        fork.release_locks()


def _after_fork_in_child() -> None:
    fork = _under_way.pop(threading.get_ident(), None)
    _under_way.clear()  # the forks of other threads are the parent's
    if fork is None:
        return
    fork.release_locks()
    fork.renew_locks_of_others(_owners)
    for lock in _fresh_locks:
        lock.renew()
    # Not only those of `fork`: what another thread registered in the last moment is here as well.
    for callback in (*[owner.after_fork_in_child for owner in _owners], *_callbacks):
        try:
            callback()
        except Exception:
            log.exception("a callback after a fork failed callback=%r", callback)


os.register_at_fork(before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child)
