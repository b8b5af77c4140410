"""Columns of JSON tokens: the text that stands at a path, row by row, as it was sent.

Every number keeps all its digits because none ever goes through a float: a kernel finds where the
value at a path begins and ends (:class:`Tokens`), and what is derived from it is copied or computed
from those bytes. Escapes, exponents and nested values are spelled by the patient functions of
:mod:`ingest.jsontext` and :mod:`ingest.numbers`, and cost only the rows that have them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from ctypes import string_at
from dataclasses import dataclass
from functools import cache
from itertools import accumulate

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

from catalog.events import QUANTITY
from ingest.fields import ABSENT as NO_MEMBER
from ingest.fields import fields_of, keys_of
from ingest.jsontext import canonical_json, dump, text_of
from ingest.kernels import json_paths, token_columns
from ingest.kernels.json_paths import ABSENT, FRACTION, LIST, OBJECT, STRING
from ingest.kernels.token_columns import EXACT, MEMBER_BYTES, OBJECT_BYTES, UNSURE
from ingest.numbers import read_quantity

I64 = npt.NDArray[np.int64]
U8 = npt.NDArray[np.uint8]
Rows = npt.NDArray[np.intp]

Keys = tuple[str, ...]
"""A path, taken apart: the keys to follow from the root of an event's data."""

_DECIMAL = pa.decimal128(QUANTITY.precision, QUANTITY.scale)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tokens:
    """The tokens at one path, a row each: the addresses where they begin and end, and their kinds.

    Kinds are those of :mod:`ingest.kernels.json_paths`. ``memory`` keeps the addresses valid.
    """

    starts: I64
    ends: I64
    kinds: U8
    memory: Sequence[object]

    def __len__(self) -> int:
        return len(self.kinds)

    @property
    def cells(self) -> tuple[I64, I64, U8]:
        """Beginnings, ends and kinds, as kernels take them."""
        return self.starts, self.ends, self.kinds

    def texts(self, rows: Rows) -> list[str]:
        """The tokens of some rows, as they were sent; empty where there is none."""
        edges = zip(self.starts[rows].tolist(), self.ends[rows].tolist(), strict=True)
        return [string_at(start, end - start).decode() for start, end in edges]


Form = Callable[[Tokens], pl.Series]
"""One way to make a column of tokens; null where there is none."""


def as_sent(tokens: Tokens) -> pl.Series:
    """The tokens themselves: a string with its quotes."""
    return _joined(tokens, bare=False)


def text(tokens: Tokens) -> pl.Series:
    """What dimensions and filters compare. Strings bare, the rest as JSON text."""
    return _spelled(_joined(tokens, bare=True), tokens, tokens.kinds >= LIST, cache(text_of))


def canonical(tokens: Tokens) -> pl.Series:
    """Equal JSON values have equal text, and different ones have not."""
    odd = (tokens.kinds == FRACTION) | (tokens.kinds >= LIST)
    return _spelled(_joined(tokens, bare=False), tokens, odd, canonical_json)


def number(tokens: Tokens) -> pl.Series:
    """The exact value of :func:`text`, null where it is not a number that QUANTITY holds."""
    limbs, states = _room(16 * len(tokens)), np.empty(len(tokens), np.uint8)
    token_columns.quantities(*tokens.cells, np.frombuffer(limbs, np.uint64), states)
    buffers = [_validity(states == EXACT), limbs]
    usual = _series(pa.Array.from_buffers(_DECIMAL, len(tokens), buffers))
    return _spelled(usual, tokens, states == UNSURE, lambda token: read_quantity(text_of(token)))


def objects(members: Mapping[str, Tokens]) -> pl.Series:
    """A JSON object a row, in its one shortest spelling: under each name the :func:`text`.

    Members are sorted by name; those that are absent are left out. There is at least one name.
    """
    names = {name: f"{dump(name)}:".encode() for name in sorted(members)}
    words = [np.frombuffer(name, np.uint8) for name in names.values()]
    columns = [_as_strings(members[name]) for name in names]
    rows = len(columns[0])
    room = OBJECT_BYTES * rows + sum(
        int((column.ends - column.starts).sum()) + (len(word) + MEMBER_BYTES) * rows
        for word, column in zip(words, columns, strict=True)
    )
    table = [
        (word.ctypes.data, len(word), *(each.ctypes.data for each in column.cells))
        for word, column in zip(words, columns, strict=True)
    ]
    offsets, into = _room(8 * (rows + 1)), _room(room)
    cells = np.frombuffer(offsets, np.int64), np.frombuffer(into, np.uint8)
    token_columns.join_objects(np.array(table, np.int64), *cells)
    return _series(pa.Array.from_buffers(pa.large_string(), rows, [None, offsets, into]))


def _as_strings(tokens: Tokens) -> Tokens:
    """The tokens with the odd ones spelled as plain strings."""
    rows = np.flatnonzero(tokens.kinds >= LIST)
    if not len(rows):
        return tokens
    spell = cache(lambda token: dump(text_of(token)).encode())  # most often they are few names
    texts = [spell(token) for token in tokens.texts(rows)]
    starts, ends, kinds = tokens.starts.copy(), tokens.ends.copy(), tokens.kinds.copy()
    starts[rows], ends[rows], copy = _placed(texts)
    kinds[rows] = STRING
    return Tokens(starts=starts, ends=ends, kinds=kinds, memory=[*tokens.memory, copy])


def _placed(texts: Sequence[bytes]) -> tuple[I64, I64, object]:
    """Where the texts begin and end in a copy, and the copy."""
    copy = np.frombuffer(b"".join(texts) + b"\0", np.uint8)
    edges = np.array([0, *accumulate(map(len, texts))], np.int64) + copy.ctypes.data
    return edges[:-1], edges[1:], copy


def _spelled(
    usual: pl.Series, tokens: Tokens, odd: npt.NDArray[np.bool_], spell: Callable[[str], object]
) -> pl.Series:
    """A column with its odd rows spelled by a patient function."""
    rows = np.flatnonzero(odd)
    if not len(rows):
        return usual
    values = [spell(token) for token in tokens.texts(rows)]
    return usual.scatter(pl.Series(rows), pl.Series(values, dtype=usual.dtype))


def _joined(tokens: Tokens, *, bare: bool) -> pl.Series:
    rows = len(tokens)
    offsets, into = _room(8 * (rows + 1)), _room(int((tokens.ends - tokens.starts).sum()))
    cells = np.frombuffer(offsets, np.int64), np.frombuffer(into, np.uint8)
    token_columns.join(*tokens.cells, bare, *cells)
    buffers = [_validity(tokens.kinds != ABSENT), offsets, into]
    return _series(pa.Array.from_buffers(pa.large_string(), rows, buffers))


def _validity(valid: npt.NDArray[np.bool_]) -> pa.Buffer | None:
    if valid.all():
        return None
    bits = np.packbits(valid, bitorder="little")
    buffer = _room(len(bits))
    np.frombuffer(buffer, np.uint8)[:] = bits
    return buffer


def _room(size_bytes: int) -> pa.Buffer:
    """Memory of Arrow's: Polars may free it in any thread, without waiting for Python's lock."""
    return pa.allocate_buffer(size_bytes)


def _series(column: pa.Array) -> pl.Series:
    series = pl.from_arrow(column)
    assert isinstance(series, pl.Series)
    return series


def tokens_at(data: pl.Series, paths: Iterable[str]) -> pl.DataFrame:
    """Read the token at every path, for every row.

    Args:
        data: JSON objects as text. A row that is none reads as ``{}``.
        paths: ``data.tokens``, ``data.usage.input``: keys from the root, joined by dots.

    Returns:
        A String column named by each path: the JSON text of the value (a string with its quotes),
        null where the path is absent or JSON null.
    """
    found = find_tokens(data, paths)
    return pl.DataFrame({path: as_sent(tokens) for path, tokens in found.items()})


def find_tokens(data: pl.Series, paths: Iterable[str]) -> Mapping[str, Tokens]:
    """Find the token at every path, for every row; arguments as of :func:`tokens_at`."""
    ways = {path: tuple(keys_of(path)) for path in paths}
    found = _descend(_whole(data), sorted(set(ways.values()))) if ways else {}
    return {path: found[way] for path, way in ways.items()}


def _whole(data: pl.Series) -> Tokens:
    """The rows' whole texts, taken for objects. Null is empty."""
    column = data.cast(pl.String).to_arrow(compat_level=pl.CompatLevel.oldest())
    _, places, texts = column.buffers()
    offsets = np.frombuffer(places, np.int64)[column.offset : column.offset + len(data) + 1]
    edges = offsets + (0 if texts is None else texts.address)
    kinds = np.full(len(data), OBJECT, np.uint8)
    if column.null_count:
        kinds[column.is_null().to_numpy(zero_copy_only=False)] = ABSENT
    return Tokens(starts=edges[:-1], ends=edges[1:], kinds=kinds, memory=[column])


def _descend(data: Tokens, ways: Sequence[Keys]) -> dict[Keys, Tokens]:
    heads = tuple(dict.fromkeys(way[0] for way in ways))
    found: dict[Keys, Tokens] = {}
    for head, tokens in zip(heads, _members(data, heads), strict=True):
        found[head,] = tokens
        tails = [way[1:] for way in ways if way[0] == head and len(way) > 1]
        if tails:
            inner = _descend(tokens, tails)
            found |= {(head, *tail): deeper for tail, deeper in inner.items()}
    return found


def _members(data: Tokens, keys: Sequence[str]) -> list[Tokens]:
    """The tokens of some keys of every row's object; whatever is no object has none."""
    shape = len(keys), len(data)
    starts, ends = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
    kinds, odd = np.full(shape, ABSENT, np.uint8), np.empty(len(data), np.uint8)
    names = [key.encode() for key in keys]
    words = np.frombuffer(b"".join(names) + b"\0", np.uint8)
    table = np.array([words.ctypes.data, *accumulate(map(len, names))], np.int64)
    found = np.array([each.ctypes.data for each in (starts, ends, kinds)], np.int64)
    json_paths.find(*data.cells, table, found, odd)
    memory = data.memory
    if odd.any():
        rows = np.flatnonzero(odd)
        patient = _members_one_by_one(data, rows, keys)
        memory = [*memory, *patient.memory]
        shape = len(keys), len(rows)
        starts[:, rows] = patient.starts.reshape(shape)
        ends[:, rows] = patient.ends.reshape(shape)
        kinds[:, rows] = patient.kinds.reshape(shape)
    columns = zip(starts, ends, kinds, strict=True)
    return [Tokens(starts=s, ends=e, kinds=k, memory=memory) for s, e, k in columns]


def _members_one_by_one(data: Tokens, rows: Rows, keys: Sequence[str]) -> Tokens:
    """The tokens of some keys of some rows, copied: all rows of a key, then those of the next."""
    read = [fields_of(row) for row in data.texts(rows)]
    raws = [bytes(members.get(key, NO_MEMBER)) for key in keys for members in read]
    starts, ends, copy = _placed(raws)
    kinds = np.empty(len(raws), np.uint8)
    json_paths.classify(starts, ends, kinds)
    return Tokens(starts=starts, ends=ends, kinds=kinds, memory=[copy])
