"""What an export reads, by position: closed lines, or issued documents with their lines."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

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
        "billed_customer": pl.String(),
        "billed_contract": pl.String(),
        "tax": pl.Decimal(38, 6),
        "net": pl.Decimal(38, 6),
        "gross": pl.Decimal(38, 6),
    }
)
"""One row a line of an issued document, signed as the document is (a credit note's are turned).

``amount`` is the line as closed, ``tax`` its tax, ``net`` without and ``gross`` with it.
``document_date`` is the day (UTC) of issue. ``billed_customer`` gets the document, which may be a
parent of the line's ``customer``; ``billed_contract`` is null where several share it. Of a line
that is not on a document, as in :attr:`Stream.LINES`, the document's columns are null, ``tax`` 0,
``net`` = ``gross`` = ``amount``, and its own customer and contract are billed."""


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
    lines = _billed(documents, closed.lines_issued(after, upto=end))
    return Batch(stream=stream, after=after, upto=end, lines=lines, documents=documents)


def _none() -> pl.DataFrame:
    return pl.DataFrame(schema=DOCUMENTS)


def _unbilled(rows: pl.DataFrame) -> pl.DataFrame:
    """Closed lines as BILLED, on no document."""
    filled = rows.with_columns(
        tax=pl.lit(0),
        net=pl.col("amount"),
        gross=pl.col("amount"),
        billed_customer=pl.col("customer"),
        billed_contract=pl.col("contract"),
    ).with_columns(pl.lit(None).alias(name) for name in BILLED if name.startswith("document_"))
    named = filled.with_columns(
        pl.lit(None).alias(name) for name in ("document_id", "number", "credits")
    )
    return named.select(pl.col(name).cast(dtype) for name, dtype in BILLED.items())


def _billed(documents: pl.DataFrame, lines: pl.DataFrame) -> pl.DataFrame:
    """The lines of documents, with their tax, each signed as the document is."""
    heads = [orjson.loads(head) for head in documents["head"]]
    told = documents.select(
        "document",
        "number",
        "credits",
        document_id="id",
        document_kind="kind",
        billed_customer="customer",
        billed_contract="contract",
        issued_at="recorded_at",
        sign=pl.when(pl.col("kind") == "credit_note").then(-1).otherwise(1),
    )
    # A line that was closed onto the same document after it was issued (and voided) is no part
    # of this issue.
    mine = told.join(lines, on="document", maintain_order="left_right").filter(
        pl.col("recorded_at") <= pl.col("issued_at")
    )
    _check_whole(
        told.with_columns(lines=pl.Series([h["lines"] for h in heads], dtype=pl.Int64)), mine
    )
    taxes = _taxes(zip(documents["id"], (head["taxes"] for head in heads), strict=True))
    joined = mine.join(
        taxes, on=["document_id", "line_id"], how="left", maintain_order="left"
    ).with_columns(
        amount=pl.col("amount") * pl.col("sign"),
        tax=pl.col("tax").fill_null(0),  # signed as the document is
        inside=pl.col("inside").fill_null(0),
    )
    filled = joined.with_columns(
        net=pl.col("amount") - pl.col("inside"),
        gross=pl.col("amount") - pl.col("inside") + pl.col("tax"),
        document_date=pl.col("issued_at").dt.date(),
    )
    return filled.select(pl.col(name).cast(dtype) for name, dtype in BILLED.items())


def _check_whole(documents: pl.DataFrame, lines: pl.DataFrame) -> None:
    """Refuse documents whose ``lines`` are not as many as they were issued with."""
    counts = lines.group_by("document_id").agg(found=pl.len().cast(pl.Int64))
    known = documents.join(counts, on="document_id", how="left", maintain_order="left")
    wrong = known.with_columns(pl.col("found").fill_null(0)).filter(
        pl.col("found") != pl.col("lines")
    )
    for id_, issued, found in wrong.select("document_id", "lines", "found").iter_rows():
        raise DocumentChanged(f"{id_} was issued with {issued} lines and has {found}")


def _taxes(told: Iterable[tuple[str, list[dict[str, object]]]]) -> pl.DataFrame:
    """Per document and line: all tax, and what of it is inside the price; as issued."""
    rows = [
        (id_, tax["line_id"], tax["amount"], tax["inclusive"])
        for id_, taxes in told
        for tax in taxes
    ]
    text = dict.fromkeys(("document_id", "line_id", "amount"), pl.String())
    frame = pl.DataFrame(rows, schema=text | {"inclusive": pl.Boolean()}, orient="row")
    amount = pl.col("amount").cast(TAXED["amount"])
    inside = pl.when("inclusive").then(amount).otherwise(0)
    return frame.group_by("document_id", "line_id").agg(tax=amount.sum(), inside=inside.sum())
