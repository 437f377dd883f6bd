"""
The protocol between a process and its server, without I/O.

`frames.py` has what a link sends and reads, `effects.py` what the protocol asks its owner to do. `subscription.py` is
the state machine between the two, and `states.py` its table of states.
"""
