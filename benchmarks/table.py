"""All benchmarks. To add one: a function that takes a `Run` and returns figures, and a line here."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from . import copies, dependencies, django_backend, propagation, publishing, reads, recovery, sidecar, storm, voids
from .figures import Figure
from .run import Run


class Benchmark(NamedTuple):
    """One benchmark: what it is called on the command line, in a table, and what measures it."""

    name: str
    title: str
    measure: Callable[[Run], Sequence[Figure]]


BENCHMARKS = (
    Benchmark("reads", "A read from the process' own memory", reads.measure),
    Benchmark("django", "A hit through Django's cache API", django_backend.measure),
    Benchmark("copies", "What a hit of a row costs, of which each reader has a clone", copies.measure),
    Benchmark("dependencies", "What recording dependencies costs", dependencies.measure),
    Benchmark("voids", "What a write on the example shop voids needlessly", voids.measure),
    Benchmark("propagation", "From invalidate() to void in another process", propagation.measure),
    Benchmark("publish", "What invalidate() costs its caller", publishing.measure),
    Benchmark("recovery", "A dropped connection: time to a new lease", recovery.measure_lease),
    Benchmark("survivors", "A dropped connection: entries kept", recovery.measure_survivors),
    Benchmark("storm", "A worker's reads while 20,000 invalidations a second arrive", storm.measure),
    Benchmark("sidecar-void", "From invalidate() to void for all workers of a host", sidecar.measure_void),
    Benchmark("sidecar-rate", "What a sidecar applies", sidecar.measure_rate),
    Benchmark("sidecar-host", "What 16 workers of one host cost Redis", sidecar.measure_host),
)
