"""
Random worlds without end: `make torture ARGS="--deps --minutes 10"`, which runs

    python -m tests.unit.django_integration.dependencies.long_run SEED MINUTES
"""

from __future__ import annotations

import os
import signal
import sys
import time
from itertools import count

import django

os.environ["DJANGO_SETTINGS_MODULE"] = "tests.unit.django_integration.settings"
django.setup()

from django.core.management import call_command  # noqa: E402 - Django is set up first
from django.test.utils import setup_databases, teardown_databases  # noqa: E402

from django_integration import runtime  # noqa: E402
from django_integration.reads.default_cache import default_cache  # noqa: E402
from tests.databases.chosen import start  # noqa: E402

from .random_world import Tally, World  # noqa: E402


def play(seed: int, minutes: float) -> bool:
    """Play worlds from *seed* on for so long. Returns whether nothing was stale."""
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
        runtime.reset()
        teardown_databases(old, verbosity=0)
    print(tally)
    for problem in tally.stale:
        print(problem)
    return not tally.stale


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # end as by Ctrl-C: nothing is left behind
    sys.exit(0 if play(int(sys.argv[1]), float(sys.argv[2])) else 1)
