"""Quoted invoices: rated lines grouped into the documents they would be on, without tax."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from itertools import groupby
from operator import itemgetter

Row = Mapping[str, object]
"""One line as text, column by column (``rating.rendering.as_text``)."""

Billed = tuple[str, str | None]
"""Start and end of the whole billing period that a line is (a part of), as text."""

Key = tuple[str, str, str, str, str, str]
"""customer, contract, timing, period_start, period_end ("" for none), currency."""


class InvoiceStatus(StrEnum):
    """Where an invoice is in its life."""

    DRAFT = "draft"
    ISSUED = "issued"
    VOID = "void"


@dataclass(frozen=True, slots=True, kw_only=True)
class Invoice:
    """One document per contract, timing and billing period.

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


def _key(row: Row, billed: Billed) -> Key:
    start, end = billed
    customer, contract, timing = str(row["customer"]), str(row["contract"]), str(row["timing"])
    return customer, contract, timing, start, end or "", str(row["currency"])


def _invoice_id(key: Sequence[str]) -> str:
    """The same document has the same id in every view of it."""
    return "inv_" + hashlib.sha256("\x00".join(key).encode()).hexdigest()[:20]


def draft_invoices(rows: Iterable[tuple[Row, Billed]]) -> Iterator[Invoice]:
    """Group lines into drafts, in order of (customer, contract, timing, period).

    Args:
        rows: LINES as text, amounts with their currency's minor digits, each with its billing
            period. A period that a change of terms splits is still one document. Order within an
            invoice is kept.
    """
    keyed = sorted(((_key(row, billed), row) for row, billed in rows), key=itemgetter(0))
    for key, members in groupby(keyed, key=itemgetter(0)):
        yield _draft(key, tuple(row for _, row in members))


def _draft(key: Key, lines: tuple[Row, ...]) -> Invoice:
    customer, contract, timing, start, end, currency = key
    subtotal = sum((Decimal(str(line["amount"])) for line in lines), Decimal(0))
    tax = subtotal * 0  # a quote is without tax; keeps the currency's digits
    return Invoice(
        id=_invoice_id(key),
        number=None,
        customer=customer,
        contract=contract,
        timing=timing,
        period_start=start,
        period_end=end or None,
        currency=currency,
        subtotal=subtotal,
        tax=tax,
        total=subtotal + tax,
        status=InvoiceStatus.DRAFT,
        lines=lines,
    )
