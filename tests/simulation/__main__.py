"""``python -m tests.simulation --seed N`` runs one seed again, ``--seeds N`` many."""

from __future__ import annotations

import argparse
import sys

from tests.simulation.seeds import report_lines, run_seeds, run_until_failure
from tests.simulation.world import World, simulate


def main() -> int:
    """Run what was asked for; 1 when a promise was broken."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seed", type=int, help="run this one, and show its steps")
    parser.add_argument("--seeds", type=int, default=2_000, help="how many (default 2,000)")
    parser.add_argument("--first", type=int, default=0, help="the first of them")
    parser.add_argument("--minutes", type=float, help="stop after so many")
    parser.add_argument("--jobs", type=int, help="processes (default: all processors)")
    parser.add_argument("--until-failure", action="store_true", help="one by one, to the first")
    given = parser.parse_args()
    if given.seed is not None:
        print(World(given.seed).describe())
        print(dict(sorted(simulate(given.seed).items())))
        return 0
    if given.until_failure:
        result = run_until_failure(range(given.first, given.first + given.seeds))
        print("\n".join(report_lines(result)))
        return 1 if result.failures else 0
    result = run_seeds(given.first, given.seeds, minutes=given.minutes, jobs=given.jobs)
    print("\n".join(report_lines(result)))
    return 1 if result.failures or result.never_reached else 0


if __name__ == "__main__":
    sys.exit(main())
