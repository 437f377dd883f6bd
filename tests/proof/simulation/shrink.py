"""Make a failing run smaller: leave out steps, and replace choices by boring ones, while it still fails."""

from __future__ import annotations

from collections.abc import Callable

from .choices import Plan

MOST_ATTEMPTS = 600


def shrink(plan: Plan, fails: Callable[[Plan], bool], attempts: int = MOST_ATTEMPTS) -> Plan:
    """Return a smaller plan that *fails* as well. Step 0, which draws the setup, is never left out."""
    left = attempts

    def try_it(candidate: Plan) -> bool:
        nonlocal left, plan
        left -= 1
        if left < 0 or not fails(candidate):
            return False
        plan = candidate
        return True

    size = max(1, len(plan) // 2)
    while left > 0:
        at = len(plan) - size
        shrunk = False
        while at >= 1 and left > 0:
            shrunk |= try_it(plan[:at] + plan[at + size :])
            at -= size
        if size > 1:
            size //= 2
        elif not shrunk:
            break
    for step in range(len(plan) - 1, -1, -1):
        if left <= 0:
            break
        if try_it([*plan[:step], [], *plan[step + 1 :]]):
            continue
        for i in range(len(plan[step]) - 1, -1, -1):
            if left > 0 and plan[step][i]:
                try_it([*plan[:step], [*plan[step][:i], 0, *plan[step][i + 1 :]], *plan[step + 1 :]])
    return plan
