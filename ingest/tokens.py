"""Columns of JSON tokens: the text that stands at a path, row by row, as it was sent.

Every number keeps all its digits because none is ever parsed on the way: msgspec finds where the
value at a path begins and ends (``msgspec.Raw``) and that text becomes a Polars column. What is
derived from a token (a :class:`Form`) is an expression for the usual rows and a function for the
odd ones, so that escapes, exponents and nested values cost only the rows that have them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import msgspec
import polars as pl

from catalog.events import QUANTITY
from ingest.fields import ABSENT, fields_of, members_of
from ingest.jsontext import canonical_json, dump, text_of
from ingest.numbers import PLAIN_NUMBER, read_quantity

ROWS_AT_ONCE_MAX = 16_384
"""Rows joined into one text to parse: bounds the copy (16 Ki events of 200 bytes are 3 MB)."""

Keys = tuple[str, ...]
"""A path, taken apart: the keys to follow from the root of an event's data."""

_BETWEEN = "\x1f"  # no JSON text contains it: a control character must be escaped


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """One way to spell a column of texts: ``usual`` where ``odd`` is not true, else ``spell``."""

    usual: Callable[[pl.Expr], pl.Expr]
    odd: Callable[[pl.Expr], pl.Expr]
    spell: Callable[[str], object]
    dtype: pl.DataType


TEXT = Form(
    usual=lambda token: token.str.strip_chars('"'),
    odd=lambda token: token.str.contains(r"^[{\[]|\\"),
    spell=text_of,
    dtype=pl.String(),
)
"""Of a token: what dimensions and filters compare. Strings bare, the rest as JSON text."""

CANONICAL = Form(
    usual=lambda token: token,
    odd=lambda token: token.str.contains(r"^[{\[]|\\|^-0|^[-0-9]+[.eE]"),
    spell=canonical_json,
    dtype=pl.String(),
)
"""Of a token: equal JSON values have equal text, and different ones have not."""

QUOTED = Form(
    usual=lambda text: pl.format('"{}"', text),
    odd=lambda text: text.str.contains(r'["\\\x00-\x1f]'),
    spell=dump,
    dtype=pl.String(),
)
"""Of a text: a JSON string again, in its one shortest spelling."""

NUMBER = Form(
    usual=lambda text: pl.when(text.str.contains(PLAIN_NUMBER)).then(text).cast(QUANTITY),
    odd=lambda text: ~text.str.contains(PLAIN_NUMBER),
    spell=read_quantity,
    dtype=QUANTITY,
)
"""Of a text: the exact value, null where it is not a number that Decimal(38, 9) holds."""


def spelled(source: pl.DataFrame, wanted: Mapping[str, tuple[str, Form]]) -> pl.DataFrame:
    """Derive columns of ``source``: name → (source column, form). Nulls stay null."""
    usual = [form.usual(pl.col(of)).alias(name) for name, (of, form) in wanted.items()]
    flags = [form.odd(pl.col(of)).alias(f"odd {name}") for name, (of, form) in wanted.items()]
    both = source.select(*usual, *flags)
    columns = [
        _patched(both[name], both[f"odd {name}"], source[of], form)
        for name, (of, form) in wanted.items()
    ]
    return pl.DataFrame(columns)


def _patched(usual: pl.Series, odd: pl.Series, source: pl.Series, form: Form) -> pl.Series:
    if not odd.any():
        return usual
    rows = odd.arg_true()
    values = [form.spell(text) for text in source.gather(rows)]
    return usual.scatter(rows, pl.Series(values, dtype=form.dtype))


def tokens_at(data: pl.Series, paths: Iterable[str]) -> pl.DataFrame:
    """Read the token at every path, for every row.

    Args:
        data: JSON objects as text. A row that is none reads as ``{}``.
        paths: ``data.tokens``, ``data.usage.input``: keys from the root, joined by dots.

    Returns:
        A String column named by each path: the JSON text of the value (a string with its quotes),
        null where the path is absent or JSON null.
    """
    keys = {path: tuple(path.removeprefix("data.").split(".")) for path in paths}
    found = _descend(data, sorted(set(keys.values()))) if keys else {}
    return pl.DataFrame([found[way].alias(path) for path, way in keys.items()])


def _descend(data: pl.Series, ways: Sequence[Keys]) -> dict[Keys, pl.Series]:
    heads = tuple(dict.fromkeys(way[0] for way in ways))
    columns = _fields(data, heads)
    found: dict[Keys, pl.Series] = {}
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
    joined = pl.select(pl.lit(data).fill_null("{}").str.join(",")).item()
    raws = members_of(joined, keys, rows=len(data))
    return _fields_one_by_one(data, keys) if raws is None else _columns(raws)


def _fields_one_by_one(data: pl.Series, keys: tuple[str, ...]) -> list[pl.Series]:
    objects = [fields_of(text or "{}") for text in data]
    return _columns([[found.get(key, ABSENT) for found in objects] for key in keys])


def _columns(raws: list[list[msgspec.Raw]]) -> list[pl.Series]:
    """Raw values as String columns: joining and splitting again is one call each, not one a row."""
    joined = {str(place): _BETWEEN.encode().join(of) for place, of in enumerate(raws)}
    texts = pl.DataFrame({name: [text.decode()] for name, text in joined.items()})
    tokens = texts.lazy().select(pl.all().str.split(_BETWEEN).explode())
    present = pl.when(~pl.all().is_in(["", "null"])).then(pl.all())
    return tokens.select(present).collect(engine="in-memory").get_columns()
