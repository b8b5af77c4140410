"""What is closed and issued as rows for SQL."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import polars as pl
from sqlalchemy import RowMapping

from catalog.clock import Micros, to_rfc3339
from invoicing.ports import ClosedMonth, Entry, NewMonth
from rating.frames import LINES, LineStatus
from rating.rendering import as_csv
from storage.sql.audit import Change

NUMBER_DIGITS = 6


def csv_rows(lines: pl.DataFrame) -> list[str]:
    """Each line's CSV row with its line end, closed. No cell holds a line end (ids, JSON)."""
    closed = lines.select(list(LINES)).with_columns(status=pl.lit(LineStatus.CLOSED.value))
    rows = as_csv(closed).decode().splitlines(keepends=True)[1:]
    if len(rows) != lines.height:
        raise AssertionError("a cell of a line holds a line end")
    return rows


def row_checksum(row: str) -> str:
    """SHA-256 (hex) of one CSV row."""
    return hashlib.sha256(row.encode()).hexdigest()


def closed_rows(
    lines: pl.DataFrame, entry: Entry, *, after: int, recorded_at: Micros
) -> pl.DataFrame:
    """Rows of CLOSED_LINES, numbered from ``after`` + 1 in the order of ``lines``."""
    rows = csv_rows(lines)
    closed_by = pl.col("document") if entry.closed_by is None else pl.lit(entry.closed_by)
    return lines.select(
        "line_id",
        "customer",
        "contract",
        "document",
        "entity",
        pl.col("billing_start").dt.epoch("us"),
        pl.col("billing_end").dt.epoch("us"),
        pl.col("accounting_date").dt.strftime("%Y-%m-%d"),
        "adjusts",
        closed_by=closed_by,
        recorded_at=pl.lit(recorded_at, pl.Int64),
        as_of=pl.lit(entry.as_of, pl.Int64),
        engine=pl.lit(entry.engine),
        sequence=pl.int_range(after + 1, after + 1 + pl.len(), dtype=pl.Int64),
        row=pl.Series(rows, dtype=pl.String),
        checksum=pl.Series([row_checksum(row) for row in rows], dtype=pl.String),
    )


def month_row(new: NewMonth, entry: Entry, *, recorded_at: Micros, sequence: int) -> dict[str, Any]:
    """A row of PERIODS. Its body is what is answered from now on."""
    body = {
        "period": new.month,
        "status": "closed",
        "closed_at": to_rfc3339(recorded_at),
        **new.facts,
    }
    return {
        "month": new.month,
        "recorded_at": recorded_at,
        "as_of": new.as_of,
        "sequence": sequence,
        "lines": new.lines,
        "checksum": new.checksum,
        "unsettled": json.dumps(sorted(new.unsettled)),
        "body": json.dumps(body),
        "actor": entry.actor,
    }


def month_of(row: RowMapping | dict[str, Any]) -> ClosedMonth:
    """The closed month that a row of PERIODS holds."""
    return ClosedMonth(
        month=row["month"],
        recorded_at=Micros(row["recorded_at"]),
        as_of=Micros(row["as_of"]),
        unsettled=frozenset(json.loads(row["unsettled"])),
        body=row["body"],
    )


def document_rows(
    new: pl.DataFrame, last: pl.DataFrame, entry: Entry, *, after: int, recorded_at: Micros
) -> pl.DataFrame:
    """Rows of INVOICES for NEW_DOCUMENTS, in their order, each series numbered without gaps.

    Args:
        new: the documents.
        last: the last ordinal given (``entity``, ``kind``, ``last``), one row a series.
        entry: the writing.
        after: the last position.
        recorded_at: when they are issued.
    """
    place = pl.int_range(1, pl.len() + 1, dtype=pl.Int64)
    series = ["entity", "kind"]
    numbered = (
        new.join(last, on=series, how="left", maintain_order="left")
        .with_columns(ordinal=pl.col("last").fill_null(0) + place.over(series))
        .with_columns(number=_number())
        .with_columns(head=_head(to_rfc3339(recorded_at)))
    )
    told = zip(numbered["head"], numbered["lines_checksum"], strict=True)
    checksums = [hashlib.sha256(head.encode() + lines.encode()).hexdigest() for head, lines in told]
    return numbered.select(
        *("id", "kind", "number", "document", "issue", "entity", "ordinal", "credits"),
        *("customer", "contract", "head"),
        pl.col("accounting_date").dt.strftime("%Y-%m-%d"),
        position=after + place,
        recorded_at=pl.lit(recorded_at, pl.Int64),
        as_of=pl.lit(entry.as_of, pl.Int64),
        checksum=pl.Series(checksums, dtype=pl.String),
        actor=pl.lit(entry.actor, pl.String),
    )


def _number() -> pl.Expr:
    return pl.col("prefix") + pl.col("ordinal").cast(pl.String).str.zfill(NUMBER_DIGITS)


def _head(issued_at: str) -> pl.Expr:
    """The JSON of a document, number and all. Ids and numbers hold nothing to be escaped."""
    return pl.concat_str(
        pl.lit('{"id":"'),
        "id",
        pl.lit('","kind":"'),
        "kind",
        pl.lit('","number":"'),
        "number",
        pl.lit(f'","issued_at":"{issued_at}",'),
        pl.col("head").str.slice(1),
    )


def month_change(row: Mapping[str, Any]) -> Change:
    """A row of PERIODS as the audit log names it."""
    summary = {"lines": row["lines"], "as_of": to_rfc3339(row["as_of"])}
    return Change("periods", row["month"], "close", summary, row["checksum"])


def document_change(row: Mapping[str, Any]) -> Change:
    """A row of INVOICES as the audit log names it: an invoice issued, or one taken back."""
    summary = {"number": row["number"], "customer": row["customer"], "contract": row["contract"]}
    if row["credits"] is None:
        return Change("invoices", row["id"], "issue", summary, row["checksum"])
    voided = summary | {"credit_note": row["id"]}
    return Change("invoices", row["credits"], "void", voided, row["checksum"])
