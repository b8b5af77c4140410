"""Strict JSON, token by token, in a text whose every quote is structure.

The text has no backslash, so quotes come in pairs: the places of all of them, found beforehand,
say where strings end. Whatever is not plain (an escape, an exponent, a key of no length, deep
nesting) is *odd*: ``0`` is answered, and a patient parser must look. What is answered otherwise is
strict JSON in which no object has a key twice.

``at`` is an address in the text; ``work`` the address of int64 cells, named below. Text and quotes
end with padding, so that a broken text is run into it and not past it.
"""

from __future__ import annotations

import numpy as np

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

QUOTE, COMMA, MINUS, DOT, ZERO, COLON = 34, 44, 45, 46, 48, 58
OPEN_LIST, CLOSE_LIST, OPEN, CLOSE = 91, 93, 123, 125
SMALL_F, SMALL_N, SMALL_T = 102, 110, 116
ODD = np.int64(0)

DEPTH_MAX = 24
KEYS_MAX = 96
KEY_BYTES_MAX = 255
DIGITS_MAX = 38
PLAIN_DIGITS_MAX = 15
PLAIN_DECIMALS_MAX = 9

# Cells of ``work``: the text, its quotes (u32, counted from the text's beginning) and which comes
# next; the keys met in open objects (place and mark, u32 each), and how many; what is open.
TEXT, QUOTES, NEXT_QUOTE, KEYS, KEY_COUNT, KINDS, BASES = range(0, 56, 8)
CELLS = 24


@inlined
def skip_spaces(at):
    """The first byte from ``at`` on that is no space."""
    while load_u8(at) == 32:
        at += 1
    return at


@inlined
def quoted_end(work, at):
    """Where the string that begins with the quote at ``at`` has its closing one; odd if none."""
    quote = load_i64(work + QUOTES) + 4 * load_i64(work + NEXT_QUOTE)
    text = load_i64(work + TEXT)
    if text + np.int64(load_u32(quote)) != at:
        return ODD
    store_i64(work + NEXT_QUOTE, load_i64(work + NEXT_QUOTE) + 2)
    return text + np.int64(load_u32(quote + 4))


@compiled
def number_end(at):
    """Behind the number at ``at``; and whether it is plain: few digits, and exact in any reader."""
    if load_u8(at) == MINUS:
        at += 1
    start = at
    first = load_u8(at) - ZERO
    if first < 0 or first > 9:
        return ODD, False
    at += 1
    if first:
        while 0 <= load_u8(at) - ZERO <= 9:
            at += 1
    digits = at - start
    decimals = np.int64(0)
    if load_u8(at) == DOT:
        start = at + 1
        at = start
        while 0 <= load_u8(at) - ZERO <= 9:
            at += 1
        decimals = at - start
        if decimals == 0:
            return ODD, False
    after = load_u8(at)
    exponent = after == 69 or after == 101 or 0 <= after - ZERO <= 9
    if exponent or digits > DIGITS_MAX or decimals > DIGITS_MAX:
        return ODD, False
    return at, digits + decimals <= PLAIN_DIGITS_MAX and decimals <= PLAIN_DECIMALS_MAX


@compiled
def literal_end(at):
    """Behind ``true``, ``false`` or ``null``."""
    first, rest = load_u8(at), load_u32(at)
    if first == SMALL_T and rest == 0x65757274:
        return at + 4
    if first == SMALL_N and rest == 0x6C6C756E:
        return at + 4
    if first == SMALL_F and load_u32(at + 1) == 0x65736C61:
        return at + 5
    return ODD


@compiled
def same_bytes(one, other, size):
    """Whether two stretches are equal."""
    for i in range(size):
        if load_u8(one + i) != load_u8(other + i):
            return False
    return True


@compiled
def is_new_key(work, start, size, base):
    """Note a key of the object whose keys begin at ``base``; False if it has it already."""
    keys, count = load_i64(work + KEYS), load_i64(work + KEY_COUNT)
    text = load_i64(work + TEXT)
    ends = np.uint32(load_u8(start)) << np.uint32(8) | np.uint32(load_u8(start + size - 1))
    mark = np.uint32(size) << np.uint32(16) | ends
    for k in range(base, count):
        if load_u32(keys + 8 * k + 4) == mark:
            other = text + np.int64(load_u32(keys + 8 * k))
            if same_bytes(other, start, size):
                return False
    store_u32(keys + 8 * count, np.uint32(start - text))
    store_u32(keys + 8 * count + 4, mark)
    store_i64(work + KEY_COUNT, count + 1)
    return True


@inlined
def member(work, at, base):
    """The key at ``at``: its beginning, its length, and where its value begins (odd: 0)."""
    end = quoted_end(work, at)
    size = end - at - 1
    if end == ODD or size <= 0 or size > KEY_BYTES_MAX or load_i64(work + KEY_COUNT) >= KEYS_MAX:
        return at, size, ODD
    if not is_new_key(work, at + 1, size, base):
        return at, size, ODD
    colon = skip_spaces(end + 1)
    if load_u8(colon) != COLON:
        return at, size, ODD
    return at + 1, size, skip_spaces(colon + 1)


@compiled
def scalar_end(work, at):
    """Behind the string, number or literal at ``at``."""
    first = load_u8(at)
    if first == QUOTE:
        end = quoted_end(work, at)
        return end + 1 if end != ODD else ODD
    if first == MINUS or ZERO <= first <= ZERO + 9:
        end, _ = number_end(at)
        return end
    return literal_end(at)


@compiled
def opened(work, at, depth):
    """Behind the bracket at ``at``, which is noted at ``depth``; for an object, at its first value.

    The second answer is true where it is empty: then the place is the one of its closing bracket.
    """
    kind = load_u8(at)
    store_u8(load_i64(work + KINDS) + depth, kind)
    base = load_i64(work + KEY_COUNT)
    store_i64(load_i64(work + BASES) + 8 * depth, base)
    at = skip_spaces(at + 1)
    if kind == OPEN_LIST:
        return at, load_u8(at) == CLOSE_LIST
    if load_u8(at) == CLOSE:
        return at, True
    _, _, value = member(work, at, base)
    return value, False


@compiled
def next_value(work, at, depth):
    """Behind the comma at ``at``: where the next value of what is open at ``depth`` begins."""
    at = skip_spaces(at + 1)
    if load_u8(load_i64(work + KINDS) + depth) == OPEN_LIST:
        return at
    _, _, value = member(work, at, load_i64(load_i64(work + BASES) + 8 * depth))
    return value


@compiled
def value_end(work, at):
    """Behind any value; keys of its objects are forgotten again."""
    depth = np.int64(0)
    while at != ODD:
        first = load_u8(at)
        closing = False
        if first == OPEN or first == OPEN_LIST:
            if depth == DEPTH_MAX:
                return ODD
            at, closing = opened(work, at, depth)
            depth += 1
            if not closing:
                continue
        else:
            at = scalar_end(work, at)
        while at != ODD:
            if depth == 0:
                return at
            at = skip_spaces(at)
            mark = load_u8(at)
            kind = load_u8(load_i64(work + KINDS) + depth - 1)
            if mark == COMMA:
                at = next_value(work, at, depth - 1)
                break
            if mark != kind + 2:  # brackets close two places behind where they open
                return ODD
            depth -= 1
            store_i64(work + KEY_COUNT, load_i64(load_i64(work + BASES) + 8 * depth))
            at += 1
    return ODD
