"""Tax by table: the catalog says the rate, whole numbers do the rest.

Nothing is ever taxed at zero because something was missing: a document with a line that has no
rate waits, with the reason named. Zero is charged where a table says 0, or where a customer's
exemption is stated with its reason. A seller who declared no table at all has no tax.

Customers, products and rates are each looked up once a day of tax and joined to the lines; the
arithmetic is 128-bit whole numbers, in columns, whose reach is checked: they wrap without a word.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date
from decimal import Decimal
from fractions import Fraction

import polars as pl

from catalog.clock import Micros
from catalog.contracts import Customer
from catalog.errors import OutOfRange
from catalog.ids import CustomerId, JurisdictionId, ProductId
from catalog.snapshot import Catalog, Chain, T, midnight
from catalog.taxes import CustomerTax, TaxPrices, TaxRounding, TaxTable
from invoicing.tax import TAXABLE, TAXED, WAITING, Assessment
from rating.rounding import from_millionths, minor_steps, nearest_whole

ANCESTORS_MAX = 100
UNITS_MAX = 2**126 // (2 * 10**8)
"""Minor units of all lines together: twice that times a rate (of at most 10^8 / 10^8, six decimals
of a per cent) fits 128 bits. Some 10^8 lines of the greatest amount there is stay below."""
_PLACES = {
    "customer": pl.String(),
    "tax_date": pl.Date(),
    "jurisdiction": pl.String(),
    "exempt": pl.Boolean(),
    "homeless": pl.String(),
}
_CODES = {"product": pl.String(), "tax_date": pl.Date(), "code": pl.String()}
_RATE_KEY = {
    "jurisdiction": pl.String(),
    "exempt": pl.Boolean(),
    "code": pl.String(),
    "tax_date": pl.Date(),
}
_RATES = {
    **_RATE_KEY,
    "reason": pl.String(),
    "percent": pl.Decimal(38, 12),
    "inclusive": pl.Boolean(),
    "per_line": pl.Boolean(),
    "numerator": pl.Int128(),
    "denominator": pl.Int128(),
}
"""``numerator / denominator`` of a line's amount is the tax; ``reason`` is why there is no rate."""
_RATE = ("jurisdiction", "code", "percent", "inclusive", "per_line")
"""Lines of one document that agree in these are what is rounded as one."""


class TableTax:
    """:class:`invoicing.tax.TaxEngine` over the tax tables of the catalog. Pure.

    TAXED has a row for every line, also where tax is rounded once an invoice: then the lines of
    a rate share what its one rounding comes to, each less than a minor unit off its own.
    """

    def assess(self, lines: pl.DataFrame, *, catalog: Catalog) -> Assessment:
        """Tax of all documents in ``lines`` (TAXABLE), in the order of documents and lines."""
        if not catalog.taxes or lines.is_empty():
            return Assessment(taxed=TAXED.to_frame(), waiting=WAITING.to_frame())
        rated = _measured(_rated(lines.select(TAXABLE.names()), catalog))
        waiting = _waiting(rated)
        ready = rated.join(waiting, on="document", how="anti", maintain_order="left")
        return Assessment(taxed=_taxed(ready), waiting=waiting)


def _rated(lines: pl.DataFrame, catalog: Catalog) -> pl.DataFrame:
    """The lines, document by document, each with its rate, or with the ``reason`` it has none."""
    look_up = _Catalogued(catalog)
    places = look_up.places(lines.select("customer", "tax_date").unique())
    codes = look_up.codes(lines.select("product", "tax_date").unique())
    known = lines.join(places, on=["customer", "tax_date"], how="left", maintain_order="left").join(
        codes, on=["product", "tax_date"], how="left", nulls_equal=True, maintain_order="left"
    )
    settled = known.filter(pl.col("homeless").is_null())
    rates = look_up.rates(settled.select(list(_RATE_KEY)).unique())
    found = known.join(
        rates, on=list(_RATE_KEY), how="left", nulls_equal=True, maintain_order="left"
    )
    first = pl.col("place").min().over("document")
    return (
        found.with_columns(reason=pl.coalesce("homeless", "reason"))
        .with_row_index("place")
        .sort(first, "place")
    )


def _measured(rated: pl.DataFrame) -> pl.DataFrame:
    """The lines with ``units``, their amounts in whole minor units, ``step`` AMOUNT's each."""
    measured = rated.with_columns(step=minor_steps(rated), micros=pl.col("amount").to_physical())
    if measured.select((pl.col("micros") % pl.col("step") != 0).any()).item():
        raise AssertionError("an amount has more digits than its currency")
    units = measured.with_columns(units=pl.col("micros") // pl.col("step"))
    if (units["units"].abs().sum() or 0) > UNITS_MAX:
        raise OutOfRange("amounts times tax rates have more digits than are kept")
    return units


def _waiting(rated: pl.DataFrame) -> pl.DataFrame:
    """WAITING: the documents of which a line has no rate, with every reason once."""
    missing = rated.filter(pl.col("reason").is_not_null())
    return missing.group_by("document", maintain_order=True).agg(
        pl.col("reason").unique().sort().str.join("; ")
    )


def _taxed(rated: pl.DataFrame) -> pl.DataFrame:
    """TAXED. Shared roundings follow what has accrued so far, so they add up to the whole's."""
    one = ("document", *_RATE)
    own = pl.col("units") * pl.col("numerator")
    accrued = nearest_whole(own.cum_sum().over(one), pl.col("denominator"))
    shared = rated.with_columns(accrued=accrued)
    before = pl.col("accrued").shift(1, fill_value=0).over(one)
    alone = nearest_whole(own, pl.col("denominator"))
    tax = pl.when("per_line").then(alone).otherwise(pl.col("accrued") - before)
    told = shared.with_columns(tax=tax * pl.col("step")).with_columns(
        rate=pl.col("percent") / 100,
        base=from_millionths(pl.col("micros") - pl.when("inclusive").then("tax").otherwise(0)),
        amount=from_millionths(pl.col("tax")),
    )
    return told.select(pl.col(name).cast(dtype) for name, dtype in TAXED.items())


def taxed_where(catalog: Catalog, customer: CustomerId, on: date) -> CustomerTax | None:
    """Where a customer is taxed: as it says itself, else as its parent does; null: nowhere."""
    return _Catalogued(catalog).place(customer, on)


class _Catalogued:
    """What the catalog says of customers, products and tables; each is looked up once a day."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self._midnights: dict[date, Micros] = {}

    def places(self, asked: pl.DataFrame) -> pl.DataFrame:
        """Where customers are taxed (_PLACES), or why nowhere."""
        return _frame((self._placed(*row) for row in asked.iter_rows()), _PLACES)

    def codes(self, asked: pl.DataFrame) -> pl.DataFrame:
        """The tax codes of products (_CODES)."""
        return _frame(((name, on, self._code(name, on)) for name, on in asked.iter_rows()), _CODES)

    def rates(self, asked: pl.DataFrame) -> pl.DataFrame:
        """Rates (_RATES) of _RATE_KEY, or why there is none."""
        return _frame((row + self._rate(*row) for row in asked.iter_rows()), _RATES)

    def _placed(
        self, customer: str, on: date
    ) -> tuple[str, date, str | None, bool | None, str | None]:
        place = self.place(CustomerId(customer), on)
        if place is None:
            return customer, on, None, None, f"customer {customer} has no tax jurisdiction on {on}"
        return customer, on, place.jurisdiction, place.exempt is not None, None

    def place(self, customer: CustomerId, on: date) -> CustomerTax | None:
        """Where a customer is taxed: as it says itself, else as its parent does."""
        name: CustomerId | None = customer
        for _ in range(ANCESTORS_MAX):
            payer = self._at(self._catalog.customers.get(name), on) if name else None
            if not isinstance(payer, Customer) or payer.tax is not None:
                return payer.tax if payer else None
            name = payer.parent
        return None

    def _code(self, product: str | None, on: date) -> str | None:
        chain = None if product is None else self._catalog.products.get(ProductId(product))
        sold = self._at(chain, on)
        return sold.tax_code if sold else None

    def _rate(
        self, jurisdiction: str, exempt: object, code: str | None, on: date
    ) -> tuple[object, ...]:
        table = self._at(self._catalog.taxes.get(JurisdictionId(jurisdiction)), on)
        if table is None:
            return _refused(f"there is no tax table {jurisdiction} on {on}")
        if exempt:
            return _share(table, Decimal(0))
        rate = table.rate(code, on)
        if rate is None:
            of = "products without tax code" if code is None else f"tax code {code}"
            return _refused(f"tax table {table.id} has no rate of {of} on {on}")
        return _share(table, rate.percent)

    def _at(self, chain: Chain[T] | None, on: date) -> T | None:
        if chain is None:
            return None
        zone = self._catalog.timezone
        if on not in self._midnights:
            self._midnights[on] = midnight(on, zone)
        return chain.at(self._midnights[on], zone)


def _frame(rows: Iterable[tuple[object, ...]], schema: dict[str, pl.DataType]) -> pl.DataFrame:
    return pl.DataFrame(list(rows), schema=schema, orient="row")


def _refused(reason: str) -> tuple[object, ...]:
    return (reason, *[None] * (len(_RATES) - len(_RATE_KEY) - 1))


def _share(table: TaxTable, percent: Decimal) -> tuple[object, ...]:
    """The members of _RATES after its key."""
    inclusive = table.prices is TaxPrices.INCLUSIVE
    share = Fraction(percent) / (100 + Fraction(percent) if inclusive else 100)
    per_line = table.rounding is TaxRounding.LINE
    return None, percent, inclusive, per_line, share.numerator, share.denominator
