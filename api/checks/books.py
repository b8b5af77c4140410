"""The books against themselves: checksums, months, documents, and lines against invoices.

Amounts are summed per currency, exactly. Nothing is rated: what is closed does not depend on it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import polars as pl

from api.checks.report import Check
from catalog.clock import EVER
from catalog.errors import Unavailable
from catalog.periods import PeriodSpec
from invoicing.closing import amounts_of
from rating.frames import LINES, sorted_lines
from rating.rendering import checksum
from storage.sql.books import SqlBooks

STORE = "books"


def check_books(books: SqlBooks) -> Iterator[Check]:
    """Every check of what is closed and issued."""
    try:
        closed = books.closed(as_of=EVER)
        documents = books.documents(as_of=EVER)
        yield _lines(books, closed)
        yield _months(books, closed)
        yield _numbers(documents)
        yield _invoiced(closed, documents)
    except Unavailable as error:
        yield Check.well("books", STORE, None, "").unavailable(error.detail)


def _lines(books: SqlBooks, closed: pl.DataFrame) -> Check:
    """Sequences have no gaps, and each line is the bytes it was closed as."""
    well = Check.well("closed_lines", STORE, None, f"{closed.height} lines are as they were closed")
    for expected, (sequence, row, said) in enumerate(books.raw_lines(), start=1):
        if sequence != expected:
            return well.differs(None, f"closed line {expected} is missing")
        if hashlib.sha256(row.encode()).hexdigest() != said:
            return well.differs(None, f"closed line {sequence} is not what its checksum says")
    return well


def _months(books: SqlBooks, closed: pl.DataFrame) -> Check:
    """A closed month is the lines, the checksum and the amounts that its close answered."""
    months = books.state(as_of=EVER).months
    well = Check.well("periods", STORE, None, f"{len(months)} closed months are what they were")
    for month in months:
        spec, said = PeriodSpec.parse(month.month), json.loads(month.body)
        day = pl.col("accounting_date")
        mine = closed.filter(day.is_between(spec.first, spec.until, closed="left"))
        lines = sorted_lines(mine.select(list(LINES)))
        found = {
            "lines": lines.height,
            "checksum": checksum(lines),
            "amounts": amounts_of(lines),
        }
        for name, value in found.items():
            if value != said[name]:
                return well.differs(
                    None, f"{month.month}: {name} is {value}, it was closed as {said[name]}"
                )
    return well


def _numbers(documents: pl.DataFrame) -> Check:
    """Every series counts 1, 2, 3, … in the order of issue."""
    well = Check.well("numbers", STORE, None, f"{documents.height} documents, no number missing")
    series: dict[str, int] = {}
    for number in documents["number"]:
        prefix, _, digits = number.rpartition("-")
        series[prefix] = series.get(prefix, 0) + 1
        if int(digits) != series[prefix]:
            return well.differs(None, f"{prefix}-{series[prefix]:06d} is missing before {number}")
    return well


def _invoiced(closed: pl.DataFrame, documents: pl.DataFrame) -> Check:
    """Closed = invoiced + not yet invoiced, where invoiced is what standing documents say."""
    billed = amounts_of(closed.filter(pl.col("invoice").is_not_null()))
    unbilled = amounts_of(closed.filter(pl.col("invoice").is_null()))
    detail = f"closed {amounts_of(closed)} = invoiced {billed} + not yet invoiced {unbilled}"
    well = Check.well("invoices", STORE, None, detail)
    said = _standing_sums(documents)
    for currency in sorted(billed.keys() | said.keys()):
        ours, theirs = Decimal(billed.get(currency, "0")), said.get(currency, Decimal(0))
        if ours != theirs:
            return well.differs(
                None, f"{currency}: invoices say {theirs}, their closed lines come to {ours}"
            )
    return well


def _standing_sums(documents: pl.DataFrame) -> dict[str, Decimal]:
    """What standing invoices say their lines come to, by currency, inclusive tax in it."""
    voided = documents["credits"].drop_nulls().implode()
    standing = documents.filter(pl.col("kind") == "invoice", ~pl.col("id").is_in(voided))
    sums: dict[str, Decimal] = {}
    for text in standing["head"]:
        head: dict[str, Any] = json.loads(text)
        inclusive = sum(
            (Decimal(tax["amount"]) for tax in head["taxes"] if tax["inclusive"]), Decimal(0)
        )
        sums.setdefault(head["currency"], Decimal(0))
        sums[head["currency"]] += Decimal(head["subtotal"]) + inclusive
    return sums
