"""JSON text out of typed columns: exact, strict by construction, and vectorised."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from ingest.jsontext import dump

_RAW = ['"', "\\", *(chr(code) for code in range(32))]
_ESCAPED = [dump(character)[1:-1] for character in _RAW]
_SECONDS = {"ms": "%.3f", "us": "%.6f", "ns": "%.9f"}


def json_object(fields: Sequence[tuple[str, pl.Expr]]) -> pl.Expr:
    """A JSON object from names and tokens (:func:`token`). A null token is an absent key."""
    if not fields:
        return pl.lit("{}")
    pairs = [pl.lit(dump(name) + ":") + value for name, value in fields]
    return pl.lit("{") + pl.concat_str(pairs, separator=",", ignore_nulls=True) + pl.lit("}")


def token(value: pl.Expr, kind: pl.DataType) -> pl.Expr:  # noqa: PLR0911 - one per kind
    """A column's values as JSON text, null where null.

    Integers and floats are numbers (a float in the shortest spelling that reads back the same);
    decimals are strings, so that none of their digits counts as a float's; what is no number (NaN,
    infinities) is a string too, which no meter can read.
    """
    match kind:
        case pl.Struct():
            fields = [
                (field.name, token(value.struct.field(field.name), _type_of(field)))
                for field in kind.fields
            ]
            return pl.when(value.is_not_null()).then(json_object(fields))
        case pl.List():
            items = value.list.eval(token(pl.element(), _inner(kind)).fill_null("null"))
            return pl.lit("[") + items.list.join(",") + pl.lit("]")
        case pl.Float32() | pl.Float64():
            text = value.cast(pl.String)
            return pl.when(value.is_finite()).then(text).otherwise(_quoted(text))
        case pl.Boolean():
            return value.cast(pl.String)
        case pl.Datetime():
            suffix = "Z" if kind.time_zone else ""
            seconds = _SECONDS[kind.time_unit]
            return _quoted(value.dt.strftime(f"%Y-%m-%dT%H:%M:%S{seconds}{suffix}"))
        case _ if kind.is_integer():
            return value.cast(pl.String)
        case _ if kind.is_decimal() or kind.is_temporal():
            return _quoted(value.cast(pl.String))
        case _:
            return _quoted(value.cast(pl.String).str.replace_many(_RAW, _ESCAPED))


def _quoted(text: pl.Expr) -> pl.Expr:
    return pl.lit('"') + text + pl.lit('"')


def _type_of(field: pl.Field) -> pl.DataType:
    kind = field.dtype
    return kind if isinstance(kind, pl.DataType) else kind()


def _inner(kind: pl.List) -> pl.DataType:
    inner = kind.inner
    return inner if isinstance(inner, pl.DataType) else inner()
