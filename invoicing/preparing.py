"""Documents in the making: what the books hold and no invoice does, as the invoices it would be."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

from catalog.ids import CustomerId
from catalog.money import minor_units
from catalog.snapshot import Catalog
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

_TAX_MEMBERS = {
    "line_id": pl.String,
    "jurisdiction": pl.String,
    "code": pl.String,
    "rate": pl.String,
    "inclusive": pl.Boolean,
    "base": pl.String,
    "amount": pl.String,
}
_TAXES = pl.List(pl.Struct(_TAX_MEMBERS))
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


def heads_of(
    drafts: pl.DataFrame, taxed: pl.DataFrame, *, catalog: Catalog, more: Sequence[pl.Expr] = ()
) -> pl.Series:
    """Each of DRAFTS as the document's JSON text, without its identity and its lines.

    What identifies it (id, kind, number, issued_at) is added by whoever numbers it. ``more`` are
    further members. Thousands of documents cost what their text costs: no object is made of one.
    """
    currencies = sorted(drafts["currency"].unique())
    net = pl.col("amount") - pl.col("inclusive")
    told = drafts.join(_taxes_told(taxed), on="document", how="left", maintain_order="left")
    members = [
        pl.lit(None, pl.String).alias("credits"),
        "entity",
        "customer",
        _names(drafts["customer"], catalog),
        "contract",
        "timing",
        instant_text("billing_start").alias("period_start"),
        instant_text("billing_end").alias("period_end"),
        pl.col("accounting_date").dt.strftime("%Y-%m-%d"),
        "currency",
        _money(net, currencies).alias("subtotal"),
        _money(pl.col("tax"), currencies).alias("tax"),
        _money(net + pl.col("tax"), currencies).alias("total"),
        pl.col("taxes").fill_null(pl.lit([], dtype=_TAXES)),
        *more,
    ]
    return told.select(pl.struct(members).struct.json_encode().alias("head"))["head"]


def _money(amount: pl.Expr, currencies: Sequence[str]) -> pl.Expr:
    """An amount with exactly its currency's digits."""
    text = pl.lit(None, dtype=pl.String)
    for currency in currencies:
        digits = pl.Decimal(38, minor_units(currency))
        own = amount.cast(digits).cast(pl.String)
        text = pl.when(pl.col("currency") == currency).then(own).otherwise(text)
    return text


def _names(customers: pl.Series, catalog: Catalog) -> pl.Series:
    chains = (catalog.customers.get(CustomerId(customer)) for customer in customers)
    named = [
        chain.last.name if chain and chain.versions else customer
        for customer, chain in zip(customers, chains, strict=True)
    ]
    return pl.Series("customer_name", named, dtype=pl.String)


def _taxes_told(taxed: pl.DataFrame) -> pl.DataFrame:
    """TAXED as it is told, a list a document, decimals as text."""
    numbers = (pl.col(name).cast(pl.String) for name in ("rate", "base", "amount"))
    plain = (text.str.strip_chars_end("0").str.strip_chars_end(".") for text in numbers)
    told = taxed.with_columns(plain).select("document", taxes=pl.struct(*_TAX_MEMBERS))
    return told.group_by("document", maintain_order=True).agg("taxes")
