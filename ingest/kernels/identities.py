"""Tables of 128-bit keys: open addressing, a power of two of slots, a low half of 0 is empty."""

from __future__ import annotations

import numpy as np

from ingest.kernels.memory import compiled, inlined, load_u64


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


@inlined
def place(low, slots):
    """Which of ``slots`` equal parts of the value range a low half lies in; monotonic."""
    return np.int64(((low >> np.uint64(32)) * np.uint64(slots)) >> np.uint64(32))


@compiled
def find(low, high, seq, content, table):
    """Fill ``seq`` and ``content`` of the rows that have no seq yet and whose key is in ``table``.

    ``table`` is uint64, a power of two of slots: low and high half, content and seq of each.
    """
    mask = table.shape[0] - 1
    for row in range(low.size):
        if seq[row] != 0:
            continue
        at = place(low[row], table.shape[0])
        while table[at, 0] != 0:
            if table[at, 0] == low[row] and table[at, 1] == high[row]:
                content[row] = table[at, 2]
                seq[row] = np.int64(table[at, 3])
                break
            at = (at + 1) & mask


@compiled
def add(low, high, seq, content, table):
    """Add rows, all of new and different keys, to ``table``, which has room for them."""
    mask = table.shape[0] - 1
    for row in range(low.size):
        at = place(low[row], table.shape[0])
        while table[at, 0] != 0:
            at = (at + 1) & mask
        table[at, 0] = low[row]
        table[at, 1] = high[row]
        table[at, 2] = content[row]
        table[at, 3] = np.uint64(seq[row])


@compiled
def sorted_part(table, start, stop, part):
    """Copy the entries whose place is in ``[start, stop)`` to ``part``, by low half; how many.

    A table is almost sorted: what has moved on from its place lies before the next empty slot.
    """
    slots = table.shape[0]
    count = passed = 0
    while passed < slots:
        at = (start + passed) & (slots - 1)
        low = table[at, 0]
        passed += 1
        if low == 0:
            if passed > stop - start:
                break
            continue
        home = place(low, slots)
        if home < start or home >= stop:
            continue
        into = count
        while into > 0 and part[into - 1, 0] > low:
            part[into] = part[into - 1]
            into -= 1
        part[into] = table[at]
        count += 1
    return count


@compiled
def bloom_hits(low, high, seq, filters, words, pairs, hit_rows, hit_runs):
    """Which runs may have the keys of rows that have no seq yet; how many hits were noted.

    Args:
        filters, words: int64 and uint64, a run each: the address of its Bloom words, how many.
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
            word = load_u64(filters[run] + 8 * np.int64((upper * words[run]) >> np.uint64(32)))
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
