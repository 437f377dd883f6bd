"""Random worlds without end: `make torture ARGS="--deps --minutes 10"`."""

from __future__ import annotations

import os
import sys
import time
from itertools import count

import django


def play(seed: int, minutes: float) -> bool:
    """Play worlds from *seed* on for so long. Returns whether nothing was stale."""
    os.environ["DJANGO_SETTINGS_MODULE"] = "tests.unit.django_integration.settings"
    django.setup()
    from django.core.management import call_command
    from django.test.utils import setup_databases, teardown_databases

    from django_integration.reads.default_cache import default_cache, reset
    from tests.databases.chosen import start

    from .random_world import Tally, World

    start()
    tally = Tally()
    old = setup_databases(verbosity=0, interactive=False)
    try:
        if not default_cache().bus.wait_until_leased(20):
            raise RuntimeError("there is no lease")
        ends_at = time.monotonic() + 60 * minutes
        for number in count(seed):
            tally.add(World(number).play())
            call_command("flush", verbosity=0, interactive=False, inhibit_post_migrate=True)
            if tally.stale or time.monotonic() > ends_at:
                break
            print(f"world {number}: {tally}", file=sys.stderr, flush=True)
    finally:
        reset()
        teardown_databases(old, verbosity=0)
    print(tally)
    for problem in tally.stale:
        print(problem)
    return not tally.stale
