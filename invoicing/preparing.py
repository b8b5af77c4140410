"""Documents in the making: what the books hold and no invoice does, as the invoices it would be."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import polars as pl

from catalog.ids import CustomerId
from catalog.money import minor_units
from catalog.snapshot import Catalog
from invoicing.documents import issue_id
from invoicing.tax import Assessment, TaxEngine
from rating.frames import AMOUNT
from rating.rendering import instant_text

DRAFTS = pl.Schema(
    {
        "document": pl.String(),
        "entity": pl.String(),
        "customer": pl.String(),
        "contract": pl.String(),
        "timing": pl.String(),
        "billing_start": pl.Datetime("us", "UTC"),
        "billing_end": pl.Datetime("us", "UTC"),
        "accounting_date": pl.Date(),
        "currency": pl.String(),
        "amount": AMOUNT,
        "lines": pl.Int64(),
        "closed": pl.Boolean(),
        "inclusive": AMOUNT,
        "tax": AMOUNT,
        "waiting": pl.String(),
    }
)
"""One row a draft: ``amount`` is the sum of its lines, ``inclusive`` the tax that is in it already,
``tax`` all tax. ``contract`` is null where several share it. ``closed``: its lines are. ``waiting``
says why it cannot be taxed yet."""

TAXABLE_COLUMNS = ("document", "line_id", "entity", "customer", "contract", "product", "kind")


@dataclass(frozen=True, slots=True, kw_only=True)
class Drafts:
    """DRAFTS, their lines (STANDING) and the tax on them (TAXED)."""

    heads: pl.DataFrame
    lines: pl.DataFrame
    taxed: pl.DataFrame


def drafts_of(lines: pl.DataFrame, *, tax: TaxEngine, catalog: Catalog) -> Drafts:
    """What of ``lines`` (STANDING) is not on an invoice, by the document it belongs on.

    The lines of an issued document are all closed, so an open line is never on one.
    """
    mine = lines.filter(pl.col("invoice").is_null())
    assessment = tax.assess(taxable(mine), catalog=catalog)
    heads = _grouped(mine).join(_taxes(assessment), on="document", how="left")
    waiting = assessment.waiting.select("document", waiting="reason").unique("document")
    told = heads.join(waiting, on="document", how="left").with_columns(
        pl.col("inclusive", "tax").fill_null(0)
    )
    typed = told.select(pl.col(name).cast(dtype) for name, dtype in DRAFTS.items())
    return Drafts(
        heads=typed.sort("customer", "contract", "timing", "billing_start", "document"),
        lines=mine,
        taxed=assessment.taxed,
    )


def taxable(lines: pl.DataFrame) -> pl.DataFrame:
    """TAXABLE of STANDING."""
    return lines.select(*TAXABLE_COLUMNS, "currency", "amount", tax_date="accounting_date")


def _grouped(lines: pl.DataFrame) -> pl.DataFrame:
    owner = pl.col("document").str.split("~").list.get(1)
    return lines.group_by("document", maintain_order=True).agg(
        pl.col("entity").first(),
        customer=pl.col("payer").first(),
        contract=pl.when((pl.col("contract") == owner).all()).then(pl.col("contract").first()),
        timing=pl.col("timing").first(),
        billing_start=pl.col("billing_start").first(),
        billing_end=pl.col("billing_end").first(),
        accounting_date=pl.col("accounting_date").first(),
        currency=pl.col("currency").first(),
        amount=pl.col("amount").sum(),
        lines=pl.len(),
        closed=pl.col("sequence").is_not_null().all(),
    )


def _taxes(assessment: Assessment) -> pl.DataFrame:
    own = pl.when("inclusive").then(pl.col("amount"))
    return assessment.taxed.group_by("document").agg(
        inclusive=own.sum(), tax=pl.col("amount").sum()
    )


def head_of(
    draft: Mapping[str, Any], *, issue: int, taxes: list[dict[str, Any]], catalog: Catalog
) -> dict[str, Any]:
    """A row of DRAFTS as the document's JSON, but for its lines and, until issued, its number."""
    decimals = minor_units(draft["currency"])
    subtotal = draft["amount"] - draft["inclusive"]
    return {
        "id": issue_id(draft["document"], issue),
        "kind": "invoice",
        "number": None,
        "credits": None,
        "entity": draft["entity"],
        "customer": draft["customer"],
        "customer_name": _name(catalog, draft["customer"]),
        "contract": draft["contract"],
        "timing": draft["timing"],
        "period_start": draft["period_start"],
        "period_end": draft["period_end"],
        "accounting_date": draft["accounting_date"].isoformat(),
        "currency": draft["currency"],
        "subtotal": money_text(subtotal, decimals),
        "tax": money_text(draft["tax"], decimals),
        "total": money_text(subtotal + draft["tax"], decimals),
        "taxes": taxes,
        "issued_at": None,
    }


def money_text(amount: Decimal, decimals: int) -> str:
    """An amount with exactly its currency's digits, never a negative zero."""
    return f"{amount + 0:.{decimals}f}"


def with_period_text(drafts: pl.DataFrame) -> pl.DataFrame:
    """DRAFTS with the billing period as text, ``period_start`` and ``period_end``."""
    return drafts.with_columns(
        drafts.select(
            instant_text("billing_start").alias("period_start"),
            instant_text("billing_end").alias("period_end"),
        )
    )


def taxes_by_document(taxed: pl.DataFrame) -> dict[str, list[dict[str, Any]]]:
    """TAXED as JSON, by document, decimals as text."""
    found: dict[str, list[dict[str, Any]]] = {}
    for row in taxed.iter_rows(named=True):
        told = {
            name: _plain(value) if isinstance(value, Decimal) else value
            for name, value in row.items()
            if name != "document"
        }
        found.setdefault(row["document"], []).append(told)
    return found


def _plain(number: Decimal) -> str:
    text = f"{number:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def _name(catalog: Catalog, customer: str) -> str:
    chain = catalog.customers.get(CustomerId(customer))
    return chain.last.name if chain and chain.versions else customer
