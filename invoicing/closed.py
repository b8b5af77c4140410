"""Closed lines: what every consumer downstream reads, by position.

A line is closed once, by a month's close or by an invoice's issue, and is never changed
afterwards. Consumers (exports, journals, reports) remember the last ``sequence`` they have dealt
with and ask for what comes after it; issued documents have ``position`` for the same purpose.
"""

from __future__ import annotations

from typing import Protocol

import polars as pl

from rating.frames import BILLING, INSTANT, LINES

CLOSED = pl.Schema(
    {
        **LINES,
        "billing_start": BILLING["billing_start"],
        "billing_end": BILLING["billing_end"],
        "accounting_date": BILLING["accounting_date"],
        "sequence": pl.Int64(),
        "document": pl.String(),
        "entity": pl.String(),
        "closed_by": pl.String(),
        "recorded_at": INSTANT,
        "as_of": INSTANT,
        "engine": pl.String(),
        "checksum": pl.String(),
        "invoice": pl.String(),
        "invoice_number": pl.String(),
    }
)
"""One row a closed line: LINES as it was closed (``status`` closed), and

``sequence`` 1, 2, 3, … without gaps, in the order of closing. ``document`` is the id of the
document it belongs on, issued or not; ``invoice`` and ``invoice_number`` are those of the one that
stands issued *now* (null: not invoiced, or voided), and the only columns that may differ between
two reads. ``entity`` is the seller's legal entity ("": the only one). ``closed_by`` is the month
or the document whose closing it was. ``checksum`` is the SHA-256 of the line's CSV row."""

DOCUMENTS = pl.Schema(
    {
        "position": pl.Int64(),
        "id": pl.String(),
        "kind": pl.String(),
        "number": pl.String(),
        "document": pl.String(),
        "entity": pl.String(),
        "customer": pl.String(),
        "contract": pl.String(),
        "accounting_date": pl.Date(),
        "credits": pl.String(),
        "recorded_at": INSTANT,
        "as_of": INSTANT,
        "head": pl.String(),
        "checksum": pl.String(),
    }
)
"""One row an issued document: ``kind`` is ``invoice`` or ``credit_note``; ``credits`` is the
invoice that a credit note takes back, whole. ``head`` is the document's JSON but for its lines
(amounts, tax, timing, period); they are the closed lines of ``document``."""


class ClosedLines(Protocol):
    """What is closed and issued, in the order it became so. Reads only; safe from any thread."""

    def closed_after(self, sequence: int, *, limit: int) -> pl.DataFrame:
        """CLOSED with greater sequences, at most ``limit`` rows, in order of sequence."""
        ...

    def issued_after(self, position: int, *, limit: int) -> pl.DataFrame:
        """DOCUMENTS with greater positions, at most ``limit`` rows, in order of position."""
        ...

    def lines_issued(self, after: int, *, upto: int) -> pl.DataFrame:
        """CLOSED of the documents at positions in ``(after, upto]``, in the order of LINES_ORDER.

        Each line once, whichever of these documents (an invoice, what takes it back) it is on.
        """
        ...

    def lines_of(self, *documents: str) -> pl.DataFrame:
        """CLOSED of a page of documents, in the order of LINES_ORDER; empty: none is closed."""
        ...

    def line(self, line_id: str) -> pl.DataFrame:
        """CLOSED of one line, an adjustment or not; empty while it is open."""
        ...
