"""
A world in one thread, by which the promise of DESIGN section 2 is searched for holes.

The code under test is the real one: subscription, ledger, validity rule, store, loads, near cache, bus and outbox.
Simulated is what is around it: time, network, server, database, threads and processes. One seed is one world; what
happens in it is drawn, step by step, from that seed alone.

Rule 1: nothing here looks at the real time, at a real thread, or at any randomness but `choices.py`.
Rule 2: a thread may be left, and another go on, wherever it touches the ledger or the clock, and between any two
effects of a subscription and any two stores into the ledger.
Rule 3: the checks know what happened from the world itself (who committed what when, what the server took when), never
from the code under test.
Rule 4: nothing happens here that DESIGN excludes from the promise, or it is excluded from the checks by name.

    python -m tests.proof.simulation --seeds 0-2000
    python -m tests.proof.simulation --seed 1234 --trace
    python -m tests.proof.simulation.mutations
"""
