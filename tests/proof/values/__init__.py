"""
Worlds of requests, by which the way of a value is searched for holes (DESIGN section 3.5): whose truth, which question,
the whole answer, whose object.

A small shop with every kind of relation, several threads in one process or two, and a few questions, each behind some
door to a cache: `cached` with every kind of argument and result, `get_or_set`, the cache backend, `{% cached %}`,
`coherent_lru_cache`, sync and async, one inside the other. The threads ask, write, begin and end transactions, change
what they were handed, fail, are struck by time limits, switch tenants. One seed is one world: which thread goes on, and
what it does, is drawn from it, step by step. The code under test is the real one, as is the database.

models.py, writes.py     the shop, and how it is written to
questions.py, arguments.py, doors.py   what is asked, about what, and through what
by_hand.py               Django's cache as applications use it by hand, alone and over a second level
callers.py               what is done with what was handed out
turns.py, processes.py   threads of which one runs at a time; several processes in one interpreter
actors.py, world.py, setup.py   who does what when
checks.py, plainly.py    the truth, and how two values are compared
kinds.py                 what is known to be wrong, and left out
runs.py, mutations.py    many worlds, shrinking; the check of the checks

Rule 1: whatever is left to chance is drawn from `Choices`; nobody looks at the time, and nobody waits for a lock.
Rule 2: what is right is found out without any cache, on a connection that sees what the reader sees (`checks.py`).
Rule 3: what Django itself forbids does not happen here, and is excluded by name.

    python -m tests.proof.values --seeds 0-1000
    python -m tests.proof.values --seed 1234 [--trace]
    python -m tests.proof.values.mutations
    INVALIDATOR_TEST_DATABASE=postgresql make torture ARGS="--values --minutes 60"

Not covered: two tasks of one event loop at once (coroutines run, one by one in a thread); losses on the way to other
processes, which the simulation and torture are for; a lease that runs out.
"""
