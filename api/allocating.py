"""How the processes that read the log keep memory that they will want again at once.

A page of the log is some megabytes, read, decoded and dropped several times a second. By default
such a piece is mapped from the kernel each time and given back: of the worker's processor time
under load 40 % were the kernel's, a third of that clearing pages.
"""

from __future__ import annotations

import contextlib
import ctypes
from collections.abc import Mapping

_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
_PIECE_BYTES_MAX = 32 << 20  # the most that glibc accepts
_FREE_BYTES_MAX = 128 << 20
"""So much may lie free at the end of the heap before it is given back."""

_POLARS = "_RJEM_MALLOC_CONF"
_KEPT = "dirty_decay_ms:5000"


def with_kept_pages(environment: Mapping[str, str]) -> dict[str, str]:
    """The same environment, where Polars' allocator keeps freed pages for 5 s, not half a second.

    It reads one variable, once, when Polars is imported; the last word in it counts.
    """
    told = [*filter(None, [environment.get(_POLARS)]), _KEPT]
    return {**environment, _POLARS: ",".join(told)}


def keep_freed() -> None:
    """Have the C library keep freed pieces of up to 32 MiB. Only glibc can be told so."""
    with contextlib.suppress(OSError, AttributeError):
        libc = ctypes.CDLL(None)
        libc.mallopt(_M_MMAP_THRESHOLD, _PIECE_BYTES_MAX)
        libc.mallopt(_M_TRIM_THRESHOLD, _FREE_BYTES_MAX)
