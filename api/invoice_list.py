"""A list of documents, of which only what is shown is made into JSON."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import polars as pl

from catalog.clock import Micros
from catalog.snapshot import Catalog
from invoicing.documents import issue_id
from invoicing.drafts import InvoiceStatus
from invoicing.ports import DocumentKind
from invoicing.preparing import Drafts, heads_of
from rating.frames import LINES
from rating.rendering import instant_text

_ORDER = ("customer", "contract", "timing", "period_start", "id")


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """One invoice or credit note as JSON, but for its lines; ``lines`` are LINES where at hand."""

    head: Mapping[str, Any]
    document: str
    lines: pl.DataFrame | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PreparedDrafts:
    """Drafts, and the catalog they were made with."""

    drafts: Drafts
    catalog: Catalog


@dataclass(frozen=True, slots=True, kw_only=True)
class InvoiceList:
    """Documents by customer, contract, timing, period and id, as of one instant.

    ``places`` has a row a document: ``id``, ``document``, its place ``row`` in ``issued``
    (DOCUMENTS) where it was issued, else null: then it is one of ``prepared``.
    """

    places: pl.DataFrame
    issued: pl.DataFrame
    credits: Mapping[str, Mapping[str, str]]
    prepared: PreparedDrafts | None
    as_of: Micros

    def __len__(self) -> int:
        return self.places.height

    @property
    def size(self) -> int:
        """How many rows it holds in memory."""
        held = 0 if self.prepared is None else self.prepared.drafts.lines.height
        return self.places.height + self.issued.height + held + 1

    def documents(self, start: int = 0, end: int | None = None) -> list[Document]:
        """Those from ``start`` to before ``end``; issued ones without their lines."""
        places = self.places[start:end]
        drafts = iter(self._drafts(places.filter(pl.col("row").is_null())))
        found = []
        for (row,) in places.select("row").iter_rows():
            if row is None:
                found.append(next(drafts))
            else:
                found.append(as_issued(self.issued.row(row, named=True), self.credits))
        return found

    def _drafts(self, places: pl.DataFrame) -> list[Document]:
        if self.prepared is None or places.is_empty():
            return []
        return drafts_told(self.prepared, dict(places.select("document", "id").iter_rows()))


def in_order(
    issued: pl.DataFrame,
    credits_: Mapping[str, Mapping[str, str]],
    prepared: PreparedDrafts | None,
    issues: Counter[str],
    as_of: Micros,
) -> InvoiceList:
    """Put documents (DOCUMENTS) and drafts in order; ``issues`` as of :func:`draft_ids`."""
    parts = [_issued_places(issued)]
    if prepared is not None:
        parts.append(_draft_places(prepared.drafts.heads, issues))
    keys = [pl.col(name).fill_null("") for name in _ORDER]
    places = pl.concat(parts).sort(keys).select("id", "document", "row")
    return InvoiceList(
        places=places, issued=issued, credits=credits_, prepared=prepared, as_of=as_of
    )


def draft_ids(heads: pl.DataFrame, issues: Counter[str]) -> pl.Series:
    """The id of each of DRAFTS; ``issues``: how often each document was issued before."""
    ids = [issue_id(name, issues[name] + 1) for name in heads["document"]]
    return pl.Series("id", ids, dtype=pl.String)


def drafts_told(prepared: PreparedDrafts, ids: Mapping[str, str]) -> list[Document]:
    """The drafts of the documents that ``ids`` names, as JSON with their lines, in its order."""
    drafts = prepared.drafts
    wanted = pl.DataFrame({"document": list(ids)}, schema={"document": pl.String})
    heads = wanted.join(drafts.heads, on="document", how="left", maintain_order="left")
    taxed = drafts.taxed.join(wanted, on="document", how="semi")
    texts = heads_of(heads, taxed, catalog=prepared.catalog)
    own = drafts.lines.join(wanted, on="document", how="semi", maintain_order="left")
    lines = {
        str(document): part.select(list(LINES))
        for (document,), part in own.group_by("document", maintain_order=True)
    }
    found = []
    told = heads.select("document", "waiting").iter_rows()
    for text, (name, waiting) in zip(texts, told, strict=True):
        identity = {"id": ids[name], "kind": DocumentKind.INVOICE.value}
        head = identity | {"number": None, "issued_at": None} | json.loads(text)
        more = {"status": InvoiceStatus.DRAFT.value, "waiting": waiting}
        found.append(Document(head=head | more, document=name, lines=lines[name]))
    return found


def as_issued(row: Mapping[str, Any], credits_: Mapping[str, Mapping[str, str]]) -> Document:
    """A row of DOCUMENTS as JSON; ``credits_`` is the credit note of each invoice with one."""
    note = credits_.get(row["id"])
    status = InvoiceStatus.ISSUED if note is None else InvoiceStatus.VOID
    more = {"status": status.value, "credit_note": note, "checksum": row["checksum"]}
    return Document(head=json.loads(row["head"]) | more, document=row["document"])


def credits_in(rows: pl.DataFrame) -> dict[str, dict[str, str]]:
    """The credit note of each invoice that has one, of DOCUMENTS."""
    notes = rows.filter(pl.col("credits").is_not_null())
    return {
        invoice: {"id": id_, "number": number}
        for invoice, id_, number in notes.select("credits", "id", "number").iter_rows()
    }


def timing_of(head: str = "head") -> pl.Expr:
    """The timing in the JSON of DOCUMENTS."""
    return pl.col(head).str.json_path_match("$.timing")


def _issued_places(issued: pl.DataFrame) -> pl.DataFrame:
    return issued.with_row_index("row").select(
        "customer",
        "contract",
        timing_of().alias("timing"),
        pl.col("head").str.json_path_match("$.period_start").alias("period_start"),
        "id",
        "document",
        "row",
    )


def _draft_places(heads: pl.DataFrame, issues: Counter[str]) -> pl.DataFrame:
    return heads.with_columns(draft_ids(heads, issues)).select(
        "customer",
        "contract",
        "timing",
        instant_text("billing_start").alias("period_start"),
        "id",
        "document",
        pl.lit(None, pl.UInt32).alias("row"),
    )
