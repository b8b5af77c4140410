"""Who goes first on a core that several processes share.

The kernel shares a core by thread. Linux: niceness is a thread's own, and inherited by what it
starts; to take it back would need a privilege.
"""

from __future__ import annotations

import contextlib
import os
import threading
from pathlib import Path

GIVEN_WAY = 2
"""Steps of niceness, to the ledger's reader. The worker has dozens of threads (ClickHouse's,
Polars'): beside them the one thread of that reader waited 150 ms for 10 ms of work. With ten steps
it waits least of all, and on a full core facts and events come late by seconds."""
IN_BACKGROUND = 5
_MERGES = "MergeMutate"
"""ClickHouse's own name of the threads that merge parts, which nobody waits for."""


def give_way() -> None:
    """Put all threads of this process behind the caller's, and those that they start.

    What the caller's thread starts keeps its priority.
    """
    own = threading.get_native_id()
    for task in Path("/proc/self/task").iterdir():
        if int(task.name) != own:
            with contextlib.suppress(OSError):  # it has ended, or a sandbox forbids it
                merges = (task / "comm").read_text().strip() == _MERGES
                _step_back(int(task.name), IN_BACKGROUND if merges else GIVEN_WAY)


def stay_behind() -> None:
    """Put the caller's thread behind all others: nobody waits for what it does."""
    with contextlib.suppress(OSError):
        _step_back(threading.get_native_id(), IN_BACKGROUND)


def _step_back(thread: int, steps: int) -> None:
    os.setpriority(os.PRIO_PROCESS, thread, os.getpriority(os.PRIO_PROCESS, thread) + steps)
