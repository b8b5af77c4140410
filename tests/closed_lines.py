"""Lines, months and documents to close and issue, for tests of the books themselves."""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal

import polars as pl

from catalog.clock import Micros
from invoicing.ports import NEW_DOCUMENTS, DocumentKind, Entry, Mark, NewMonth
from invoicing.view import STANDING

JANUARY = datetime(2026, 1, 1, tzinfo=UTC)
FEBRUARY = datetime(2026, 2, 1, tzinfo=UTC)


def open_lines(count: int, *, named: str = "inv~k~20260131~" + "a" * 20) -> pl.DataFrame:
    """STANDING of one contract's January, with commas, quotes and nulls in it."""
    rows = [
        {
            "line_id": f"k~20260101~{index:020x}",
            "customer": "c",
            "contract": "k",
            "product": None if index % 5 == 4 else "p",
            "meter": "m" if index % 2 else None,
            "dimensions": '{"region":"e,u \\"x\\""}' if index % 3 else "{}",
            "timing": "arrears",
            "period_start": JANUARY,
            "period_end": FEBRUARY if index % 4 else None,
            "currency": "USD",
            "quantity": Decimal(index) / 8,
            "amount": Decimal(index) - 2,
            "kind": "usage",
            "status": "open",
            "event_count": index,
            "price_version": "v",
            "billing_start": JANUARY,
            "billing_end": FEBRUARY,
            "accounting_date": date(2026, 1, 31),
            "document": named,
            "entity": "",
            "payer": "c",
        }
        for index in range(count)
    ]
    return pl.DataFrame(rows, schema=STANDING, orient="row")


def month(text: str, *, lines: int = 2) -> NewMonth:
    """A month to close."""
    facts = {"lines": lines, "checksum": "x"}
    return NewMonth(
        month=text,
        as_of=Micros(900),
        facts=facts,
        unsettled=frozenset(),
        lines=lines,
        checksum="x",
    )


def entry(mark: Mark, closed_by: str | None = None) -> Entry:
    """A writing decided on ``mark``."""
    return Entry(mark=mark, as_of=Micros(900), engine="1", after=Micros(950), closed_by=closed_by)


def document(
    name: str = "a",
    entity: str = "",
    *,
    kind: DocumentKind = DocumentKind.INVOICE,
    taken_back: str | None = None,
) -> pl.DataFrame:
    """NEW_DOCUMENTS of one to issue: the first one of its name."""
    id_ = f"inv~k~20260131~{name * 20}"
    series = "INV-" if kind is DocumentKind.INVOICE else "CN-"
    row = {
        "id": id_ if taken_back is None else f"cn~{name}",
        "kind": kind.value,
        "document": id_,
        "issue": 1,
        "entity": entity,
        "prefix": f"{entity}-" if entity else series,
        "customer": "c",
        "contract": "k",
        "accounting_date": date(2026, 1, 31),
        "credits": taken_back,
        "head": '{"customer":"c"}',
        "lines_checksum": "x",
    }
    return pl.DataFrame([row], schema=NEW_DOCUMENTS)
