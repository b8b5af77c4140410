"""Columns of JSON tokens: the text that stands at a path, row by row, as it was sent.

Every number keeps all its digits because none is ever parsed on the way: msgspec finds where the
value at a path begins and ends (``msgspec.Raw``) and that text becomes a Polars column.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from typing import Any

import msgspec
import polars as pl

from ingest.jsontext import canonical_json, dump, text_of

ROWS_AT_ONCE_MAX = 16_384
"""Rows joined into one text to parse: bounds the copy (16 Ki events of 200 bytes are 3 MB)."""

_BETWEEN = "\x1f"  # no JSON text contains it: a control character must be escaped
_UNNAMEABLE = frozenset('"\\') | {chr(code) for code in range(32)}
_ABSENT = msgspec.Raw(b"")
_UNREADABLE = (msgspec.DecodeError, RecursionError, UnicodeDecodeError)
_any_object = msgspec.json.Decoder(dict[str, msgspec.Raw])

type_Path = tuple[str, ...]


def tokens_at(data: pl.Series, paths: Iterable[str]) -> dict[str, pl.Series]:
    """Read the token at every path, for every row.

    Args:
        data: JSON objects as text. A row that is none reads as ``{}``.
        paths: ``data.tokens``, ``data.usage.input``: keys from the root, joined by dots.

    Returns:
        A String column by path: the JSON text of the value (a string with its quotes), null where
        the path is absent or JSON null.
    """
    keys = {path: tuple(path.removeprefix("data.").split(".")) for path in paths}
    if not keys:
        return {}
    found = _descend(data, sorted(set(keys.values())))
    return {path: found[way] for path, way in keys.items()}


def texts(tokens: pl.Series) -> pl.Series:
    """Tokens as dimensions and filters compare them: strings bare, the rest as JSON text."""
    odd = tokens.str.contains(r"^[{\[]|^\".*\\")
    return _patched(tokens.str.strip_chars('"'), tokens, odd, text_of)


def quoted(bare: pl.Series) -> pl.Series:
    """Texts as JSON strings again, each in its one shortest spelling."""
    odd = bare.str.contains(r'["\\\x00-\x1f]')
    plain = bare.to_frame("t").select(pl.format('"{}"', "t")).to_series()
    return _patched(plain, bare, odd, dump)


def canonical(tokens: pl.Series) -> pl.Series:
    """Tokens so spelled that equal JSON values have equal text, and different ones have not."""
    odd = tokens.str.contains(r'^[{\[]|\\|^-0|^[-0-9]+[.eE]')
    return _patched(tokens, tokens, odd, canonical_json)


def _patched(
    usual: pl.Series, source: pl.Series, odd: pl.Series, spell: Callable[[str], str]
) -> pl.Series:
    """``usual`` with the rows marked ``odd`` spelled one by one from ``source``."""
    rows = odd.arg_true()
    if rows.is_empty():
        return usual
    spelled = pl.Series([spell(text) for text in source.gather(rows)], dtype=pl.String)
    return usual.scatter(rows, spelled)


def _descend(data: pl.Series, ways: Sequence[type_Path]) -> dict[type_Path, pl.Series]:
    heads = tuple(dict.fromkeys(way[0] for way in ways))
    columns = _fields(data, heads)
    found: dict[type_Path, pl.Series] = {}
    for head, column in zip(heads, columns, strict=True):
        found[(head,)] = column
        tails = [way[1:] for way in ways if way[0] == head and len(way) > 1]
        if tails:
            inner = column.zip_with(column.str.starts_with("{"), pl.Series(["{}"]))
            found |= {(head, *tail): tokens for tail, tokens in _descend(inner, tails).items()}
    return found


def _fields(data: pl.Series, keys: tuple[str, ...]) -> list[pl.Series]:
    """The tokens of some keys of every row's object, a column a key."""
    parts = [
        _fields_of_slice(data.slice(start, ROWS_AT_ONCE_MAX), keys)
        for start in range(0, len(data), ROWS_AT_ONCE_MAX)
    ]
    if not parts:
        return [pl.Series(dtype=pl.String) for _ in keys]
    return [pl.concat(columns) for columns in zip(*parts, strict=True)]


def _fields_of_slice(data: pl.Series, keys: tuple[str, ...]) -> list[pl.Series]:
    if any(_UNNAMEABLE.intersection(key) for key in keys):
        return _fields_one_by_one(data, keys)
    decoder, names = _reader(keys)
    try:
        rows = decoder.decode("[" + ",".join(data.fill_null("{}")) + "]")
    except _UNREADABLE:
        return _fields_one_by_one(data, keys)
    if len(rows) != len(data):  # a row that is "1},{2" inside is not for us to repair
        return _fields_one_by_one(data, keys)
    return [_column([getattr(row, name) for row in rows]) for name in names]


def _fields_one_by_one(data: pl.Series, keys: tuple[str, ...]) -> list[pl.Series]:
    objects = [_object(text) for text in data]
    return [_column([found.get(key, _ABSENT) for found in objects]) for key in keys]


def _object(text: str | None) -> dict[str, msgspec.Raw]:
    try:
        return _any_object.decode(text or "{}")
    except _UNREADABLE:
        return {}


def _column(raws: list[msgspec.Raw]) -> pl.Series:
    joined = _BETWEEN.encode().join(raws).decode()
    column = pl.Series([joined]).str.split(_BETWEEN).explode()
    return column.replace(["", "null"], [None, None])


@lru_cache(maxsize=1024)
def _reader(keys: tuple[str, ...]) -> tuple[msgspec.json.Decoder[list[Any]], list[str]]:
    names = [f"f{place}" for place in range(len(keys))]
    fields = [(name, msgspec.Raw, _ABSENT) for name in names]
    struct = msgspec.defstruct(
        "Fields", fields, rename=dict(zip(names, keys, strict=True)), gc=False
    )
    return msgspec.json.Decoder(list[struct]), names  # type: ignore[valid-type]
