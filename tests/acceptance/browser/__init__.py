"""Pages in a real browser."""

USER, PASSWORD = "ann", "a password"
