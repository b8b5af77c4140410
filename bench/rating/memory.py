"""How much memory a cold rating takes: a process of its own, with the catalog and nothing else.

    python -m bench.rating.memory CACHE EVENTS

Says the most it ever had, in bytes, before the rating and after it.
"""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path

from bench.rating.month import Month
from bench.registry import Context


def peaks(month: Month) -> tuple[float, float]:
    """GiB resident at most: with the catalog, and with the month rated cold as well."""
    assert month.facts is not None  # written before, by this process
    command = [sys.executable, "-m", "bench.rating.memory", str(month.context.cache)]
    said = subprocess.run(
        [*command, str(month.events)], check=True, capture_output=True, text=True
    ).stdout
    before, after = (int(word) / 2**20 for word in said.split())
    return before, after


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def main() -> None:
    """Rate once, from facts that are there."""
    cache = Path(sys.argv[1])
    month = Month(context=Context(scratch=cache, cache=cache), events=int(sys.argv[2]))
    assert month.known
    before = _peak()
    month.cold()
    print(before, _peak())


if __name__ == "__main__":
    main()
