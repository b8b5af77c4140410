"""Columns of strings: gathered from a text, and hashed. A column is its bytes and int32 offsets."""

from __future__ import annotations

import numpy as np

from ingest.kernels.memory import (
    compiled,
    inlined,
    load_i32,
    load_i64,
    load_u8,
    load_u32,
    load_u64,
    store_u64,
)

OVERRUN_BYTES = 8
"""How far past their ends :func:`gather` may read its text and write its column."""

_EMPTY_OBJECT = 0x7D7B  # {}


@compiled
def measure(spans, column, rows, empty_bytes, offsets):
    """Set the ``rows + 1`` offsets of a column that is gathered from ``spans``; its bytes.

    An empty span stands for a default of ``empty_bytes`` bytes.
    """
    total = np.int64(0)
    offsets[0] = 0
    for row in range(rows):
        size = np.int64(spans[row, 2 * column + 1]) - np.int64(spans[row, 2 * column])
        total += size or empty_bytes
        offsets[row + 1] = total
    return total


@compiled
def gather(text, spans, column, rows, offsets, into):
    """Copy the texts of one column of ``spans`` behind each other; an empty one becomes ``{}``.

    ``text`` and ``into`` have OVERRUN_BYTES of room behind what is used of them.
    """
    source, target = np.int64(text.ctypes.data), np.int64(into.ctypes.data)
    for row in range(rows):
        start = source + np.int64(spans[row, 2 * column])
        end = source + np.int64(spans[row, 2 * column + 1])
        at = target + np.int64(offsets[row])
        if start == end and offsets[row + 1] > offsets[row]:
            store_u64(at, np.uint64(_EMPTY_OBJECT))
        while start < end:
            store_u64(at, load_u64(start))
            start += 8
            at += 8


@inlined
def _turn(word, bits):
    return (word << np.uint64(bits)) | (word >> np.uint64(64 - bits))


@inlined
def _round(v0, v1, v2, v3):
    v0 += v1
    v2 += v3
    v1 = _turn(v1, 13) ^ v0
    v3 = _turn(v3, 16) ^ v2
    v0 = _turn(v0, 32)
    v2 += v1
    v0 += v3
    v1 = _turn(v1, 17) ^ v2
    v3 = _turn(v3, 21) ^ v0
    v2 = _turn(v2, 32)
    return v0, v1, v2, v3


@inlined
def _take(v0, v1, v2, v3, word):
    v3 ^= word
    v0, v1, v2, v3 = _round(v0, v1, v2, v3)
    return v0 ^ word, v1, v2, v3


@compiled
def _take_string(v0, v1, v2, v3, at, end):
    """Take a string and its length, so that no two sequences of strings are taken alike."""
    size = np.uint64(end - at)
    while end - at >= 8:
        v0, v1, v2, v3 = _take(v0, v1, v2, v3, load_u64(at))
        at += 8
    word = size << np.uint64(56)
    shift = np.uint64(0)
    if end - at >= 4:
        word |= np.uint64(load_u32(at))
        shift = np.uint64(32)
        at += 4
    while at < end:
        word |= np.uint64(load_u8(at)) << shift
        shift += np.uint64(8)
        at += 1
    return _take(v0, v1, v2, v3, word)


@inlined
def _begin(key):
    low, high = np.uint64(load_u64(key)), np.uint64(load_u64(key + 8))
    return (
        low ^ np.uint64(0x736F6D6570736575),
        high ^ np.uint64(0x646F72616E646F6D) ^ np.uint64(0xEE),
        low ^ np.uint64(0x6C7967656E657261),
        high ^ np.uint64(0x7465646279746573),
    )


@inlined
def _column_string(columns, place, row):
    """Beginning and end of a row of the column at ``place`` of the table of addresses."""
    texts, offsets = load_i64(columns + 16 * place), load_i64(columns + 16 * place + 8)
    return texts + load_i32(offsets + 4 * row), texts + load_i32(offsets + 4 * row + 4)


@compiled
def hash_pairs(columns, key, low, high):
    """Hash two columns of strings, row by row, to 128 bits (SipHash-1-3 with a secret key).

    Args:
        columns: int64: of each column the address of its bytes and of its int32 offsets.
        key: uint64, two secret words.
        low, high: uint64, a row each, to be filled.
    """
    table, secret = np.int64(columns.ctypes.data), np.int64(key.ctypes.data)
    for row in range(low.size):
        v0, v1, v2, v3 = _begin(secret)
        for place in range(2):
            at, end = _column_string(table, place, row)
            v0, v1, v2, v3 = _take_string(v0, v1, v2, v3, at, end)
        v2 ^= np.uint64(0xEE)
        for _ in range(3):
            v0, v1, v2, v3 = _round(v0, v1, v2, v3)
        low[row] = v0 ^ v1 ^ v2 ^ v3
        v1 ^= np.uint64(0xDD)
        for _ in range(3):
            v0, v1, v2, v3 = _round(v0, v1, v2, v3)
        high[row] = v0 ^ v1 ^ v2 ^ v3


@compiled
def hash_rows(columns, numbers, key, out):
    """Hash columns of strings and one of int64, row by row, to 64 bits; arguments as above."""
    table, secret = np.int64(columns.ctypes.data), np.int64(key.ctypes.data)
    count = columns.size // 2
    for row in range(out.size):
        v0, v1, v2, v3 = _begin(secret)
        for place in range(count):
            at, end = _column_string(table, place, row)
            v0, v1, v2, v3 = _take_string(v0, v1, v2, v3, at, end)
        v0, v1, v2, v3 = _take(v0, v1, v2, v3, np.uint64(numbers[row]))
        v2 ^= np.uint64(0xFF)
        for _ in range(3):
            v0, v1, v2, v3 = _round(v0, v1, v2, v3)
        out[row] = v0 ^ v1 ^ v2 ^ v3
