"""Columns of events that came as columns: whether every row may be accepted as it is."""

from __future__ import annotations

import numpy as np

from ingest.kernels.json_events import PADDING_QUOTES, data_end, prepared, survey
from ingest.kernels.json_values import KEY_COUNT, NEXT_QUOTE, ODD, OPEN, QUOTES, TEXT, skip_spaces
from ingest.kernels.memory import (
    compiled,
    load_i32,
    load_i64,
    load_u8,
    store_i64,
    store_u8,
    store_u32,
)

_TEXTS = 4


@compiled
def _is_fit(columns, row, text_max):
    """The bytes of a row's texts; -1 if one is empty, too long or has a NUL."""
    total = np.int64(0)
    for place in range(_TEXTS):
        texts, offsets = load_i64(columns + 16 * place), load_i64(columns + 16 * place + 8)
        at = texts + load_i32(offsets + 4 * row)
        end = texts + load_i32(offsets + 4 * row + 4)
        if at == end or end - at > text_max:
            return np.int64(-1)
        total += end - at
        while at < end:
            if load_u8(at) == 0:
                return np.int64(-1)
            at += 1
    return total


@compiled
def _read_data(work, begin, end):
    """Whether ``[begin, end)`` of the text is one plain object; and if a meter may refuse it."""
    text, quotes = load_i64(work + TEXT), load_i64(work + QUOTES)
    count, breaks = survey(text, begin, end, quotes, np.int64(0))
    if breaks != 0 or count % 2:
        return False, False
    for place in range(count, count + PADDING_QUOTES):
        store_u32(quotes + 4 * place, np.uint32(end))  # where no quote is
    store_i64(work + NEXT_QUOTE, 0)
    store_i64(work + KEY_COUNT, 0)
    if begin == end or load_u8(text + begin) != OPEN:
        return False, False
    stop, doubtful = data_end(work, text + begin)
    return stop != ODD and skip_spaces(stop) == text + end, doubtful


@compiled
def check(columns, text, offsets, words, word_ends, text_max, event_max, quotes, doubts, scratch):
    """Whether all rows are fit: then only doubtful values are left to be judged.

    Args:
        columns: int64: of four columns of strings the address of their bytes and int32 offsets.
        text: uint8, the data of all rows and padding (see ``json_events``); ``offsets`` int32.
        words, word_ends: as in ``json_events.scan``.
        text_max, event_max: the bytes of a text and of a whole event at most.
        quotes: uint32, room for the longest data and padding.
        doubts: uint8, a row each, set where a meter may refuse a value.
        scratch: int64, SCRATCH_CELLS, the caller's (see ``json_events.scan``).
    """
    work = prepared(scratch, text, quotes, words, word_ends)
    table = np.int64(columns.ctypes.data)
    marks = np.int64(doubts.ctypes.data)
    for row in range(doubts.size):
        size = _is_fit(table, row, text_max)
        begin, end = np.int64(offsets[row]), np.int64(offsets[row + 1])
        if size < 0 or size + end - begin > event_max:
            return False
        plain, doubtful = _read_data(work, begin, end)
        if not plain:
            return False
        store_u8(marks + row, np.uint8(doubtful))
    return True
