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
from invoicing.ports import DocumentKind, NewDocument
from invoicing.preparing import Drafts, head_of, taxes_by_document, with_period_text
from rating.engine import ENGINE

INVOICE_PREFIX = "INV-"
CREDIT_PREFIX = "CN-"


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
) -> list[NewDocument]:
    """The documents for some of the heads of ``drafts``, in their order.

    ``issues`` counts how often a document was issued before.
    """
    taxes = taxes_by_document(drafts.taxed)
    digests = _line_digests(drafts.lines)
    found = []
    for draft in with_period_text(heads).iter_rows(named=True):
        document, issue = draft["document"], issues.get(draft["document"], 0) + 1
        head = head_of(draft, issue=issue, taxes=taxes.get(document, []), catalog=catalog)
        more = {"as_of": to_rfc3339(as_of), "engine": ENGINE, "lines": draft["lines"]}
        found.append(
            NewDocument(
                id=head["id"],
                kind=DocumentKind.INVOICE,
                document=document,
                issue=issue,
                entity=draft["entity"],
                prefix=number_prefix(draft["entity"], INVOICE_PREFIX),
                customer=draft["customer"],
                contract=draft["contract"],
                accounting_date=draft["accounting_date"],
                credits=None,
                head=head | more,
                lines_checksum=digests[document],
            )
        )
    return found


def credit_note(issued: Mapping[str, Any], *, issue: int, reason: str | None) -> NewDocument:
    """The document that takes back ``issued`` (a row of DOCUMENTS), whole: every amount negated."""
    head = json.loads(issued["head"])
    taxes = [
        tax | {"base": _negated(tax["base"]), "amount": _negated(tax["amount"])}
        for tax in head["taxes"]
    ]
    amounts = {name: _negated(head[name]) for name in ("subtotal", "tax", "total")}
    id_ = f"cn~{issued['id'].removeprefix('inv~')}"
    told = {"id": id_, "kind": "credit_note", "credits": issued["id"], "reason": reason}
    return NewDocument(
        id=id_,
        kind=DocumentKind.CREDIT_NOTE,
        document=issued["document"],
        issue=issue,
        entity=issued["entity"],
        prefix=number_prefix(issued["entity"], CREDIT_PREFIX),
        customer=issued["customer"],
        contract=issued["contract"],
        accounting_date=issued["accounting_date"],
        credits=issued["id"],
        head=head | amounts | told | {"taxes": taxes, "credited_number": head["number"]},
        lines_checksum=issued["checksum"],
    )


def number_prefix(entity: str, series: str) -> str:
    """What comes before the digits: every entity counts its own documents."""
    return f"{entity}-{series}" if entity else series


def _negated(text: str) -> str:
    zero = not text.strip("-0.")
    return text if zero else text[1:] if text.startswith("-") else f"-{text}"


def _line_digests(lines: pl.DataFrame) -> dict[str, str]:
    """One digest for the lines of each document, in their order."""
    told = lines.group_by("document", maintain_order=True).agg(
        pl.concat_str("line_id", pl.col("amount").cast(pl.String), separator="=").str.join("\n")
    )
    return {
        document: hashlib.sha256(text.encode()).hexdigest() for document, text in told.iter_rows()
    }
