"""
Everything that can go wrong.

The docstring of an error says what happened and what would be right; the message adds the facts. An error that blames
an argument is also a `ValueError`, so that code which does not know this library catches it as usual.
"""


class InvalidatorError(Exception):
    """The base of every error raised by this library."""


class InvalidName(InvalidatorError, ValueError):
    """A key or tag cannot be used: it must be a non-empty `str` of at most 512 bytes of UTF-8."""


class InvalidSetting(InvalidatorError, ValueError):
    """An option has a value that cannot work; the message says which values can."""


class InvalidMessage(InvalidatorError, ValueError):
    """Bytes on the wire are not a message of a version that we know; a process that receives them flushes."""


class PublishError(InvalidatorError):
    """
    Redis did not accept an invalidation (`publish="raise"`), or a hold. The invalidation is in force in this process
    and nowhere else: try again.
    """


class JournalUnread(InvalidatorError):
    """Redis did not answer when its journal was read. Caches do not depend on that: ask again later."""


class HoldEnded(InvalidatorError):
    """A write took longer than its hold: roll back and try again, or hold longer."""


class ClosedError(InvalidatorError):
    """The `Invalidator` was closed: make a new one, or invalidate before closing."""


class LedgerFileError(InvalidatorError):
    """A shared ledger cannot be used; the message says why and what would be right."""


class LinkDown(InvalidatorError):
    """The connection is gone or could not be made. Raised by links for listener and publisher; no caller sees it."""
