"""What an export reads, by position: closed lines, or issued documents with their lines."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import orjson
import polars as pl

from catalog.errors import Unavailable
from invoicing.closed import CLOSED, DOCUMENTS, ClosedLines
from invoicing.tax import TAXED

MOVING = ("invoice", "invoice_number")
"""Columns of CLOSED that tell what stands now: no part of what is handed over twice alike."""

LINES_READ = pl.Schema({name: dtype for name, dtype in CLOSED.items() if name not in MOVING})
BILLED = pl.Schema(
    {
        **LINES_READ,
        "document_id": pl.String(),
        "number": pl.String(),
        "document_kind": pl.String(),
        "credits": pl.String(),
        "document_date": pl.Date(),
        "tax": pl.Decimal(38, 6),
        "net": pl.Decimal(38, 6),
        "gross": pl.Decimal(38, 6),
    }
)
"""One row a line of an issued document, signed as the document is (a credit note's are turned).

``amount`` is the line as closed, ``tax`` its tax, ``net`` without and ``gross`` with it.
``document_date`` is the day (UTC) of issue. Of a line that is not on a document, as in
:attr:`Stream.LINES`, the document's columns are null, ``tax`` 0, ``net`` = ``gross`` =
``amount``."""


class Stream(StrEnum):
    """What positions count: closed lines (``sequence``) or issued documents (``position``)."""

    LINES = "lines"
    DOCUMENTS = "documents"


class DocumentChanged(Unavailable):
    """A document's lines are not as many as it was issued with: nothing of it is handed over."""

    code = "document_changed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """A stretch of a stream: positions in ``(after, upto]``.

    ``lines`` are BILLED, in order of position (of the document, then of the line).
    ``documents`` are DOCUMENTS; empty in the stream of lines.
    """

    stream: Stream
    after: int
    upto: int
    lines: pl.DataFrame
    documents: pl.DataFrame


def read_batch(
    closed: ClosedLines, stream: Stream, *, after: int, limit: int, upto: int | None = None
) -> Batch:
    """At most ``limit`` positions beyond ``after``, none beyond ``upto``. The same every time.

    Raises:
        DocumentChanged: a document's lines cannot be read back as they were issued.
    """
    count = limit if upto is None else min(limit, upto - after)
    if stream is Stream.LINES:
        rows = closed.closed_after(after, limit=count)
        end = after if rows.is_empty() else int(rows["sequence"][-1])
        return Batch(stream=stream, after=after, upto=end, lines=_unbilled(rows), documents=_none())
    documents = closed.issued_after(after, limit=count)
    end = after if documents.is_empty() else int(documents["position"][-1])
    lines = [_billed(closed, row) for row in documents.iter_rows(named=True)]
    return Batch(
        stream=stream,
        after=after,
        upto=end,
        lines=pl.concat(lines) if lines else pl.DataFrame(schema=BILLED),
        documents=documents,
    )


def _none() -> pl.DataFrame:
    return pl.DataFrame(schema=DOCUMENTS)


def _unbilled(rows: pl.DataFrame) -> pl.DataFrame:
    """Closed lines as BILLED, on no document."""
    filled = rows.with_columns(
        tax=pl.lit(0), net=pl.col("amount"), gross=pl.col("amount"), document_date=None
    ).with_columns(pl.lit(None).alias(name) for name in BILLED if name.startswith("document_"))
    named = filled.with_columns(
        pl.lit(None).alias(name) for name in ("document_id", "number", "credits")
    )
    return named.select(pl.col(name).cast(dtype) for name, dtype in BILLED.items())


def _billed(closed: ClosedLines, document: dict[str, Any]) -> pl.DataFrame:
    """The lines of one document, with their tax, signed as the document is."""
    head = orjson.loads(str(document["head"]))
    # A line that was closed onto the same document after it was issued (and voided) is no part
    # of this issue.
    lines = closed.lines_of(str(document["document"])).filter(
        pl.col("recorded_at") <= document["recorded_at"]
    )
    if lines.height != head["lines"]:
        raise DocumentChanged(
            f"{document['id']} was issued with {head['lines']} lines and has {lines.height}"
        )
    sign = -1 if document["kind"] == "credit_note" else 1
    joined = lines.join(_tax_of(head["taxes"]), on="line_id", how="left").with_columns(
        amount=pl.col("amount") * sign,
        tax=pl.col("tax_total").fill_null(0),  # signed as the document is
        inside=pl.col("tax_inside").fill_null(0),
    )
    filled = joined.with_columns(
        net=pl.col("amount") - pl.col("inside"),
        gross=pl.col("amount") - pl.col("inside") + pl.col("tax"),
        document_id=pl.lit(document["id"]),
        number=pl.lit(document["number"]),
        document_kind=pl.lit(document["kind"]),
        credits=pl.lit(document["credits"]),
        document_date=pl.lit(document["recorded_at"]).dt.date(),
    )
    return filled.select(pl.col(name).cast(dtype) for name, dtype in BILLED.items())


def _tax_of(taxes: list[dict[str, object]]) -> pl.DataFrame:
    """Per line: all tax, and what of it is inside the price; as an issued invoice has them."""
    money = {"amount": pl.Decimal(38, 6), "inclusive": pl.Boolean(), "line_id": pl.String()}
    rows = [tuple(row[name] for name in money) for row in taxes]
    text = {name: pl.String() if name == "amount" else kind for name, kind in money.items()}
    frame = pl.DataFrame(rows, schema=text, orient="row").cast({"amount": TAXED["amount"]})
    inside = pl.when("inclusive").then("amount").otherwise(0)
    return frame.group_by("line_id").agg(tax_total=pl.col("amount").sum(), tax_inside=inside.sum())
