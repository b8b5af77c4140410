"""What the system calls of a gateway say about the order of sync and answer."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

_CALL = re.compile(r"^(\d+) +(\w+)\((.*)$")
_RESUMED = re.compile(r"^(\d+) +<\.\.\. (\w+) resumed>(.*)$")


@dataclass
class Order:
    """How often each thing happened, and what was answered before it was durable."""

    frames: int = 0
    syncs: int = 0
    answers: int = 0
    too_early: int = 0


def order_of(lines: Iterable[str], *, hot: str) -> Order:
    """Follow one client's requests: a frame makes the file dirty, a sync that returned cleans it.

    ``lines`` are strace's (``-f -y``) of one gateway whose only client waits for each answer.
    """
    seen, dirty, syncing = Order(), False, set()
    for line in lines:
        if found := _RESUMED.match(line):
            thread, call, rest = found.groups()
            if call == "fdatasync" and thread in syncing and rest.endswith("= 0"):
                dirty, seen.syncs = False, seen.syncs + 1
            continue
        if not (found := _CALL.match(line)):
            continue
        thread, call, rest = found.groups()
        if call == "pwritev2" and hot in rest:
            dirty, seen.frames = True, seen.frames + 1
        elif call == "fdatasync" and hot in rest:
            syncing.add(thread)
            if rest.endswith("= 0"):
                dirty, seen.syncs = False, seen.syncs + 1
        elif '"HTTP/1.1 200' in rest:
            seen.answers += 1
            seen.too_early += dirty
    return seen
