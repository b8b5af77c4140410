"""Where in JSON objects the values of some keys stand: one pass over each row's text.

A row is a stretch of memory, ``[at, end)``, without padding: no byte outside of it is read. What
passes here is strict JSON. A row with anything unusual in its structure (a key with an escape, half
a surrogate pair, deep nesting, no object at all) is *odd*: a patient parser must look.
"""

from __future__ import annotations

import numpy as np

from ingest.kernels.json_values import (
    CLOSE,
    CLOSE_LIST,
    COLON,
    COMMA,
    DOT,
    MINUS,
    OPEN,
    OPEN_LIST,
    QUOTE,
    SMALL_F,
    SMALL_N,
    SMALL_T,
    ZERO,
    same_bytes,
)
from ingest.kernels.memory import (
    compiled,
    inlined,
    load_i64,
    load_u8,
    load_u32,
    store_i64,
    store_u8,
)

ABSENT, STRING, WHOLE, FRACTION, LITERAL, LIST, OBJECT, ESCAPED = range(8)
"""Kinds of values: none or null; a string without an escape; an integer, ``-0`` apart; any other
number; true or false; an array; an object; a string with an escape. From LIST on, a value's text is
not simply its token."""

DEPTH_MAX = 60

_BROKEN = np.int64(0)
_BACKSLASH, _SLASH, _PLUS = 92, 47, 43
_SURROGATES = 0xD800 >> 11
_SMALL_B, _SMALL_E, _SMALL_R, _SMALL_U, _LARGE_E = 98, 101, 114, 117, 69


@inlined
def _skip_spaces(at, end):
    while at < end and load_u8(at) <= 32 and load_u8(at) in (32, 10, 13, 9):
        at += 1
    return at


@inlined
def _skip_digits(at, end):
    while at < end and 0 <= np.int64(load_u8(at)) - ZERO <= 9:
        at += 1
    return at


@inlined
def _nibble(byte):
    """A hexadecimal digit's value, 16 if it is none."""
    digit, letter = np.int64(byte) - ZERO, (np.int64(byte) | 32) - 97
    if 0 <= digit <= 9:
        return digit
    return letter + 10 if 0 <= letter <= 5 else np.int64(16)


@compiled
def _code_unit(at, end):
    """The UTF-16 unit that the escape with four digits at ``at`` stands for, -1 if it is none."""
    if at + 6 > end or load_u8(at) != _BACKSLASH or load_u8(at + 1) != _SMALL_U:
        return np.int64(-1)
    unit = np.int64(0)
    for place in range(at + 2, at + 6):
        nibble = _nibble(load_u8(place))
        if nibble > 15:
            return np.int64(-1)
        unit = unit << 4 | nibble
    return unit


@compiled
def _escape_end(at, end):
    """Behind the backslash at ``at`` and what it escapes; broken for half a surrogate pair."""
    if at + 2 > end:
        return _BROKEN
    what = load_u8(at + 1)
    if what in (QUOTE, _BACKSLASH, _SLASH, _SMALL_B, SMALL_F, SMALL_N, _SMALL_R, SMALL_T):
        return at + 2
    unit = _code_unit(at, end)
    if unit < 0:
        return _BROKEN
    if unit >> 11 != _SURROGATES:
        return at + 6
    low = _code_unit(at + 6, end)
    pair = unit >> 10 == 2 * _SURROGATES and low >> 10 == 2 * _SURROGATES + 1
    return at + 12 if pair else _BROKEN


@compiled
def _string_end(at, end):
    """Behind the string whose opening quote is at ``at``; and whether it has no escape."""
    plain = True
    at += 1
    while at < end:
        byte = load_u8(at)
        if byte == QUOTE:
            return at + 1, plain
        if byte < 32:
            return _BROKEN, plain
        if byte == _BACKSLASH:
            plain = False
            at = _escape_end(at, end)
            if at == _BROKEN:
                return _BROKEN, plain
        else:
            at += 1
    return _BROKEN, plain


@compiled
def _number_end(at, end):
    """Behind the number at ``at``, and its kind."""
    kind = WHOLE
    negative = load_u8(at) == MINUS
    at += negative
    start = at
    at = _skip_digits(at, end)
    if at == start or (load_u8(start) == ZERO and at - start > 1):
        return _BROKEN, kind
    if negative and load_u8(start) == ZERO:
        kind = FRACTION
    if at < end and load_u8(at) == DOT:
        kind = FRACTION
        start = at + 1
        at = _skip_digits(start, end)
        if at == start:
            return _BROKEN, kind
    if at < end and load_u8(at) in (_SMALL_E, _LARGE_E):
        kind = FRACTION
        at += 1
        if at < end and load_u8(at) in (_PLUS, MINUS):
            at += 1
        start = at
        at = _skip_digits(start, end)
        if at == start:
            return _BROKEN, kind
    return at, kind


@compiled
def _literal_end(at, end):
    """Behind ``true``, ``false`` or ``null``, and its kind."""
    first = load_u8(at)
    size = 5 if first == SMALL_F else 4
    if end - at < size:
        return _BROKEN, LITERAL
    if first == SMALL_T and load_u32(at) == 0x65757274:
        return at + 4, LITERAL
    if first == SMALL_N and load_u32(at) == 0x6C6C756E:
        return at + 4, ABSENT
    if first == SMALL_F and load_u32(at + 1) == 0x65736C61:
        return at + 5, LITERAL
    return _BROKEN, LITERAL


@inlined
def _scalar_end(at, end):
    """Behind the string, number or literal at ``at``, and its kind."""
    first = load_u8(at)
    if first == QUOTE:
        at, plain = _string_end(at, end)
        return at, STRING if plain else ESCAPED
    if first == MINUS or ZERO <= first <= ZERO + 9:
        return _number_end(at, end)
    return _literal_end(at, end)


@compiled
def _value_behind_key(at, end):
    """Where the value begins whose key is at ``at``, any key; never at ``end``."""
    if at >= end or load_u8(at) != QUOTE:
        return _BROKEN
    at, _ = _string_end(at, end)
    return _BROKEN if at == _BROKEN else _value_behind_colon(at, end)


@inlined
def _value_behind_colon(at, end):
    at = _skip_spaces(at, end)
    if at >= end or load_u8(at) != COLON:
        return _BROKEN
    at = _skip_spaces(at + 1, end)
    return at if at < end else _BROKEN


@compiled
def _nested_end(at, end):
    """Behind the object or array at ``at``."""
    objects, depth = np.uint64(0), 0  # a bit for each that is open: whether it is an object
    while True:
        first = load_u8(at)
        if first == OPEN or first == OPEN_LIST:
            if depth == DEPTH_MAX:
                return _BROKEN
            objects = objects << np.uint64(1) | np.uint64(first == OPEN)
            depth += 1
            at = _skip_spaces(at + 1, end)
            if at >= end:
                return _BROKEN
            if load_u8(at) != first + 2:  # brackets close two places behind where they open
                if first == OPEN:
                    at = _value_behind_key(at, end)
                if at == _BROKEN:
                    return _BROKEN
                continue
        else:
            at, _ = _scalar_end(at, end)
            if at == _BROKEN:
                return _BROKEN
        at, objects, depth = _after_value(at, end, objects, depth)
        if at == _BROKEN or depth == 0:
            return at


@inlined
def _after_value(at, end, objects, depth):
    """The next value, behind closing brackets and a comma; or the end, where ``depth`` is 0."""
    while depth:
        at = _skip_spaces(at, end)
        if at >= end:
            return _BROKEN, objects, depth
        in_object = objects & np.uint64(1)
        mark = load_u8(at)
        if mark == COMMA:
            at = _skip_spaces(at + 1, end)
            if in_object:
                at = _value_behind_key(at, end)
            return at if at < end else _BROKEN, objects, depth
        if mark != (CLOSE if in_object else CLOSE_LIST):
            return _BROKEN, objects, depth
        objects >>= np.uint64(1)
        depth -= 1
        at += 1
    return at, objects, depth


@compiled
def _value_end(at, end):
    """Behind the value at ``at``, and its kind."""
    first = load_u8(at)
    if first == OPEN:
        return _nested_end(at, end), OBJECT
    if first == OPEN_LIST:
        return _nested_end(at, end), LIST
    return _scalar_end(at, end)


@inlined
def _place_of(keys, count, start, size):
    """Which of the keys ``[start, start + size)`` is, -1 if none."""
    begin = np.int64(0)
    for place in range(count):
        stop = load_i64(keys + 8 + 8 * place)
        if stop - begin == size and same_bytes(load_i64(keys) + begin, start, size):
            return place
        begin = stop
    return -1


@inlined
def _put(found, cell, start, end, kind):
    store_i64(load_i64(found) + 8 * cell, start)
    store_i64(load_i64(found + 8) + 8 * cell, end)
    store_u8(load_i64(found + 16) + cell, np.uint8(kind))


@compiled
def _read_row(at, end, keys, count, found, row, rows):
    """Note where the keys' values stand in the object that fills ``[at, end)``; False if odd."""
    at = _skip_spaces(at, end)
    if at >= end or load_u8(at) != OPEN:
        return False
    at = _skip_spaces(at + 1, end)
    if at < end and load_u8(at) == CLOSE:
        return _skip_spaces(at + 1, end) == end
    while at < end and load_u8(at) == QUOTE:
        key = at + 1
        at, plain = _string_end(at, end)
        if at == _BROKEN or not plain:
            return False
        place = _place_of(keys, count, key, at - 1 - key)
        start = _value_behind_colon(at, end)
        if start == _BROKEN:
            return False
        at, kind = _value_end(start, end)
        if at == _BROKEN:
            return False
        if place >= 0:  # of a key that stands twice the last one counts
            _put(found, place * rows + row, start, at, kind)
        at = _skip_spaces(at, end)
        mark = load_u8(at) if at < end else np.uint8(0)
        if mark == CLOSE:
            return _skip_spaces(at + 1, end) == end
        if mark != COMMA:
            return False
        at = _skip_spaces(at + 1, end)
    return False


@compiled
def find(starts, ends, kinds, keys, found, odd):
    """Find the values of some keys in every row's object.

    Args:
        starts, ends, kinds: int64, int64, uint8, a row each: the addresses where its text begins
            and ends. What is not of the kind OBJECT has no keys.
        keys: int64: the address of the keys' bytes, one key behind the other, and where each ends.
        found: int64: the addresses of starts and ends (int64) and kinds (uint8) of values: for each
            key a cell a row. Kinds are all ABSENT before.
        odd: uint8, set for each row: whether a patient parser must look. Its cells of ``found``
            may have anything in them then.
    """
    names, cells, count = np.int64(keys.ctypes.data), np.int64(found.ctypes.data), keys.size - 1
    rows = odd.size
    for row in range(rows):
        odd[row] = kinds[row] == OBJECT and not _read_row(
            starts[row], ends[row], names, count, cells, row, rows
        )


@compiled
def classify(starts, ends, kinds):
    """Set the kinds of JSON values that are known to begin and end here; an empty one is ABSENT."""
    for row in range(kinds.size):
        at, end = starts[row], ends[row]
        kinds[row] = _value_end(at, end)[1] if at < end else ABSENT
