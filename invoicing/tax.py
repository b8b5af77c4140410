"""Tax as a port: who knows the rates. Without a rate an invoice waits: never zero by accident."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import polars as pl

from catalog.snapshot import Catalog
from rating.frames import AMOUNT

TAXABLE = pl.Schema(
    {
        "document": pl.String(),
        "line_id": pl.String(),
        "entity": pl.String(),
        "customer": pl.String(),
        "contract": pl.String(),
        "product": pl.String(),
        "kind": pl.String(),
        "currency": pl.String(),
        "amount": AMOUNT,
        "tax_date": pl.Date(),
    }
)
"""One row a line of a document that is about to be issued or shown. ``customer`` is who the line
is of (a member of the family, where documents are grouped); ``product`` is null for lines of a
whole contract. ``tax_date`` is the document's accounting date: the day whose rates hold. All lines
of a document are in one frame and share ``entity``, ``currency`` and ``tax_date``."""

TAXED = pl.Schema(
    {
        "document": pl.String(),
        "line_id": pl.String(),
        "jurisdiction": pl.String(),
        "code": pl.String(),
        "rate": pl.Decimal(38, 12),
        "inclusive": pl.Boolean(),
        "base": AMOUNT,
        "amount": AMOUNT,
    }
)
"""One row a line and tax, rounded to the currency's minor units; tax that is rounded once an
invoice is shared among its lines, so that what is handed on by line adds up. ``rate`` is a fraction
(0.19). ``base`` is the net amount taxed. An ``inclusive`` tax is already in the lines' amounts:
subtotal = sum of lines − inclusive tax, total = subtotal + all tax."""

WAITING = pl.Schema({"document": pl.String(), "reason": pl.String()})
"""Documents that cannot be taxed, one row each, with a sentence for a person: which jurisdiction
and tax code have no rate on which day."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Assessment:
    """TAXED of every document that can be, WAITING for those that cannot: never both for one."""

    taxed: pl.DataFrame
    waiting: pl.DataFrame


class TaxEngine(Protocol):
    """Says what tax a document bears. Pure: the same lines, catalog and table, the same tax."""

    def assess(self, lines: pl.DataFrame, *, catalog: Catalog) -> Assessment:
        """Tax of all documents in ``lines`` (TAXABLE), many at a time.

        ``catalog`` is the one the lines are rated with: customers' metadata, parents, products.
        A document without any row in either frame bears no tax because its engine says so.
        """
        ...


class Untaxed:
    """The engine of a seller that configured none: no tax, and no document waits."""

    def assess(self, lines: pl.DataFrame, *, catalog: Catalog) -> Assessment:
        """Nothing."""
        del lines, catalog
        return Assessment(taxed=pl.DataFrame(schema=TAXED), waiting=pl.DataFrame(schema=WAITING))
