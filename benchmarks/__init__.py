"""
What the library costs, side by side with its peers, measured in one run.

`table.py` lists the benchmarks; each is one function in one module that takes a `Run` and returns `Figure`s. To add
one, write the function and give it a line in the table.

Rule 1: a number that has a target is a ratio, or a time, against something measured in the same run, interleaved
with it, so that a change of the machine's mood hits both.
Rule 2: a missed target is printed as missed. Nothing here fails because of a number.
Rule 3: every benchmark checks that it measured what it claims (all reads were hits, the old value was gone, the
invalidations did come while the connection was away), and raises if not.
"""
