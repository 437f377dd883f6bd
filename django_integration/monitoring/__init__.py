"""What the caches of this process are doing: its status, what one entry depends on, and whether a read was stale."""
