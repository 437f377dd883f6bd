"""
When an invalidation is published: after the commit, as one message for each transaction.

`outgoing.py` is what the rest of the app calls. `batches.py` keeps names until the commit, `hooks.py` notices it, and
`strict.py` holds names before it. `progress.py` and `cursors.py` know how old a transaction's reads are, and `view.py`
answers the near caches' questions about it.
"""

from .outgoing import invalidate

__all__ = ["invalidate"]
