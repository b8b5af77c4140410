"""Tax by table: the catalog says the rate, whole numbers do the rest.

Nothing is ever taxed at zero because something was missing: a document with a line that has no
rate waits, with the reason named. Zero is charged where a table says 0, or where a customer's
exemption is stated with its reason. A seller who declared no table at all has no tax.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from fractions import Fraction
from typing import Any

import polars as pl

from catalog.contracts import Customer
from catalog.ids import CustomerId, ProductId
from catalog.money import from_units, minor_units, nearest
from catalog.snapshot import Catalog, Chain, T, midnight
from catalog.taxes import CustomerTax, TaxPrices, TaxRounding, TaxTable
from invoicing.tax import TAXABLE, TAXED, WAITING, Assessment

ANCESTORS_MAX = 100

TaxedRow = tuple[str, str, str, str | None, Decimal, bool, Decimal, Decimal]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """A rate as it was found; ``numerator / denominator`` of a line's amount is the tax.

    Lines of one document with equal rates are what is rounded as one.
    """

    jurisdiction: str
    code: str | None
    percent: Decimal
    inclusive: bool
    per_line: bool
    numerator: int
    denominator: int


class TableTax:
    """:class:`invoicing.tax.TaxEngine` over the tax tables of the catalog. Pure.

    TAXED has a row for every line, also where tax is rounded once an invoice: then the lines of
    a rate share what its one rounding comes to, each less than a minor unit off its own.
    """

    def assess(self, lines: pl.DataFrame, *, catalog: Catalog) -> Assessment:
        """Tax of all documents in ``lines`` (TAXABLE)."""
        taxed: list[TaxedRow] = []
        waiting: list[tuple[str, str]] = []
        if catalog.taxes:
            rates = _Rates(catalog)
            for document, members in _documents(lines).items():
                found = [rates.of(row) for row in members]
                reasons = sorted({rate for rate in found if isinstance(rate, str)})
                if reasons:
                    waiting.append((document, "; ".join(reasons)))
                else:
                    taxed += _taxed(members, [rate for rate in found if isinstance(rate, Rate)])
        return Assessment(
            taxed=pl.DataFrame(taxed, schema=TAXED, orient="row"),
            waiting=pl.DataFrame(waiting, schema=WAITING, orient="row"),
        )


def _documents(lines: pl.DataFrame) -> dict[str, list[dict[str, Any]]]:
    found: defaultdict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in lines.select(TAXABLE.names()).iter_rows(named=True):
        found[row["document"]].append(row)
    return found


def _taxed(members: list[dict[str, Any]], rates: list[Rate]) -> list[TaxedRow]:
    """TAXED rows of one document.

    Shared roundings follow what has accrued so far, so they add up to that of the whole.
    """
    accrued: dict[Rate, int] = {}
    given: dict[Rate, int] = {}
    rows: list[TaxedRow] = []
    for line, rate in zip(members, rates, strict=True):
        digits = minor_units(line["currency"])
        units = _units(line["amount"], digits)
        if rate.per_line:
            tax = nearest(units * rate.numerator, rate.denominator)
        else:
            accrued[rate] = accrued.get(rate, 0) + units * rate.numerator
            tax = nearest(accrued[rate], rate.denominator) - given.get(rate, 0)
            given[rate] = given.get(rate, 0) + tax
        rows.append(
            (
                line["document"],
                line["line_id"],
                rate.jurisdiction,
                rate.code,
                rate.percent.scaleb(-2),
                rate.inclusive,
                from_units(units - tax if rate.inclusive else units, digits),
                from_units(tax, digits),
            )
        )
    return rows


def _units(amount: Decimal, digits: int) -> int:
    """An amount in whole minor units."""
    exact: Fraction = Fraction(amount) * 10**digits
    assert exact.denominator == 1, "an amount has more digits than its currency"
    return exact.numerator


class _Rates:
    """The rates of a catalog; each (customer, product, day) is looked up once."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self._found: dict[tuple[str, str | None, date], Rate | str] = {}

    def of(self, line: dict[str, Any]) -> Rate | str:
        """The rate of a line, or why there is none."""
        key = line["customer"], line["product"], line["tax_date"]
        if key not in self._found:
            self._found[key] = self._look_up(*key)
        return self._found[key]

    def _look_up(self, customer: str, product: str | None, on: date) -> Rate | str:
        place = self._place(CustomerId(customer), on)
        if place is None:
            return f"customer {customer} has no tax jurisdiction on {on}"
        table = self._at(self._catalog.taxes.get(place.jurisdiction), on)
        if table is None:
            return f"there is no tax table {place.jurisdiction} on {on}"
        chain = None if product is None else self._catalog.products.get(ProductId(product))
        sold = self._at(chain, on)
        code = sold.tax_code if sold else None
        if place.exempt is not None:
            return _rate(table, code, Decimal(0))
        rate = table.rate(code, on)
        if rate is None:
            of = "products without tax code" if code is None else f"tax code {code}"
            return f"tax table {table.id} has no rate of {of} on {on}"
        return _rate(table, code, rate.percent)

    def _place(self, customer: CustomerId, on: date) -> CustomerTax | None:
        """Where a customer is taxed: as it says itself, else as its parent does."""
        name: CustomerId | None = customer
        for _ in range(ANCESTORS_MAX):
            payer = self._at(self._catalog.customers.get(name), on) if name else None
            if not isinstance(payer, Customer) or payer.tax is not None:
                return payer.tax if payer else None
            name = payer.parent
        return None

    def _at(self, chain: Chain[T] | None, on: date) -> T | None:
        zone = self._catalog.timezone
        return None if chain is None else chain.at(midnight(on, zone), zone)


def _rate(table: TaxTable, code: str | None, percent: Decimal) -> Rate:
    inclusive = table.prices is TaxPrices.INCLUSIVE
    share = Fraction(percent) / (100 + Fraction(percent) if inclusive else 100)
    return Rate(
        jurisdiction=table.id,
        code=code,
        percent=percent,
        inclusive=inclusive,
        per_line=table.rounding is TaxRounding.LINE,
        numerator=share.numerator,
        denominator=share.denominator,
    )
