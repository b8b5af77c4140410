"""Rows of a columnar body as events: columns found, times exact, data as JSON text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import polars as pl
import pyarrow as pa

from catalog.clock import SECOND_US
from catalog.events import RejectCode
from ingest.batch import Columns, Decoded, Rejection, UnreadableBody
from ingest.decode.diagnose import SPECVERSION, diagnose_data
from ingest.decode.json_columns import json_object, token
from ingest.decode.wire import REQUIRED, strict_rows

_SECONDS_MAX = 10**11
"""Beyond any year we accept, and far from overflowing once it is microseconds."""

_PREFIX = "data."
_UNITS_A_SECOND = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}


def decode_rows(table: pa.Table, frame: pl.DataFrame) -> Decoded:
    """Events from the columns a body has.

    Args:
        table: as it came: tells what a time column's unit was.
        frame: the same in Polars, timestamps as integers.

    Raises:
        UnreadableBody: its columns contradict each other.
    """
    if not frame.width:
        raise UnreadableBody("the body has none of the columns of an event")
    columns = {
        "index": pl.int_range(pl.len(), dtype=pl.Int64),
        **{name: _text(frame, name) for name in REQUIRED},
        **_time(table, frame),
        "data": data_text(frame),
        "reason": _reason(frame),
    }
    events = frame.lazy().select(**columns).collect()
    refused = _refused(events.filter(pl.col("reason").is_not_null()))
    kept = _columns(events.filter(pl.col("reason").is_null()))
    if isinstance(frame.schema.get("data"), pl.String | pl.Categorical):
        kept, unreadable = _read_data(kept)
        refused = sorted(refused + unreadable, key=lambda rejection: rejection.index)
    return Decoded(events=kept, rejected=refused, received=frame.height)


def _columns(events: pl.DataFrame) -> Columns:
    times = events["time"].to_list()
    if events["time_text"].null_count() < events.height:
        texts = events["time_text"].to_list()
        times = [time if text is None else text for time, text in zip(times, texts, strict=True)]
    return Columns(
        index=events["index"].to_list(),
        source=events["source"].to_list(),
        id=events["id"].to_list(),
        type=events["type"].to_list(),
        subject=events["subject"].to_list(),
        time=times,
        data=events["data"].to_list(),
    )


def _text(frame: pl.DataFrame, name: str) -> pl.Expr:
    if isinstance(frame.schema.get(name), pl.String | pl.Categorical):
        return pl.col(name).cast(pl.String)
    return pl.lit(None, pl.String)


def _reason(frame: pl.DataFrame) -> pl.Expr:
    """Why a row is no event, null if it is one: ``<code> <detail>``, the first that holds."""
    reason = pl.lit(None, pl.String)
    version = frame.schema.get("specversion")
    if version is not None:
        wrong = pl.col("specversion").cast(pl.String, strict=False) != SPECVERSION
        text = f'{RejectCode.INVALID_FIELD} specversion is not "{SPECVERSION}"'
        reason = pl.when(wrong).then(pl.lit(text)).otherwise(reason)
    for name in reversed(REQUIRED):
        missing = pl.lit(f"{RejectCode.MISSING_FIELD} {name} is missing")
        if name not in frame.columns or frame.schema[name] == pl.Null:
            reason = missing
        elif isinstance(frame.schema[name], pl.String | pl.Categorical):
            reason = pl.when(pl.col(name).is_null()).then(missing).otherwise(reason)
        else:
            wrong_type = pl.lit(f"{RejectCode.INVALID_FIELD} {name} is not a string")
            absent = pl.col(name).is_null()
            reason = pl.when(absent).then(missing).otherwise(wrong_type)
    return reason


def _refused(rows: pl.DataFrame) -> list[Rejection]:
    found = []
    for index, identity, reason in rows.select("index", "id", "reason").iter_rows():
        code, _, detail = reason.partition(" ")
        found.append(Rejection(index=index, id=identity, code=RejectCode(code), detail=detail))
    return found


def _time(table: pa.Table, frame: pl.DataFrame) -> dict[str, pl.Expr]:
    """``time`` in microseconds, or ``time_text`` where it is none (or none that is exact)."""
    absent = {"time": pl.lit(None, pl.Int64), "time_text": pl.lit(None, pl.String)}
    if "time" not in frame.columns:
        return absent
    kind = table.schema.field("time").type
    if not pa.types.is_timestamp(kind):
        nested = frame.schema["time"].is_nested()
        given = pl.when(pl.col("time").is_not_null()).then(pl.lit("not a time"))
        return {**absent, "time_text": given if nested else pl.col("time").cast(pl.String)}
    a_second = _UNITS_A_SECOND[kind.unit]
    value = pl.col("time")
    exact = value.is_between(-_SECONDS_MAX * a_second, _SECONDS_MAX * a_second)
    if a_second > SECOND_US:
        exact = value % (a_second // SECOND_US) == 0
        micros = value // (a_second // SECOND_US)
    else:
        micros = pl.when(exact).then(value) * (SECOND_US // a_second)
    return {
        "time": pl.when(exact).then(micros),
        "time_text": pl.when(~exact).then(pl.format("{} {} since 1970", value, pl.lit(kind.unit))),
    }


def data_text(frame: pl.DataFrame) -> pl.Expr:
    """The data of every row as JSON text: the column ``data``, or columns ``data.*``.

    Raises:
        UnreadableBody: they contradict each other.
    """
    parts = [name for name in frame.columns if name.startswith(_PREFIX)]
    if "data" in frame.columns:
        if parts:
            raise UnreadableBody("the body has a column data and columns data.*")
        kind = frame.schema["data"]
        if isinstance(kind, pl.String | pl.Categorical):
            return pl.col("data").cast(pl.String).fill_null("{}")
        if not isinstance(kind, pl.Struct | pl.Null):
            raise UnreadableBody("the column data is neither a struct nor JSON text")
        return token(pl.col("data"), kind).fill_null("{}")
    return _object(frame, parts, _PREFIX)


def _object(frame: pl.DataFrame, names: Sequence[str], prefix: str) -> pl.Expr:
    """The columns under ``prefix`` as one JSON object; ``data.a.b`` is an object in an object."""
    fields: dict[str, list[str]] = {}
    for name in names:
        fields.setdefault(name.removeprefix(prefix).split(".")[0], []).append(name)
    tokens = []
    for key, under in fields.items():
        if under == [prefix + key]:
            tokens.append((key, token(pl.col(under[0]), frame.schema[under[0]])))
        elif prefix + key in under:
            raise UnreadableBody(f"the column {prefix}{key} is both a value and an object")
        else:
            anything = pl.any_horizontal(pl.col(name).is_not_null() for name in under)
            inner = _object(frame, under, f"{prefix}{key}.")
            tokens.append((key, pl.when(anything).then(inner)))
    return json_object(tokens)


def _read_data(events: Columns) -> tuple[Columns, list[Rejection]]:
    """Check data that came as JSON text."""
    parsed = strict_rows(events.data)
    if parsed is not None:
        return replace(events, parsed=parsed), []
    reasons = [diagnose_data(text) for text in events.data]
    refused = [
        Rejection(index=index, id=identity, code=reason[0], detail=reason[1])
        for index, identity, reason in zip(events.index, events.id, reasons, strict=True)
        if reason is not None
    ]
    kept = events.keep([row for row, reason in enumerate(reasons) if reason is None])
    data = ["{}" if text.strip() == "null" else text.strip() for text in kept.data]
    return replace(kept, data=data), refused
