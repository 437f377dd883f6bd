"""
The check of the checks: remove each rule of the value path in turn, and see that the worlds, or a test, notices.

    python -m tests.proof.values.mutations                      every rule, as a table
    python -m tests.proof.values.mutations --only "row"         those whose name contains it

How a rule is removed is in `tests/proof/mutating.py`.

Not in the table, because it is not needed for the promise, whatever it is good for:

- a load in a transaction that has written is alone: who waits for it is given nothing that may not be shared, and looks
  again; and what it would have joined it does not read if it has touched any of its names.
"""

from __future__ import annotations

import sys
from importlib import import_module

from tests.proof.mutating import Edit, Found, Mutation, Suite, main

TRANSACTIONS = "django_integration.transactions"
READS = "django_integration.reads"
DEPENDENCIES = "django_integration.dependencies"
WRITES = "django_integration.writes"
BACKEND = "django_integration.backend"


def mutation(rule: str, *edits: tuple[str, str, str], tests: str = "") -> Mutation:
    """Spell a mutation."""
    return Mutation(rule, [Edit(*edit) for edit in edits], tests)


MUTATIONS = (
    # Whose truth.
    mutation(
        "a transaction reads past the caches what it has changed",
        (
            f"{TRANSACTIONS}.view",
            "return _is_touched((*entry.slots, *[slot for _, slots in entry.parts for slot in slots]))",
            "return False",
        ),
    ),
    mutation(
        "nothing is shared that may be uncommitted (the whole rule)",
        (
            f"{TRANSACTIONS}.view",
            "if begun is not None and _is_in_doubt(begun):\n            return False",
            "return True",
        ),
    ),
    mutation(
        "a list that a row may have left is not kept",
        (f"{TRANSACTIONS}.view", " and not _reads_tables(entry, written)", ""),
    ),
    mutation(
        "a value without tags of tables may hold anything",
        (f"{TRANSACTIONS}.view", "return bool(entry.parts) or any(map(is_of_watched, entry.tags))", "return True"),
        tests="tests/unit/django_integration/transactions",
    ),
    mutation(
        "a load stays apart when what it has seen is rolled back meanwhile",
        (f"{TRANSACTIONS}.view", "if begun is not None and _is_in_doubt(begun):", "if False:"),
        tests="tests/unit/django_integration/transactions",
    ),
    mutation(
        "what is read in a transaction is as old as its beginning",
        (f"{TRANSACTIONS}.view", "return min(_began(), default=now_ns())", "return now_ns()"),
    ),
    mutation(
        "names wait for the commit",
        (
            f"{TRANSACTIONS}.outgoing",
            "    if names:\n        # Kept first",
            "    if names:\n        send(names)\n        return True\n        # Kept first",
        ),
    ),
    mutation(
        "a rollback to a savepoint drops nothing that came before it",
        (f"{TRANSACTIONS}.uncommitted", "self._cut(savepoint.position)", "self._cut(0)"),
    ),
    mutation(
        "names of a released savepoint stay",
        (f"{TRANSACTIONS}.uncommitted", "            stretch[0].absorb(batch)\n", "            batch.end()\n"),
    ),
    mutation(
        "a commit of which the outcome is not known is published",
        (
            f"{TRANSACTIONS}.committing",
            "    except (InterfaceError, OperationalError):\n        send_in_doubt(connection)  # rule 1\n",
            "    except (InterfaceError, OperationalError):\n",
        ),
    ),
    mutation(
        "a commit that is struck by a time limit is published",
        (
            f"{TRANSACTIONS}.committing",
            "    except BaseException:\n        send_in_doubt(connection)\n",
            "    except BaseException:\n",
        ),
    ),
    mutation(
        "with autocommit off, a commit publishes",
        (f"{TRANSACTIONS}.committing", "if changed.by_hand or hold is not None:", "if hold is not None:"),
        tests="tests/unit/django_integration/transactions",
    ),
    mutation(
        "what was set in a transaction is void at its rollback",
        (f"{BACKEND}.following_near", "publish = self._near.bus.announce(*names) if names else None", "publish = None"),
    ),
    mutation(
        "what was deleted in a transaction is deleted again after its commit",
        (
            f"{BACKEND}.following_near",
            "        names = super().names()\n        for name in self._survivors:\n            del names.keys[name]\n",
            "        names = Names()\n",
        ),
    ),
    mutation(
        "what was set in a second level is void at a rollback",
        (f"{BACKEND}.following_below", "        wrong = self._unless(surely_differ, falling)", "        wrong = []"),
    ),
    mutation(
        "what was deleted from a second level is deleted again after the commit",
        (
            f"{BACKEND}.following_below",
            "        if self._deleted:\n            self._second.delete_or_owe",
            "        if False:\n            self._second.delete_or_owe",
        ),
    ),
    mutation(
        "a transaction that has written fills no second level",
        (
            f"{BACKEND}.second_level",
            "        if has_written():  # the value may hold what this thread's transaction has not committed\n",
            "        if False:\n",
        ),
    ),
    # Which question.
    mutation(
        "a row that is an argument is read again",
        (
            f"{READS}.arguments",
            "        return _fresh_row(value)\n    if isinstance(value, QuerySet):",
            "        return value\n    if isinstance(value, QuerySet):",
        ),
    ),
    mutation(
        "a query set that is an argument brings no row along",
        (f"{READS}.query_sets", 'inside["_known_related_objects"] = {}', "pass"),
    ),
    mutation(
        "a query set that is an argument is evaluated anew",
        (f"{READS}.query_sets", "    copy: Rows = rows._clone()", "    copy: Rows = rows"),
    ),
    mutation(
        "the state of a query set's own class is in its key",
        (f"{READS}.query_sets", "*_state_texts(rows, describe), ", ""),
    ),
    mutation(
        "the parameters of a query set are in its key",
        (f"{READS}.query_sets", '{f"{number:05}": parameter for number, parameter in enumerate(params)}', "{}"),
    ),
    mutation(
        "functions of one name are told apart",
        ("invalidator.keys", "    count = next(_decorated", "    return ()\n    count = next(_decorated"),
    ),
    mutation(
        "values are found by name, not by place",
        (
            f"{BACKEND}.backend",
            "    return {names[name]: ",
            (
                "    return {name: value for name, value in zip(names.values(), map(hand_out, found.values()))} "
                "if len(found) == len(names) else {names[name]: "
            ),
        ),
    ),
    # The whole answer.
    mutation(
        "what would be read later is read in the load",
        (f"{DEPENDENCIES}.loading", "            evaluate()\n        return", "            pass\n        return"),
    ),
    mutation(
        "a value depends on the cached values that it was made from",
        (f"{DEPENDENCIES}.recorder", "        self.made_from[id(entry)] = entry", "        pass"),
    ),
    mutation(
        "rows and columns that were read are recorded",
        (
            f"{DEPENDENCIES}.recorder",
            "            known[name] = None\n        if len",
            "            pass\n        if len",
        ),
    ),
    mutation(
        "rows are recorded as the loader takes them",
        (
            f"{DEPENDENCIES}.rows",
            "self._names[tag_of_row(self._model, self._label, row.pk if pk is None else pk)] = None",
            "pass",
        ),
    ),
    mutation(
        "tables that were read are recorded",
        (
            f"{DEPENDENCIES}.recorder",
            "        if self._names.get(concrete, _NOT_READ) is not None:\n            self._names[concrete] = None",
            "        pass",
        ),
    ),
    mutation(
        "rows that are not known are named by their table",
        (f"{DEPENDENCIES}.recorder", "                tags.append(unknown_rows_tag(model))\n", ""),
    ),
    mutation(
        "`loaded_at` is taken before the loader runs",
        (
            "invalidator.near_cache",
            "key, loaded, load.loaded_at, self._own_ttl",
            "key, loaded, self._clock(), self._own_ttl",
        ),
    ),
    mutation(
        "nobody joins a stale load",
        ("invalidator.loads", "if self._is_valid(both, load.loaded_at) and not _waiting", "if not _waiting"),
    ),
    mutation(
        "a `set` after a miss counts from the miss",
        (
            f"{BACKEND}.fills",
            "    is_fill, since = near.claim_miss(name, within=FILL_WITHIN_S)\n    if _MIDDLEWARE",
            (
                "    is_fill, since = near.claim_miss(name, within=FILL_WITHIN_S)\n"
                "    since = near.bus.clock()\n    if _MIDDLEWARE"
            ),
        ),
    ),
    mutation(
        "a late fill of a second level is refused or taken back",
        (
            f"{BACKEND}.second_level",
            " or self.bus.was_invalidated((name,), (self.place_tag,), since=since):",
            ":",
        ),
        (
            f"{BACKEND}.settling",
            "if level.bus.was_invalidated((name,), (level.place_tag,), since=since):",
            "if False:",
        ),
    ),
    # Whose object.
    mutation(
        "a hit hands out a clone",
        (
            "invalidator.copying.keeping",
            "    if type(value) in UNCHANGING:\n        return value\n    if how",
            "    return value\n    if how",
        ),
    ),
    mutation(
        "what is kept is a master of its own",
        (
            "invalidator.copying.keeping",
            "    return value if copier is None else Kept(copier, copier(value))",
            "    return value if copier is None else Kept(copier, value)",
        ),
    ),
)

IN_SHORT = (
    "a transaction reads past the caches what it has changed",
    "nothing is shared that may be uncommitted (the whole rule)",
    "what is read in a transaction is as old as its beginning",
    "a hit hands out a clone",
)
"""Tried in every `make test`."""


def play(most_seeds: int, *, explained: bool) -> Found | None:
    """Run seeds until one fails."""
    runs = import_module(".runs", __package__)  # not before: it imports the library, which is mutated by that
    with runs.tables():
        failure = next(runs.find_failures(range(most_seeds)), None)
        if failure is None:
            return None
        return Found(failure.seed + 1, failure.violation, runs.explain(failure) if explained else "")


SUITE = Suite("tests.proof.values.mutations", "values", MUTATIONS, play, most_seeds=600, enough_intact=40)

if __name__ == "__main__":
    sys.exit(main(SUITE))
