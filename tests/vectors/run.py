"""``make vectors FILE=…``: worked examples of prices against what this service makes of them.

One line an example: ``reproduced``, ``differs`` with both figures, ``refused`` with the reason.
Exits with 1 where one differs.
"""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path

from tests.vectors.check import verdicts


def main(arguments: list[str]) -> int:
    """Run the examples of one file."""
    if len(arguments) != 1:
        print("usage: make vectors FILE=examples.jsonl", file=sys.stderr)
        return 2
    counts: Counter[str] = Counter()
    for verdict in verdicts(Path(arguments[0]).read_text(encoding="utf-8")):
        counts[verdict.outcome] += 1
        print(verdict, flush=True)
    told = ", ".join(f"{counts[name]} {name}" for name in ("reproduced", "differs", "refused"))
    print(f"{counts.total()} examples: {told}")
    return 1 if counts["differs"] else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
