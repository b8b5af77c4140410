"""Closed lines and issued documents put into a database as finance keeps them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import polars as pl
import sqlalchemy as sa

from catalog.clock import Micros, to_micros
from rating.frames import LINES
from rating.rendering import as_csv
from storage.sql.database import Database
from storage.sql.schema import CLOSED_LINES, INVOICES, PERIODS

CLOSED_AT = to_micros(datetime(2026, 2, 1, 12, tzinfo=UTC))
ISSUED_AT = to_micros(datetime(2026, 2, 2, 12, tzinfo=UTC))
DAY = date(2026, 1, 31)
Row = dict[str, Any]


def line(number: int, **given: Any) -> Row:
    """One line as rating makes it; amounts and quantities are decimals."""
    month = {
        "period_start": datetime(2026, 1, 1, tzinfo=UTC),
        "period_end": datetime(2026, 2, 1, tzinfo=UTC),
    }
    usual = {
        "line_id": f"k1~20260101~{number:020x}",
        "customer": "acme",
        "contract": "k1",
        "product": "tokens",
        "meter": "tokens",
        "dimensions": "{}",
        "timing": "arrears",
        **month,
        "currency": "USD",
        "quantity": Decimal(number),
        "amount": Decimal("1.50"),
        "kind": "usage",
        "status": "closed",
        "adjusts": None,
        "cause": None,
        "event_count": 3,
        "price_version": "v1",
    }
    return usual | given


def close(
    database: Database,
    rows: Sequence[Row],
    *,
    entity: str = "",
    document: str = "inv_1",
    month: str | None = None,
    on: date = DAY,
) -> None:
    """Append closed lines, and close a month if one is named."""
    frame = pl.DataFrame([[row[name] for name in LINES] for row in rows], LINES, orient="row")
    texts = as_csv(frame).decode().splitlines(keepends=True)[1:]
    with database.write() as connection:
        last = connection.execute(sa.select(sa.func.max(CLOSED_LINES.c.sequence))).scalar_one()
        head = int(last or 0)
        for offset, (row, text) in enumerate(zip(rows, texts, strict=True), start=1):
            connection.execute(
                sa.insert(CLOSED_LINES).values(
                    sequence=head + offset,
                    **{name: row[name] for name in ("line_id", "customer", "contract", "adjusts")},
                    document=document,
                    entity=entity,
                    billing_start=to_micros(row["period_start"]),
                    billing_end=to_micros(row["period_end"]),
                    accounting_date=on.isoformat(),
                    closed_by=month or document,
                    recorded_at=CLOSED_AT,
                    as_of=CLOSED_AT,
                    engine="1",
                    row=text,
                    checksum="0" * 64,
                )
            )
        if month is not None:
            connection.execute(
                sa.insert(PERIODS).values(
                    month=month,
                    recorded_at=CLOSED_AT,
                    as_of=CLOSED_AT,
                    sequence=head + len(rows),
                    lines=len(rows),
                    checksum="0" * 64,
                    unsettled="[]",
                    body="{}",
                )
            )


def issue(
    database: Database,
    document: str,
    *,
    lines: int,
    taxes: Sequence[Row] = (),
    kind: str = "invoice",
    entity: str = "",
    at: Micros = ISSUED_AT,
) -> str:
    """Issue a document (or its credit note) whose lines are closed; answers its number."""
    with database.write() as connection:
        last = connection.execute(sa.select(sa.func.max(INVOICES.c.position))).scalar_one()
        position = int(last or 0) + 1
        number = f"{'INV' if kind == 'invoice' else 'CN'}-{position:06d}"
        invoice = f"{document}.{position}"
        credits_ = f"{document}.{position - 1}" if kind == "credit_note" else None
        connection.execute(
            sa.insert(INVOICES).values(
                position=position,
                id=invoice,
                kind=kind,
                document=document,
                issue=position,
                entity=entity,
                ordinal=position,
                number=number,
                credits=credits_,
                customer="acme",
                contract="k1",
                accounting_date=DAY.isoformat(),
                recorded_at=at,
                as_of=CLOSED_AT,
                head=json.dumps({"id": invoice, "lines": lines, "taxes": list(taxes)}),
                checksum="0" * 64,
            )
        )
        return number
