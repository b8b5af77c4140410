"""Identifiers that no two processes make alike."""

from __future__ import annotations

import os
import time

_RANDOM_BITS = 74
_LOW_BITS = 62


def new_id(now_ns: int | None = None) -> str:
    """A UUID version 7 (RFC 9562): milliseconds since 1970, then 74 bits from the system.

    The bits are drawn anew for every id, so processes, threads and forks cannot repeat each other.
    """
    millis = (time.time_ns() if now_ns is None else now_ns) // 1_000_000
    random = int.from_bytes(os.urandom(10)) >> (80 - _RANDOM_BITS)
    high, low = random >> _LOW_BITS, random & ((1 << _LOW_BITS) - 1)
    number = (millis & (1 << 48) - 1) << 80 | 0x7 << 76 | high << 64 | 0b10 << 62 | low
    text = f"{number:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"
