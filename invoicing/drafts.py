"""Draft invoices: rated lines grouped into documents. A draft is a view and stores nothing."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from itertools import groupby

Row = Mapping[str, object]
"""One line as text, column by column (``rating.rendering.as_text``)."""

GROUPED_BY = ("customer", "contract", "timing", "period_start", "period_end", "currency")


class InvoiceStatus(StrEnum):
    """Where an invoice is in its life."""

    DRAFT = "draft"
    ISSUED = "issued"
    VOID = "void"


@dataclass(frozen=True, slots=True, kw_only=True)
class Invoice:
    """One document per (contract, timing, period_start, period_end).

    ``number`` is null until issued. ``total`` = ``subtotal`` + ``tax``; ``subtotal`` is the sum of
    the lines' amounts, each already rounded, so it adds up to the cent.
    """

    id: str
    number: str | None
    customer: str
    contract: str
    timing: str
    period_start: str
    period_end: str | None
    currency: str
    subtotal: Decimal
    tax: Decimal
    total: Decimal
    status: InvoiceStatus
    lines: tuple[Row, ...]


def _order(row: Row) -> tuple[str, ...]:
    return tuple(str(row[name] or "") for name in GROUPED_BY)


def _invoice_id(key: Sequence[str]) -> str:
    """The same document has the same id in every view of it."""
    return "inv_" + hashlib.sha256("\x00".join(key).encode()).hexdigest()[:20]


def draft_invoices(rows: Sequence[Row]) -> Iterator[Invoice]:
    """Group lines into drafts, in order of (customer, contract, timing, period).

    Args:
        rows: LINES as text; amounts carry their currency's minor digits. Order within an
            invoice is kept.
    """
    for key, members in groupby(sorted(rows, key=_order), key=_order):
        lines = tuple(members)
        subtotal = sum((Decimal(str(line["amount"])) for line in lines), Decimal(0))
        tax = subtotal * 0
        yield Invoice(
            id=_invoice_id(key),
            number=None,
            customer=key[0],
            contract=key[1],
            timing=key[2],
            period_start=key[3],
            period_end=key[4] or None,
            currency=key[5],
            subtotal=subtotal,
            tax=tax,
            total=subtotal + tax,
            status=InvoiceStatus.DRAFT,
            lines=lines,
        )
