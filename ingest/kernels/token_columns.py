"""Columns from JSON tokens that stand anywhere in memory: texts, and exact numbers.

A token is the stretch of one value, of a kind that :mod:`ingest.kernels.json_paths` names. No byte
outside of a token is read.
"""

from __future__ import annotations

import numpy as np

from ingest.kernels.json_paths import ABSENT, ESCAPED, LITERAL, STRING
from ingest.kernels.json_values import CLOSE, COMMA, DOT, MINUS, OPEN, QUOTE, ZERO
from ingest.kernels.memory import (
    compiled,
    inlined,
    load_i64,
    load_u8,
    load_u32,
    load_u64,
    store_i64,
    store_u8,
    store_u32,
    store_u64,
)
from ingest.numbers import DECIMALS_MAX, INTEGER_DIGITS_MAX

MISSING, EXACT, UNSURE = range(3)
"""What a token is as a quantity: none, one, or a patient parser must look."""

OBJECT_BYTES, MEMBER_BYTES = 2, 3
"""What :func:`join_objects` writes beside names and tokens at most: for a row, for a member."""

MEMBER_CELLS = 5

_UNIT = np.uint64(10**DECIMALS_MAX)
_LOW = np.uint64(0xFFFFFFFF)


@inlined
def _copy(at, end, into):
    """Copy ``[at, end)`` and nothing else; where the copy ends."""
    size = end - at
    last = into + size
    if size >= 8:
        stop = end - 8
        while at < stop:
            store_u64(into, load_u64(at))
            at += 8
            into += 8
        store_u64(last - 8, load_u64(stop))
    elif size >= 4:
        head, tail = load_u32(at), load_u32(end - 4)
        store_u32(into, head)
        store_u32(last - 4, tail)
    else:
        while at < end:
            store_u8(into, load_u8(at))
            at += 1
            into += 1
    return last


@compiled
def join(starts, ends, kinds, bare, offsets, into):
    """Copy the tokens of a column behind each other; the absent ones are empty.

    Args:
        starts, ends, kinds: int64, int64, uint8, a row each.
        bare: whether strings without an escape lose their quotes.
        offsets: int64, ``rows + 1``, set to where each begins in ``into``.
        into: uint8, room for all tokens.
    """
    base = np.int64(into.ctypes.data)
    places = np.int64(offsets.ctypes.data)
    at = base
    store_i64(places, np.int64(0))
    for row in range(kinds.size):
        kind = kinds[row]
        if kind != ABSENT:
            trimmed = bare and kind == STRING
            at = _copy(starts[row] + trimmed, ends[row] - trimmed, at)
        store_i64(places + 8 * row + 8, at - base)


@inlined
def _put_byte(at, byte):
    store_u8(at, np.uint8(byte))
    return at + 1


@inlined
def _put_member(at, member, row, kind):
    """Write the name, and the token as a string; where they end."""
    name = load_i64(member)
    start = load_i64(load_i64(member + 16) + 8 * row)
    end = load_i64(load_i64(member + 24) + 8 * row)
    at = _copy(name, name + load_i64(member + 8), at)
    if kind == STRING:
        return _copy(start, end, at)
    return _put_byte(_copy(start, end, _put_byte(at, QUOTE)), QUOTE)


@compiled
def join_objects(members, offsets, into):
    """Write a JSON object a row: the tokens of several columns as strings, under their names.

    Args:
        members: int64, MEMBER_CELLS each: the address and the bytes of its name, as JSON and with a
            colon; the addresses of starts, ends and kinds. Absent ones are left out; what is
            written of kinds from LIST on is not right.
        offsets: int64, ``rows + 1``, set to where each begins in ``into``.
        into: uint8, room for all that is written.
    """
    first = np.int64(members.ctypes.data)
    stop = first + 8 * members.size
    base = np.int64(into.ctypes.data)
    places = np.int64(offsets.ctypes.data)
    at = base
    store_i64(places, np.int64(0))
    for row in range(offsets.size - 1):
        mark = OPEN
        for member in range(first, stop, 8 * MEMBER_CELLS):
            kind = load_u8(load_i64(member + 32) + row)
            if kind != ABSENT:
                at = _put_member(_put_byte(at, mark), member, row, kind)
                mark = COMMA
        if mark == OPEN:
            at = _put_byte(at, OPEN)
        at = _put_byte(at, CLOSE)
        store_i64(places + 8 * row + 8, at - base)


@compiled
def _digits(at, end, most):
    """Read up to ``most`` digits; where they end, and their value."""
    value = np.uint64(0)
    end = min(end, at + most)
    while at < end:
        digit = np.int64(load_u8(at)) - ZERO
        if digit < 0 or digit > 9:
            break
        value = value * np.uint64(10) + np.uint64(digit)
        at += 1
    return at, value


@compiled
def _plain_number(at, end):
    """The parts of the plain number that fills ``[at, end)``: whether it is one, whole, billionths.

    Plain: in range, fine enough, no exponent, no needless zero in front.
    """
    stop, whole = _digits(at, end, INTEGER_DIGITS_MAX)
    nothing = np.uint64(0)
    if stop == at or (stop - at > 1 and load_u8(at) == ZERO):
        return False, whole, nothing
    if stop == end:
        return True, whole, nothing
    if load_u8(stop) != DOT:
        return False, whole, nothing
    at = stop + 1
    stop, part = _digits(at, end, DECIMALS_MAX)
    for _ in range(DECIMALS_MAX - (stop - at)):
        part *= np.uint64(10)
    return stop == end and stop > at, whole, part


@inlined
def _put_limbs(cell, negative, whole, part):
    """Store ±(whole x 10^9 + part) as a 128-bit integer, low limb first."""
    low = (whole & _LOW) * _UNIT + part
    high = (whole >> np.uint64(32)) * _UNIT
    shifted = high << np.uint64(32)
    total = low + shifted
    high = (high >> np.uint64(32)) + np.uint64(total < low)
    if negative:
        total = ~total + np.uint64(1)
        high = ~high + np.uint64(total == 0)
    store_u64(cell, total)
    store_u64(cell + 8, high)


@compiled
def quantities(starts, ends, kinds, limbs, states):
    """Read the plain numbers of a column, quoted ones too, exactly.

    Args:
        starts, ends, kinds: int64, int64, uint8, a row each.
        limbs: uint64, two a row, low first: set to the billionths where it is EXACT, else to 0.
        states: uint8, set to MISSING, EXACT or UNSURE.
    """
    cells = np.int64(limbs.ctypes.data)
    for row in range(kinds.size):
        kind = kinds[row]
        state = MISSING
        negative, whole, part = False, np.uint64(0), np.uint64(0)
        if kind == ESCAPED:
            state = UNSURE
        elif kind < LITERAL and kind != ABSENT:
            quotes = kind == STRING
            at, end = starts[row] + quotes, ends[row] - quotes
            negative = at < end and load_u8(at) == MINUS
            plain, whole, part = _plain_number(at + negative, end)
            state = EXACT if plain else UNSURE
        if state != EXACT:
            negative, whole, part = False, np.uint64(0), np.uint64(0)
        _put_limbs(cells + 16 * row, negative, whole, part)
        states[row] = state
