"""Numbers and flags in paths and queries: as the document says them, and nothing else.

The framework would also take ``1.0``, ``1_000`` and ``+5`` for a number, and ``on``, ``1`` and
``Y`` for a flag: what nobody promised and other routes refuse.
"""

from __future__ import annotations

from pydantic import BeforeValidator


def _digits(value: object) -> object:
    if isinstance(value, str) and not (value.isascii() and value.isdigit()):
        raise ValueError("must be digits")
    return value


def _flag(value: object) -> object:
    if isinstance(value, str) and value not in {"true", "false"}:
        raise ValueError("must be true or false")
    return value


DIGITS = BeforeValidator(_digits)
"""In the annotation of an ``int``."""

FLAG = BeforeValidator(_flag)
"""In the annotation of a ``bool``."""
