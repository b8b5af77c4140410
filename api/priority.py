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


def give_way() -> None:
    """Put all threads of this process behind the caller's, and those that they start.

    What the caller's thread starts keeps its priority. Nobody else may start one meanwhile: it
    might be missed.
    """
    own = threading.get_native_id()
    for thread in (int(task.name) for task in Path("/proc/self/task").iterdir()):
        if thread != own:
            with contextlib.suppress(OSError):  # it has ended, or a sandbox forbids it
                _step_back(thread, GIVEN_WAY)


def stay_behind() -> None:
    """Put the caller's thread behind all others: nobody waits for what it does."""
    with contextlib.suppress(OSError):
        _step_back(threading.get_native_id(), IN_BACKGROUND)


def _step_back(thread: int, steps: int) -> None:
    os.setpriority(os.PRIO_PROCESS, thread, os.getpriority(os.PRIO_PROCESS, thread) + steps)
