"""
Faults at random on real processes, and one checker that knows every version: `python -m tests.proof.torture`.

workload.py   which keys there are and how often they are read and written
source.py     the database: versions by key, in SQLite
records.py    what a process did, in a file that outlives its kill -9
worker.py     what all processes share: their orders, their status file, their end
reader.py     a process that reads; writer.py one that writes; sidecar.py one that listens for others (run with -m)
recovery.py   how long a listener takes from a dropped connection to the next proof
proxy.py      the network between processes and server, which cuts, delays, throttles and swallows
stage.py      the server, the network and the processes of one round
faults.py     everything that is done to them, by name
checker.py    the promise, read by read
rounds.py     one round from an empty directory to its result
report.py     the table
"""
