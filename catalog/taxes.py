"""What is added to, or contained in, an invoice for the state: one table a jurisdiction."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from enum import StrEnum

from catalog.ids import JurisdictionId


class TaxPrices(StrEnum):
    """Whether lines are priced without the tax (it is added) or with it (it is taken out)."""

    EXCLUSIVE = "exclusive"
    INCLUSIVE = "inclusive"


class TaxRounding(StrEnum):
    """Where tax is rounded: on every line, or once an invoice for each rate."""

    LINE = "line"
    INVOICE = "invoice"


@dataclass(frozen=True, slots=True, kw_only=True)
class TaxRate:
    """``percent`` of what ``code`` marks, on days in ``[since, until)``; null bounds are open.

    ``code`` null is the rate of products without a tax code, and of lines without a product.
    """

    percent: Decimal
    code: str | None = None
    since: date | None = None
    until: date | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TaxTable:
    """The rates of one jurisdiction. A code's rates follow each other without hole or overlap."""

    id: JurisdictionId
    name: str
    rates: tuple[TaxRate, ...]
    prices: TaxPrices = TaxPrices.EXCLUSIVE
    rounding: TaxRounding = TaxRounding.LINE

    def rate(self, code: str | None, on: date) -> TaxRate | None:
        """The rate of ``code`` on a day, or None: there is no rate to fall back on."""
        for rate in self.rates:
            begun = rate.since is None or rate.since <= on
            if rate.code == code and begun and (rate.until is None or on < rate.until):
                return rate
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class CustomerTax:
    """Where a customer is taxed. ``exempt`` is the reason why nothing is charged, if so.

    ``registration`` is the customer's number there (a VAT id), for the invoice.
    """

    jurisdiction: JurisdictionId
    exempt: str | None = None
    registration: str | None = None
