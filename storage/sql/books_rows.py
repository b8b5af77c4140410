"""What is closed and issued as rows for SQL."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import polars as pl
from sqlalchemy import RowMapping

from catalog.clock import Micros, to_rfc3339
from invoicing.ports import ClosedMonth, Entry, NewDocument, NewMonth
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


def closed_row_dicts(
    lines: pl.DataFrame, entry: Entry, *, after: int, recorded_at: Micros
) -> list[dict[str, Any]]:
    """Rows of CLOSED_LINES, numbered from ``after`` + 1 in the order of ``lines``."""
    beside = lines.select(
        "line_id",
        "customer",
        "contract",
        "document",
        "entity",
        pl.col("billing_start").dt.epoch("us"),
        pl.col("billing_end").dt.epoch("us"),
        pl.col("accounting_date").dt.strftime("%Y-%m-%d"),
        "adjusts",
    )
    shared = {"recorded_at": recorded_at, "as_of": entry.as_of, "engine": entry.engine}
    return [
        named
        | shared
        | {
            "sequence": sequence,
            "row": row,
            "checksum": row_checksum(row),
            "closed_by": entry.closed_by or named["document"],
        }
        for sequence, (named, row) in enumerate(
            zip(beside.iter_rows(named=True), csv_rows(lines), strict=True), start=after + 1
        )
    ]


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


def document_row(
    new: NewDocument, entry: Entry, position: int, ordinal: int, recorded_at: Micros
) -> dict[str, Any]:
    """A row of INVOICES, with its number."""
    number = f"{new.prefix}{ordinal:0{NUMBER_DIGITS}d}"
    head = json.dumps({**new.head, "number": number, "issued_at": to_rfc3339(recorded_at)})
    return {
        "position": position,
        "id": new.id,
        "kind": new.kind.value,
        "number": number,
        "document": new.document,
        "issue": new.issue,
        "entity": new.entity,
        "ordinal": ordinal,
        "credits": new.credits,
        "customer": new.customer,
        "contract": new.contract,
        "accounting_date": new.accounting_date.isoformat(),
        "recorded_at": recorded_at,
        "as_of": entry.as_of,
        "head": head,
        "checksum": hashlib.sha256(head.encode() + new.lines_checksum.encode()).hexdigest(),
        "actor": entry.actor,
    }


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
