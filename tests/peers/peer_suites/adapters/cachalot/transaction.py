"""Names that cachalot's tests import."""

AtomicCache = None
