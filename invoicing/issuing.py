"""Issuing and voiding: drafts become numbered documents, credit notes take documents back."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import polars as pl

from catalog.clock import Micros, to_datetime, to_rfc3339
from catalog.errors import Conflict
from catalog.snapshot import Catalog
from invoicing.ports import NEW_DOCUMENTS, DocumentKind
from invoicing.preparing import Drafts, heads_of
from rating.engine import ENGINE

INVOICE_PREFIX = "INV-"
CREDIT_PREFIX = "CN-"
IDENTITY = ("id", "kind", "number", "issued_at")
"""The members of a document's JSON that are given when it is issued."""


class TaxRateMissing(Conflict):
    """The tax engine has no rate for a line: the invoice waits, it is never zero by accident."""

    code = "tax_rate_missing"


class InvoiceNotIssued(Conflict):
    """Only what was issued can be voided."""

    code = "invoice_not_issued"


class InvoiceVoid(Conflict):
    """The invoice was voided; what it billed is on another draft."""

    code = "invoice_void"


def due_drafts(heads: pl.DataFrame, *, now: Micros, grace: timedelta) -> pl.DataFrame:
    """The DRAFTS that may be issued: their billing period is over (and the grace after it).

    In advance a period is due when it begins. What is closed is due: its month is over.
    """
    moment = pl.lit(to_datetime(now))
    begun = pl.col("billing_start") <= moment
    ended = (pl.col("billing_end") + grace <= moment).fill_null(value=False)
    first_day = pl.col("accounting_date") <= pl.col("billing_start").dt.date().dt.offset_by("1d")
    early = (pl.col("timing") == "advance") | ((pl.col("timing") == "once") & first_day)
    return heads.filter(pl.col("closed") | pl.when(early).then(begun).otherwise(ended))


def new_invoices(
    drafts: Drafts,
    heads: pl.DataFrame,
    issues: Mapping[str, int],
    *,
    catalog: Catalog,
    as_of: Micros,
) -> pl.DataFrame:
    """NEW_DOCUMENTS for some of the heads of ``drafts``, in their order.

    ``issues`` counts how often a document was issued before.
    """
    more = [
        pl.lit(to_rfc3339(as_of)).alias("as_of"),
        pl.lit(ENGINE).alias("engine"),
        pl.col("lines"),
    ]
    mine = drafts.taxed.join(heads.select("document"), on="document", how="semi")
    before = [issues.get(document, 0) for document in heads["document"]]
    told = heads.join(_line_digests(drafts.lines), on="document", how="left", maintain_order="left")
    entity = pl.col("entity")
    prefix = pl.when(entity == "").then(entity).otherwise(entity + "-") + INVOICE_PREFIX
    return told.with_columns(
        issue=pl.Series(before, dtype=pl.Int64) + 1,
        kind=pl.lit(DocumentKind.INVOICE.value),
        prefix=prefix,
        credits=pl.lit(None, pl.String),
        head=heads_of(heads, mine, catalog=catalog, more=more),
    ).select(issued_as().alias("id"), *(name for name in NEW_DOCUMENTS if name != "id"))


def issued_as() -> pl.Expr:
    """The id of a ``document`` that is issued for the ``issue``-th time; see :func:`issue_id`."""
    again = pl.concat_str("document", pl.col("issue").cast(pl.String), separator="~")
    return pl.when(pl.col("issue") == 1).then("document").otherwise(again)


def credit_note(issued: Mapping[str, Any], *, issue: int, reason: str | None) -> pl.DataFrame:
    """NEW_DOCUMENTS of what takes back ``issued`` (a row of DOCUMENTS), whole: amounts negated."""
    head = json.loads(issued["head"])
    taxes = [
        tax | {"base": _negated(tax["base"]), "amount": _negated(tax["amount"])}
        for tax in head["taxes"]
    ]
    amounts = {name: _negated(head[name]) for name in ("subtotal", "tax", "total")}
    id_ = f"cn~{issued['id'].removeprefix('inv~')}"
    told = {"credits": issued["id"], "reason": reason, "credited_number": head["number"]}
    own = {name: value for name, value in head.items() if name not in IDENTITY}
    row = {
        "id": id_,
        "kind": DocumentKind.CREDIT_NOTE.value,
        "document": issued["document"],
        "issue": issue,
        "entity": issued["entity"],
        "prefix": number_prefix(issued["entity"], CREDIT_PREFIX),
        "customer": issued["customer"],
        "contract": issued["contract"],
        "accounting_date": issued["accounting_date"],
        "credits": issued["id"],
        "head": json.dumps(own | amounts | {"taxes": taxes} | told),
        "lines_checksum": issued["checksum"],
    }
    return pl.DataFrame([row], schema=NEW_DOCUMENTS)


def number_prefix(entity: str, series: str) -> str:
    """What comes before the digits: every entity counts its own documents."""
    return f"{entity}-{series}" if entity else series


def _negated(text: str) -> str:
    zero = not text.strip("-0.")
    return text if zero else text[1:] if text.startswith("-") else f"-{text}"


def _line_digests(lines: pl.DataFrame) -> pl.DataFrame:
    """One digest (``lines_checksum``) for the lines of each document, in their order."""
    told = lines.group_by("document", maintain_order=True).agg(
        pl.concat_str("line_id", pl.col("amount").cast(pl.String), separator="=").str.join("\n")
    )
    digests = [hashlib.sha256(text.encode()).hexdigest() for text in told["line_id"]]
    return told.select("document", lines_checksum=pl.Series(digests, dtype=pl.String))
