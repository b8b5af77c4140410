"""Tables of 128-bit keys: open addressing, a power of two of slots, a low half of 0 is empty."""

from __future__ import annotations

import numpy as np

from ingest.kernels.memory import compiled


@compiled
def first_rows(low, high, slots, first):
    """Set ``first`` to the first row that has the key of each row; how many rows are not their own.

    ``slots`` is an int32 scratch of a power of two of -1, at least twice as long as the keys.
    """
    mask = np.uint64(slots.size - 1)
    copies = 0
    for row in range(low.size):
        at = np.int64(high[row] & mask)
        while True:
            other = slots[at]
            if other < 0:
                slots[at] = row
                first[row] = row
                break
            if low[other] == low[row] and high[other] == high[row]:
                first[row] = other
                copies += 1
                break
            at = (at + 1) & np.int64(mask)
    return copies


@compiled
def find(low, high, seq, content, table):
    """Fill ``seq`` and ``content`` of the rows that have no seq yet and whose key is in ``table``.

    ``table`` is its columns: low and high halves, content (uint64) and seq (int64).
    """
    table_low, table_high, table_content, table_seq = table
    mask = np.uint64(table_low.size - 1)
    for row in range(low.size):
        if seq[row] != 0:
            continue
        at = np.int64(high[row] & mask)
        while table_low[at] != 0:
            if table_low[at] == low[row] and table_high[at] == high[row]:
                seq[row] = table_seq[at]
                content[row] = table_content[at]
                break
            at = (at + 1) & np.int64(mask)


@compiled
def add(low, high, seq, content, table):
    """Add rows, all of new and different keys, to ``table``, which has room for them."""
    table_low, table_high, table_content, table_seq = table
    mask = np.uint64(table_low.size - 1)
    for row in range(low.size):
        at = np.int64(high[row] & mask)
        while table_low[at] != 0:
            at = (at + 1) & np.int64(mask)
        table_low[at] = low[row]
        table_high[at] = high[row]
        table_content[at] = content[row]
        table_seq[at] = seq[row]


@compiled
def bloom_hits(low, high, seq, filters, words, starts, pairs, hit_rows, hit_runs):
    """Which runs may have the keys of rows that have no seq yet; how many hits were noted.

    Args:
        filters: uint64, the Bloom words of all runs, one run behind the other.
        words, starts: uint64 and int64, a run each: how many words it has, and where they begin.
        pairs: uint64, 4,096: what 12 bits of a key stand for in its word.
        hit_rows, hit_runs: int64, room for rows x runs.
    """
    hits = 0
    for row in range(low.size):
        if seq[row] != 0:
            continue
        bits = (
            pairs[high[row] & np.uint64(4095)]
            | pairs[(high[row] >> np.uint64(12)) & np.uint64(4095)]
        )
        upper = low[row] >> np.uint64(32)
        for run in range(words.size):
            word = filters[starts[run] + np.int64((upper * words[run]) >> np.uint64(32))]
            hit_rows[hits] = row
            hit_runs[hits] = run
            hits += word & bits == bits  # no branch: the words of many rows are fetched at once
    return hits


@compiled
def find_sorted(low, high, rows, seq, content, run, first_seq):
    """Fill ``seq`` and ``content`` of ``rows`` whose keys are in a run, sorted by its low halves.

    ``run`` is its columns: low, high, content (uint64), seq less ``first_seq`` (uint32), and fence
    (int64): where each equal part of the value range begins.
    """
    run_low, run_high, run_content, run_seq, fence = run
    parts = np.uint64(fence.size - 1)
    for i in range(rows.size):
        row = rows[i]
        part = np.int64(((low[row] >> np.uint64(32)) * parts) >> np.uint64(32))
        at, end = fence[part], fence[part + 1]
        while at < end:
            middle = (at + end) >> 1
            if run_low[middle] < low[row]:
                at = middle + 1
            else:
                end = middle
        while at < run_low.size and run_low[at] == low[row]:
            if run_high[at] == high[row]:
                seq[row] = np.int64(run_seq[at]) + first_seq
                content[row] = run_content[at]
                break
            at += 1  # the same low half under another high one
