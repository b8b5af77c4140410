"""How lists are cut into pages: limits, opaque cursors, and where a page begins.

Free of any web framework, as the gateways need it too; :mod:`api.models.page` has the models.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Sequence
from typing import TypeVar

from catalog.errors import FieldError, InvalidRequest

T = TypeVar("T")

LIMIT_DEFAULT = 100
LIMIT_MAX = 1_000
CURSOR_CHARS_MAX = 2_048


class InvalidCursor(InvalidRequest):
    """The cursor is not one this list handed out."""

    def __init__(self) -> None:
        error = FieldError(pointer="?cursor", detail="not a cursor of this list")
        super().__init__("the cursor cannot be read", errors=[error])


def slice_page(
    items: Sequence[T],
    limit: int,
    cursor: str | None,
    *,
    key: Callable[[T], str] | None = None,
) -> tuple[Sequence[T], str | None]:
    """The at most ``limit`` of ``items`` that follow ``cursor``, and the next cursor (None: last).

    With ``key``, items must be sorted by it and it must be unique: the cursor then names the last
    item seen, so insertions and deletions between two calls neither repeat nor skip the others.
    Without, the cursor is a position.

    Raises:
        InvalidCursor: the cursor was not made here.
    """
    after = None if cursor is None else decode_cursor(cursor)
    start = _start(items, after, key)
    chosen = items[start : start + limit]
    if start + limit >= len(items):
        return chosen, None
    return chosen, encode_cursor(str(start + limit) if key is None else key(chosen[-1]))


def encode_cursor(position: str) -> str:
    """``position`` as an opaque token, for lists that page inside their store."""
    return base64.urlsafe_b64encode(position.encode()).decode().rstrip("=")


def decode_cursor(cursor: str) -> str:
    """What :func:`encode_cursor` was given.

    Raises:
        InvalidCursor: it is no such token.
    """
    try:
        padded = cursor + "=" * (-len(cursor) % 4)
        return base64.b64decode(padded, altchars=b"-_", validate=True).decode()
    except (binascii.Error, UnicodeDecodeError, ValueError) as error:
        raise InvalidCursor from error


def encode_place(as_of: int, start: int) -> str:
    """A cursor of a list that is computed for every page: where, and as of which instant.

    So all pages are pages of one list, whatever happened in between.
    """
    return encode_cursor(f"{as_of}/{start}")


def decode_place(cursor: str | None) -> tuple[int, int | None]:
    """Where a page begins, and the instant its list was made at (None on the first page).

    Raises:
        InvalidCursor: :func:`encode_place` did not make it.
    """
    if cursor is None:
        return 0, None
    as_of, _, start = decode_cursor(cursor).partition("/")
    if not all(part.isascii() and part.isdecimal() and len(part) < 19 for part in (as_of, start)):
        raise InvalidCursor
    return int(start), int(as_of)


def _start(items: Sequence[T], after: str | None, key: Callable[[T], str] | None) -> int:
    if after is None:
        return 0
    if key is None:
        if not after.isascii() or not after.isdecimal() or len(after) > 18:
            raise InvalidCursor
        return int(after)
    for index, item in enumerate(items):
        if key(item) > after:
            return index
    return len(items)
