"""
How a process publishes what became stale.

`publisher.py` sends invalidations or queues them, `outbox.py` is the queue, and `hold.py` announces what a strict write
is about to change.
"""
