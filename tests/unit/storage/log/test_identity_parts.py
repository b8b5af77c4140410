"""The pieces of the identity index under keys that a hash would give once in an age."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from ingest.identity import identify
from storage.log.identity.keys import Entries, Found, Keys
from storage.log.identity.run import Run, RunDamaged, RunRange, merged, write_run
from storage.log.identity.runs import RunSet, covering
from storage.log.identity.table import RecentTable
from storage.memory.files import SimFiles

HOME = Path("/index")


def keys(*pairs: tuple[int, int]) -> Keys:
    """Keys from their halves."""
    array = np.array(pairs, np.uint64).reshape(-1, 2)
    return Keys(array[:, 0].copy(), array[:, 1].copy())


def entries(found: Keys, *, first_seq: int = 1) -> Entries:
    """Entries numbered from ``first_seq``, with a content that follows from the key."""
    seq = np.arange(first_seq, first_seq + len(found.low))
    return Entries(found, found.low ^ found.high, seq)


def run_of(files: SimFiles, given: Entries) -> Run:
    """A run of these entries."""
    order = np.lexsort((given.keys.high, given.keys.low))
    covers = RunRange(
        first_seq=int(given.seq.min()),
        last_seq=int(given.seq.max()),
        first_received_at=int(given.seq.min()),
        last_received_at=int(given.seq.max()),
    )
    write_run(HOME, covers, [given.take(order)], count=len(given.seq), files=files)
    return Run(HOME, covers, files=files, check=True)


def looked_up(table: RecentTable | RunSet, wanted: Keys) -> list[int]:
    """The seqs found for ``wanted``."""
    found = Found.nothing(len(wanted.low))
    table.probe(wanted, found)
    assert (found.content[found.seq > 0] == (wanted.low ^ wanted.high)[found.seq > 0]).all()
    return found.seq.tolist()


TWINS = keys(*((7, high) for high in range(40)), (2**64 - 1, 5), (2**64 - 1, 6), (1, 5))
STRANGERS = keys((7, 40), (8, 3), (2**64 - 1, 7), (1, 6), (3, 5))


def test_a_table_tells_keys_apart_by_both_halves() -> None:
    """Equal low halves, and one bucket for everybody, so that it runs over several times."""
    crowd = keys(*((low, 2**60) for low in range(1, 41)))
    for given in (TWINS, crowd):
        table = RecentTable(64)
        table.insert(entries(given), received=(0, 0))
        assert looked_up(table, given) == list(range(1, len(given.low) + 1))
        assert looked_up(table, STRANGERS) == [0] * 5


@pytest.mark.parametrize("capacity", [64, 1 << 15])
def test_a_table_hands_out_all_of_it_in_order(capacity: int) -> None:
    """Uniform keys that fill it, keys of one place, and keys that run over its end; in slices."""
    random = np.random.default_rng(capacity)
    uniform = keys(*zip(*random.integers(1, 2**63, (2, capacity)).tolist(), strict=True))
    for given in (
        Keys(uniform.low * np.uint64(2), uniform.high),
        keys(*((low, 2**60) for low in range(40, 0, -1))),
        keys(*((2**64 - low, low) for low in range(1, 41)), (1, 1), (2**62, 2)),
    ):
        table = RecentTable(capacity)
        table.insert(entries(given), received=(0, 0))
        parts = list(table.sorted())
        low = np.concatenate([part.keys.low for part in parts])
        seq = np.concatenate([part.seq for part in parts])
        assert low.tolist() == sorted(given.low.tolist())
        assert sorted(seq.tolist()) == list(range(1, len(given.low) + 1))
        rows = seq - 1
        for part, wanted in zip(zip(*(p.keys for p in parts), strict=True), given, strict=True):
            assert (np.concatenate(part) == wanted[rows]).all()
        contents = np.concatenate([part.content for part in parts])
        assert (contents == (given.low ^ given.high)[rows]).all()


@pytest.mark.parametrize("rows", [3, 43])
def test_a_run_tells_keys_apart_by_both_halves(rows: int) -> None:
    """By the search for a few keys and by the one for many."""
    runs = RunSet((run_of(SimFiles(), entries(TWINS)),))
    for start in range(0, 43, rows):
        part = Keys(TWINS.low[start : start + rows], TWINS.high[start : start + rows])
        assert looked_up(runs, part) == list(range(start + 1, min(start + rows, 43) + 1))
    assert looked_up(runs, STRANGERS) == [0] * 5
    assert looked_up(runs, keys(*[(3, 5)] * 20, *[(7, 41)] * 20)) == [0] * 40


def test_runs_and_their_merger_answer_alike() -> None:
    """Uniform keys and twins over four runs; in more than one part of the value range."""
    random = np.random.default_rng(3)
    files, runs = SimFiles(), []
    for number in range(4):
        low, high = random.integers(1, 2**63, (2, 5_000)).astype(np.uint64) * np.uint64(2)
        given = Keys(low, high)
        if number == 2:
            given = Keys(np.concatenate([low, TWINS.low]), np.concatenate([high, TWINS.high]))
        runs.append(run_of(files, entries(given, first_seq=1 + 10_000 * number)))
    count = sum(run.count for run in runs)
    covers = covering(tuple(runs))
    write_run(HOME, covers, merged(tuple(runs), rows=1_500), count=count, files=files)
    one = RunSet((Run(HOME, covers, files=files, check=True),))
    many = RunSet(tuple(runs))
    for run in runs:
        wanted = run.entries(0, run.count)
        assert looked_up(many, wanted.keys) == looked_up(one, wanted.keys) == wanted.seq.tolist()
    strangers = keys(*random.integers(1, 2**63, (5_000, 2)).tolist())
    assert not any(looked_up(one, strangers) + looked_up(many, strangers))


def test_only_runs_behind_a_record_are_merged() -> None:
    """While the older ones are being merged, the newer ones may be."""
    files = SimFiles()
    runs = RunSet(
        tuple(run_of(files, entries(TWINS, first_seq=1 + 50 * number)) for number in range(9))
    )
    first = runs.to_merge(smallest=43, span_us_max=10_000)
    assert first == runs.runs[:4]
    later = runs.to_merge(smallest=43, span_us_max=10_000, after=first[-1].covers.last_seq)
    assert later == runs.runs[4:8]
    assert not runs.to_merge(smallest=43, span_us_max=10_000, after=later[-1].covers.last_seq)


def test_every_flipped_byte_of_a_run_is_detected() -> None:
    """But for padding, which says nothing."""
    files = SimFiles()
    run = run_of(files, entries(keys(*((i * 2**59, i) for i in range(1, 21)))))
    path = HOME / run.covers.name
    content = files.read(path)
    unnoticed = []
    for at in range(len(content)):
        damaged = bytearray(content)
        damaged[at] ^= 0x20
        files.overwrite(path, bytes(damaged))
        try:
            Run(HOME, run.covers, files=files, check=True)
        except RunDamaged:
            continue
        unnoticed.append(at)
    assert len(unnoticed) < 16
    assert not any(content[at] for at in unnoticed)
    files.overwrite(path, content[:-40])
    with pytest.raises(RunDamaged):
        Run(HOME, run.covers, files=files, check=True)


def hashed(source: list[str], id_: list[str], *, key: tuple[int, int] = (1, 2)) -> Keys:
    """The keys of identities."""
    return Keys(*identify(pa.array(source), pa.array(id_), key=np.array(key, np.uint64)))


def test_keys_depend_on_each_part_and_on_the_secret() -> None:
    """No two of these look alike, in either half."""
    rows = (["ab", "a", "", "abc", "c", "é"], ["c", "bc", "abc", "", "ab", "\0"])
    made = [hashed(*rows, key=key) for key in ((1, 2), (5, 2), (1, 3))]
    for half in ("low", "high"):
        assert len({value for keys_ in made for value in getattr(keys_, half).tolist()}) == 18


def test_keys_do_not_depend_on_the_batch() -> None:
    """A row's key is the same alone, among many, and in a slice."""
    sources, ids = ["s"] * 3_000, [str(i) * (i % 9) for i in range(3_000)]
    among = hashed(sources, ids)
    alone = hashed(sources[2_900:2_901], ids[2_900:2_901])
    assert (alone.low[0], alone.high[0]) == (among.low[2_900], among.high[2_900])
    table = [pa.array(sources).slice(2_900, 1), pa.array(ids).slice(2_900, 1)]
    sliced = identify(*table, key=np.array([1, 2], np.uint64))
    assert (sliced[0][0], sliced[1][0]) == (among.low[2_900], among.high[2_900])


def test_the_hash_is_siphash() -> None:
    """SipHash-1-3-128 in plain Python, over the words that two strings make."""
    random = np.random.default_rng(5)
    for size in range(40):
        text = random.integers(97, 122, 2 * size, np.uint8).tobytes().decode()
        found = hashed([text[:size]], [text[size:]], key=(size, 2**64 - 1 - size))
        expected = siphash([text[:size].encode(), text[size:].encode()], size, 2**64 - 1 - size)
        assert (int(found.low[0]), int(found.high[0])) == expected


def siphash(strings: list[bytes], low: int, high: int) -> tuple[int, int]:
    """By the paper: one round a word, three to finish, each string padded with its length."""
    full = 2**64 - 1
    v = [low ^ 0x736F6D6570736575, high ^ 0x646F72616E646F6D ^ 0xEE]
    v += [low ^ 0x6C7967656E657261, high ^ 0x7465646279746573]

    def turned(word: int, bits: int) -> int:
        return (word << bits | word >> (64 - bits)) & full

    def turn() -> None:
        v[0], v[2] = (v[0] + v[1]) & full, (v[2] + v[3]) & full
        v[1], v[3] = turned(v[1], 13) ^ v[0], turned(v[3], 16) ^ v[2]
        v[0] = turned(v[0], 32)
        v[2], v[0] = (v[2] + v[1]) & full, (v[0] + v[3]) & full
        v[1], v[3] = turned(v[1], 17) ^ v[2], turned(v[3], 21) ^ v[0]
        v[2] = turned(v[2], 32)

    for string in strings:
        padded = string.ljust(len(string) // 8 * 8 + 7, b"\0") + bytes([len(string) % 256])
        for at in range(0, len(padded), 8):
            word = int.from_bytes(padded[at : at + 8], "little")
            v[3] ^= word
            turn()
            v[0] ^= word
    halves = []
    for place, mark in ((2, 0xEE), (1, 0xDD)):
        v[place] ^= mark
        for _ in range(3):
            turn()
        halves.append(v[0] ^ v[1] ^ v[2] ^ v[3])
    return halves[0], halves[1]
