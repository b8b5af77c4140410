"""``python -m tests.planted`` plants every bug and prints the kill table; 1 when one survived."""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from tests.planted.bugs import bugs, table, try_all


def main() -> int:
    """Try the bugs named, or all."""
    parser = argparse.ArgumentParser(prog="python -m tests.planted", description=__doc__)
    parser.add_argument("names", nargs="*", help="only these")
    parser.add_argument("--out", type=Path, help="write the table here, too")
    parser.add_argument("--jobs", type=int, default=2, help="so many at a time (2)")
    given = parser.parse_args()
    chosen = [bug for bug in bugs() if not given.names or bug.name in given.names]
    verdicts = []
    with tempfile.TemporaryDirectory() as directory:
        for verdict in try_all(chosen, Path(directory), jobs=given.jobs):
            verdicts.append(verdict)
            told = verdict.how or "SURVIVED"
            print(f"{verdict.seconds:5.0f} s  {verdict.bug.name}: {told}", flush=True)
    print("\n" + table(verdicts))
    if given.out is not None:
        given.out.write_text(table(verdicts))
    return 0 if all(verdict.caught for verdict in verdicts) else 1


if __name__ == "__main__":
    sys.exit(main())
