"""Bodies of CloudEvents in JSON, many at once: where in the text everything stands.

One pass over the bytes. A body is answered with how many events it has, or with ``CAREFUL`` when
anything in it is not plain (see :mod:`ingest.kernels.json_values`) or might be refused: then all of
it is left to the careful decoder, which says why. So nothing here can refuse an event, and an event
accepted here is one the careful decoder accepts, with the same content.
"""

from __future__ import annotations

import numpy as np

from ingest.kernels import json_values
from ingest.kernels.json_values import (
    CLOSE,
    CLOSE_LIST,
    COMMA,
    KEY_COUNT,
    MINUS,
    NEXT_QUOTE,
    ODD,
    OPEN,
    OPEN_LIST,
    QUOTE,
    QUOTES,
    SMALL_N,
    TEXT,
    ZERO,
    member,
    number_end,
    quoted_end,
    same_bytes,
    scalar_end,
    skip_spaces,
    value_end,
)
from ingest.kernels.memory import (
    compiled,
    inlined,
    load_i64,
    load_u8,
    load_u32,
    store_i64,
    store_u8,
    store_u32,
)
from ingest.kernels.times import time_us

ID, SOURCE, TYPE, SUBJECT, DATA = range(5)
TEXTS = 5
"""The columns of ``spans``: where each of an event's texts begins and ends in the bodies."""

_TIME, _VERSION, _STRING, _FORBIDDEN, _OTHER = range(5, 10)
_REQUIRED = 1 << ID | 1 << SOURCE | 1 << TYPE | 1 << SUBJECT

CAREFUL = -1
PADDING_BYTES = 64
PADDING_QUOTES = 8
SCRATCH_CELLS = json_values.CELLS + json_values.KEYS_MAX + 2 * json_values.DEPTH_MAX

_NEWLINE, _RETURN, _BACKSLASH = 10, 13, 92

# Further cells of ``work``: the columns of the row that is being filled, what is measured and what
# is allowed.
_SPANS, _TIMES, _GIVEN, WORDS, WORD_ENDS, WORD_COUNT = range(56, 104, 8)
_EARLIEST, _LATEST, _TEXT_MAX, _EVENT_MAX, _ROWS_MAX, _BREAKS = range(104, 152, 8)


@compiled
def _attribute(start, size):
    """Which attribute a key names."""
    if size == 2:
        return ID if load_u8(start) == 105 and load_u8(start + 1) == 100 else _OTHER
    if size < 4:
        return _OTHER
    head, tail = load_u32(start), load_u32(start + size - 4)
    if size == 4:
        if head == 0x65707974:  # type
            return TYPE
        if head == 0x61746164:  # data
            return DATA
        return _TIME if head == 0x656D6974 else _OTHER
    if head == 0x72756F73 and tail == 0x65637275 and size == 6:  # source
        return SOURCE
    if head == 0x6A627573 and tail == 0x7463656A and size == 7:  # subject
        return SUBJECT
    if head == 0x63657073 and size == 11:  # specversion
        return _VERSION
    if head == 0x61746164:  # datacontenttype, dataschema; data_base64
        return _FORBIDDEN if size == 11 else _STRING
    return _OTHER


@compiled
def _is_measured(work, start, size):
    """Whether a meter may read the value under this key of the data."""
    ends, words = load_i64(work + WORD_ENDS), load_i64(work + WORDS)
    begin = np.int64(0)
    for k in range(load_i64(work + WORD_COUNT)):
        end = load_i64(ends + 8 * k)
        if end - begin == size and same_bytes(words + begin, start, size):
            return True
        begin = end
    return False


@compiled
def _measured_end(work, at):
    """Behind a value that a meter may read, and whether it may refuse it."""
    first = load_u8(at)
    if first == QUOTE:
        end = quoted_end(work, at)
        if end == ODD:
            return ODD, True
        stop, plain = number_end(at + 1)
        return end + 1, stop != end or not plain
    if first == MINUS or ZERO <= first <= ZERO + 9:
        end, plain = number_end(at)
        return end, not plain
    return value_end(work, at), first != SMALL_N


@compiled
def data_end(work, at):
    """Behind the object at ``at``, and whether a meter may refuse a value in it."""
    base = load_i64(work + KEY_COUNT)
    doubtful = False
    at = skip_spaces(at + 1)
    if load_u8(at) == CLOSE:
        return at + 1, doubtful
    while True:
        key, size, at = member(work, at, base)
        if at == ODD:
            return ODD, doubtful
        first = load_u8(at)
        if _is_measured(work, key, size):
            at, refusable = _measured_end(work, at)
            doubtful |= refusable
        elif first == OPEN or first == OPEN_LIST:
            at = value_end(work, at)
        else:
            at = scalar_end(work, at)
        if at == ODD:
            return ODD, doubtful
        at = skip_spaces(at)
        mark = load_u8(at)
        if mark == CLOSE:
            store_i64(work + KEY_COUNT, base)
            return at + 1, doubtful
        if mark != COMMA:
            return ODD, doubtful
        at = skip_spaces(at + 1)


@inlined
def _put_span(work, row, text, start, end):
    cell = load_i64(work + _SPANS) + 4 * (2 * TEXTS * row + 2 * text)
    begin = load_i64(work + TEXT)
    store_u32(cell, np.uint32(start - begin))
    store_u32(cell + 4, np.uint32(end - begin))


@compiled
def _string_attribute(work, at, row, which):
    """Behind the string at ``at``, which is the attribute ``which``."""
    end = quoted_end(work, at)
    start = at + 1
    if end == ODD:
        return ODD
    if which < DATA:
        if end == start or end - start > load_i64(work + _TEXT_MAX):
            return ODD
        _put_span(work, row, which, start, end)
    elif which == _TIME:
        moment = time_us(start, end)
        if moment < load_i64(work + _EARLIEST) or moment > load_i64(work + _LATEST):
            return ODD
        store_i64(load_i64(work + _TIMES) + 8 * row, moment)
        store_u8(load_i64(work + _GIVEN) + row, np.uint8(1))
    elif which == _VERSION and (
        end - start != 3 or load_u32(start) & np.uint32(0xFFFFFF) != np.uint32(0x302E31)  # 1.0
    ):
        return ODD
    return end + 1


@compiled
def _attribute_end(work, at, row, which):
    """Behind the value of an attribute; and whether a meter may refuse something in it."""
    first = load_u8(at)
    if which == DATA:
        if first != OPEN:
            return ODD, False
        end, doubtful = data_end(work, at)
        if end != ODD:
            _put_span(work, row, DATA, at, end)
        return end, doubtful
    if which == _FORBIDDEN:
        return ODD, False
    if first == QUOTE:
        return _string_attribute(work, at, row, which), False
    if which == _OTHER and first != OPEN and first != OPEN_LIST:
        return scalar_end(work, at), False
    if (which == _TIME or which == _STRING) and first == SMALL_N:
        return scalar_end(work, at), False
    return ODD, False


@compiled
def _event_end(work, at, row):
    """Behind the event at ``at``, whose row is filled; and whether a meter may refuse it."""
    store_i64(work + KEY_COUNT, 0)
    store_u8(load_i64(work + _GIVEN) + row, np.uint8(0))
    begin = load_i64(work + TEXT)
    _put_span(work, row, DATA, begin, begin)
    seen = 0
    doubtful = False
    at = skip_spaces(at + 1)
    while True:
        key, size, at = member(work, at, 0)
        if at == ODD:
            return ODD, doubtful
        which = _attribute(key, size)
        at, refusable = _attribute_end(work, at, row, which)
        if at == ODD:
            return ODD, doubtful
        seen |= 1 << which
        doubtful |= refusable
        at = skip_spaces(at)
        mark = load_u8(at)
        if mark == CLOSE:
            return (at + 1 if seen & _REQUIRED == _REQUIRED else ODD), doubtful
        if mark != COMMA:
            return ODD, doubtful
        at = skip_spaces(at + 1)


@inlined
def _line_break(work, at):
    """Behind spaces and one line break, which is counted; ``at`` if there is none."""
    at = skip_spaces(at)
    if load_u8(at) == _RETURN and load_u8(at + 1) == _NEWLINE:
        at += 1
        store_i64(work + _BREAKS, load_i64(work + _BREAKS) + 1)
    if load_u8(at) == _NEWLINE:
        at += 1
        store_i64(work + _BREAKS, load_i64(work + _BREAKS) + 1)
    return skip_spaces(at)


@compiled
def _rows_of(work, at, end, row, doubts, lines):
    """How many events ``[at, end)`` has, in rows from ``row`` on."""
    first = row
    at = skip_spaces(at)
    listed = not lines and load_u8(at) == OPEN_LIST
    if listed:
        at = skip_spaces(at + 1)
        if load_u8(at) == CLOSE_LIST:
            return 0 if skip_spaces(at + 1) == end else CAREFUL
    while at < end and load_u8(at) == OPEN and row - first < load_i64(work + _ROWS_MAX):
        begin = at
        at, doubtful = _event_end(work, at, row)
        if at == ODD or at > end or at - begin > load_i64(work + _EVENT_MAX):
            return CAREFUL
        store_u8(doubts + row, np.uint8(doubtful))
        row += 1
        if lines:
            at = _line_break(work, at)
        else:
            at = skip_spaces(at)
        if at == end and not listed:
            return row - first if lines or row - first == 1 else CAREFUL
        if listed:
            mark = load_u8(at)
            at = skip_spaces(at + 1)
            if mark == CLOSE_LIST:
                return row - first if at == end else CAREFUL
            if mark != COMMA:
                return CAREFUL
    return CAREFUL


@compiled
def survey(text, begin, end, quotes, count):
    """Note the quotes of ``[begin, end)``; how many there are then, and how many line breaks.

    The breaks are -1 if there is a backslash or any other control character.
    """
    breaks = np.int64(0)
    unusual = np.uint8(0)
    for at in range(text + begin, text + end):
        byte = load_u8(at)
        broken = np.uint8(byte == _NEWLINE) | np.uint8(byte == _RETURN)
        breaks += broken
        unusual |= np.uint8(byte == _BACKSLASH) | (np.uint8(byte < 32) ^ broken)
    for i in range(begin, end):  # apart, so that the loop above takes many bytes at once
        store_u32(quotes + 4 * count, np.uint32(i))
        count += load_u8(text + i) == QUOTE
    return count, np.int64(-1) if unusual else breaks


@compiled
def prepared(scratch, text, quotes, words, word_ends):
    """The address of ``work``: its cells, and behind them room for keys and open brackets."""
    work = np.int64(scratch.ctypes.data)
    keys = work + 8 * json_values.CELLS
    bases = keys + 8 * json_values.KEYS_MAX
    store_i64(work + TEXT, np.int64(text.ctypes.data))
    store_i64(work + QUOTES, np.int64(quotes.ctypes.data))
    store_i64(work + json_values.KEYS, keys)
    store_i64(work + json_values.BASES, bases)
    store_i64(work + json_values.KINDS, bases + 8 * json_values.DEPTH_MAX)
    store_i64(work + WORDS, np.int64(words.ctypes.data))
    store_i64(work + WORD_ENDS, np.int64(word_ends.ctypes.data))
    store_i64(work + WORD_COUNT, word_ends.size)
    return work


@compiled
def scan(
    text,
    ends,
    lines,
    words,
    word_ends,
    limits,
    quotes,
    counts,
    spans,
    times,
    given,
    doubts,
    scratch,
):
    """Find the events of many bodies.

    Args:
        text: uint8, all bodies one behind the other and PADDING_BYTES of zeros.
        ends: int64, where each body ends.
        lines: uint8, whether a body is one event a line; else it is one event or an array.
        words: uint8, the keys of data that meters read, one behind the other.
        word_ends: int64, where each of them ends.
        limits: int64: the earliest and latest time, the bytes of a text and of an event at most,
            the events of a body at most.
        quotes: uint32, room for every byte of text and PADDING_QUOTES more.
        counts: int64, set to the events of each body, or CAREFUL.
        spans: uint32, rows x 2 TEXTS: set to where the texts of an event begin and end; data may be
            absent (an empty span).
        times, given, doubts: int64, uint8, uint8, a row each: set to the time in microseconds, if
            one was given, whether it was, and whether a meter may refuse a value.
        scratch: int64, SCRATCH_CELLS. The caller's: compiled code frees an array of its own after
            the last use of its name, which is before the last use of an address in it.

    Returns:
        The rows that are filled. ``spans`` and the others have room for ``len(text) // 47``.
    """
    work = prepared(scratch, text, quotes, words, word_ends)
    store_i64(work + _SPANS, np.int64(spans.ctypes.data))
    store_i64(work + _TIMES, np.int64(times.ctypes.data))
    store_i64(work + _GIVEN, np.int64(given.ctypes.data))
    for place in range(5):
        store_i64(work + _EARLIEST + 8 * place, limits[place])
    row = np.int64(0)
    begin = np.int64(0)
    for body in range(ends.size):
        end = ends[body]
        counts[body] = _scan_body(work, begin, end, row, np.int64(doubts.ctypes.data), lines[body])
        row += max(counts[body], 0)
        begin = end
    return row


@compiled
def _scan_body(work, begin, end, row, doubts, lines):
    text, quotes = load_i64(work + TEXT), load_i64(work + QUOTES)
    count, breaks = survey(text, begin, end, quotes, np.int64(0))
    if breaks < 0 or (breaks and not lines) or count % 2:
        return np.int64(CAREFUL)
    for place in range(count, count + PADDING_QUOTES):
        store_u32(quotes + 4 * place, np.uint32(end))  # where no quote is
    store_i64(work + NEXT_QUOTE, 0)
    store_i64(work + _BREAKS, 0)
    rows = np.int64(_rows_of(work, text + begin, text + end, row, doubts, lines))
    if load_i64(work + _BREAKS) != breaks:  # one is inside a string
        return np.int64(CAREFUL)
    return rows
