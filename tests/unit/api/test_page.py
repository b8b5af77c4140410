"""Pages of lists."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.models.page import paginate
from api.paging import InvalidCursor, decode_cursor, decode_place, encode_cursor, encode_place


def identity(item: str) -> str:
    """The key of a text is the text."""
    return item


@given(texts=st.sets(st.text(max_size=8)), limit=st.integers(1, 7), by_key=st.booleans())
def test_the_pages_are_the_list(texts: set[str], *, limit: int, by_key: bool) -> None:
    """Following next_cursor shows every item once, in order, in pages of at most limit."""
    items, seen, cursor = sorted(texts), [], None
    while True:
        page = paginate(items, limit, cursor, key=identity if by_key else None)
        assert len(page.items) <= limit
        seen += page.items
        cursor = page.next_cursor
        if cursor is None:
            break

    assert seen == items


def test_a_keyed_cursor_survives_changes() -> None:
    """Items that come and go between two pages neither repeat nor hide the others."""
    first = paginate(["a", "c", "e"], 2, key=identity)

    second = paginate(["a", "b", "d", "e"], 2, first.next_cursor, key=identity)

    assert (list(first.items), list(second.items)) == (["a", "c"], ["d", "e"])


@given(st.text())
def test_a_cursor_is_opaque_and_exact(position: str) -> None:
    """What goes into a cursor comes out of it."""
    assert decode_cursor(encode_cursor(position)) == position


@pytest.mark.parametrize("cursor", ["", "§", "a", "====", "_w", encode_cursor("-1"), "A" * 2048])
def test_a_foreign_cursor_is_refused(cursor: str) -> None:
    """A cursor no list handed out is the caller's mistake, not the first page."""
    with pytest.raises(InvalidCursor):
        paginate([1, 2, 3], 2, cursor)


def test_a_place_is_what_it_was() -> None:
    """A computed list goes on where it was, as of when it was."""
    assert decode_place(None) == (0, None)
    assert decode_place(encode_place(1_773_576_000_000_000, 100)) == (100, 1_773_576_000_000_000)


@pytest.mark.parametrize("text", ["", "1", "/", "1/", "a/b", "-1/2", "1/-2", "1/2/3", "9" * 20])
def test_a_foreign_place_is_refused(text: str) -> None:
    """Another list's cursor, or a made-up one."""
    with pytest.raises(InvalidCursor):
        decode_place(encode_cursor(text))
