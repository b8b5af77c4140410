"""Who goes first on a core that several processes share."""

from __future__ import annotations

import contextlib
import os
import threading
from pathlib import Path

GIVEN_WAY = 0
"""Steps of niceness. The kernel shares a core by thread, and the worker has dozens (ClickHouse's,
Polars'): beside them the one thread of the ledger's reader waited 150 ms for 10 ms of work."""


def give_way() -> None:
    """Put all threads of this process behind the caller's, and those that they start.

    What the caller's thread starts keeps its priority. Linux: niceness is a thread's own, and
    inherited by what it starts; to take it back would need a privilege.
    """
    own = threading.get_native_id()
    for thread in (int(path.name) for path in Path("/proc/self/task").iterdir()):
        if thread == own:
            continue
        with contextlib.suppress(OSError):  # it has ended, or a sandbox forbids it
            now = os.getpriority(os.PRIO_PROCESS, thread)
            os.setpriority(os.PRIO_PROCESS, thread, now + GIVEN_WAY)
