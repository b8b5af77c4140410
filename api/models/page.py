"""Lists: ``{"items", "next_cursor"}`` with ``limit`` and an opaque ``cursor``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated, Generic, TypeVar

from fastapi import Query
from pydantic import BaseModel, ConfigDict

from api.models.parameters import DIGITS
from api.paging import CURSOR_CHARS_MAX, LIMIT_DEFAULT, LIMIT_MAX, slice_page

T = TypeVar("T")

Limit = Annotated[
    int,
    DIGITS,
    Query(ge=1, le=LIMIT_MAX, description="Items a page, at most 1,000.", examples=[100]),
]
"""A ``limit`` parameter: ``limit: Limit = LIMIT_DEFAULT``."""

Cursor = Annotated[
    str | None,
    Query(max_length=CURSOR_CHARS_MAX, description="next_cursor of the page before, as it was."),
]
"""A ``cursor`` parameter: ``cursor: Cursor = None``."""


class Page(BaseModel, Generic[T]):
    """One page of a list. ``next_cursor`` is null on the last."""

    model_config = ConfigDict(frozen=True)

    items: Sequence[T]
    next_cursor: str | None = None


def paginate(
    items: Sequence[T],
    limit: int = LIMIT_DEFAULT,
    cursor: str | None = None,
    *,
    key: Callable[[T], str] | None = None,
) -> Page[T]:
    """One page of ``items``: see :func:`api.paging.slice_page`.

    Raises:
        InvalidCursor: the cursor was not made here.
    """
    chosen, following = slice_page(items, limit, cursor, key=key)
    return Page(items=chosen, next_cursor=following)
