"""A shop on several servers, each with its own near cache. `make demo` runs it; it is an example, not a package."""
