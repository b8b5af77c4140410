"""How much to keep, how much to send at once, how long to try."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

MIB = 1024 * 1024

Overflow = Literal["raise", "block", "drop"]
"""What record() does without room: raise BufferFull; wait for room, then raise; count and drop."""

Compression = Literal["auto", "gzip", "zstd", "none"]
"""``auto`` is zstd where the ``zstandard`` package is installed, else gzip."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Retry:
    """How long one request is tried.

    ``attempt_s_max`` bounds one attempt, ``total_s_max`` all of them with the pauses between. The
    n-th pause is drawn from [0, min(pause_s_max, pause_s_first * 2^n)] (full jitter), on top of
    what a Retry-After asked for; a pause that does not fit into the total ends the trying.
    """

    attempt_s_max: float
    total_s_max: float
    pause_s_first: float = 0.1
    pause_s_max: float = 10.0

    def __post_init__(self) -> None:
        if min(self.attempt_s_max, self.total_s_max) <= 0:
            raise ValueError(f"a request needs time: {self!r}")
        if not 0 <= self.pause_s_first <= self.pause_s_max:
            raise ValueError(f"pauses grow from the first to the longest: {self!r}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """The client's limits. The defaults suit a service that records up to some 10,000 events/s.

    ``buffer_*`` bound what record() keeps in memory, the batch under way included; a batch goes
    when it has ``batch_events_max`` events or ``batch_bytes_max`` bytes, or when its oldest event
    is ``batch_age_s_max`` old. ``delivery`` is for events, ``check`` for what must not hang,
    ``consume`` for decisions that take something, ``calls`` for the rest.
    """

    buffer_events_max: int = 100_000
    buffer_bytes_max: int = 64 * MIB
    overflow: Overflow = "raise"
    block_s_max: float = 30.0
    batch_events_max: int = 1_000
    batch_bytes_max: int = 1 * MIB
    batch_age_s_max: float = 1.0
    compression: Compression = "auto"
    compress_bytes_min: int = 16 * 1024
    allow_floats: bool = False
    close_s_max: float = 10.0
    connections_max: int = 20
    delivery: Retry = Retry(
        attempt_s_max=30.0, total_s_max=3600.0, pause_s_first=0.2, pause_s_max=30.0
    )
    check: Retry = Retry(attempt_s_max=1.0, total_s_max=1.0, pause_s_first=0.02, pause_s_max=0.2)
    consume: Retry = Retry(attempt_s_max=1.0, total_s_max=3.0, pause_s_first=0.05, pause_s_max=0.5)
    calls: Retry = Retry(attempt_s_max=30.0, total_s_max=60.0)

    def __post_init__(self) -> None:
        counts = (self.buffer_events_max, self.buffer_bytes_max, self.connections_max)
        if min(*counts, self.batch_events_max, self.batch_bytes_max) < 1:
            raise ValueError("a buffer, a batch and the pool hold at least one")
        if min(self.block_s_max, self.batch_age_s_max, self.close_s_max) < 0:
            raise ValueError("a time limit is at least zero")
        if self.overflow not in {"raise", "block", "drop"}:
            raise ValueError(f"overflow is raise, block or drop, not {self.overflow!r}")
        if self.compression not in {"auto", "gzip", "zstd", "none"}:
            raise ValueError(f"compression is auto, gzip, zstd or none, not {self.compression!r}")
