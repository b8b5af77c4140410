"""Tax by table: the catalog says the rate, exact fractions do the rest.

Nothing is ever taxed at zero because something was missing: a line without a rate makes the whole
question unanswerable, with every missing piece named. Zero is charged where a table says 0, or a
customer's exemption is stated with its reason.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from fractions import Fraction
from zoneinfo import ZoneInfo

from catalog.errors import DomainError, FieldError
from catalog.ids import CustomerId, JurisdictionId, ProductId
from catalog.money import from_units, minor_units, nearest
from catalog.snapshot import Catalog, Chain, T, midnight
from catalog.taxes import CustomerTax, TaxPrices, TaxRounding, TaxTable

HUNDRED = 100


class TaxUnknown(DomainError):
    """A line has no rate: the invoice waits until the catalog says one."""

    code = "tax_unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class Taxable:
    """A line as far as tax is concerned. ``on`` is the day whose rate holds.

    ``amount`` is in the currency's minor units, with the tax in it or without as the table says.
    """

    line_id: str
    product: ProductId | None
    amount: Decimal
    on: date


@dataclass(frozen=True, slots=True, kw_only=True)
class TaxedLine:
    """A line's share: ``gross`` = ``net`` + ``tax``, to the minor unit."""

    line_id: str
    net: Decimal
    tax: Decimal
    gross: Decimal


@dataclass(frozen=True, slots=True, kw_only=True)
class TaxSum:
    """What one rate of one jurisdiction comes to. ``exempt`` is the reason for a stated zero."""

    jurisdiction: JurisdictionId
    tax_code: str | None
    percent: Decimal
    exempt: str | None
    net: Decimal
    tax: Decimal


@dataclass(frozen=True, slots=True, kw_only=True)
class Taxed:
    """The tax of one document. Sums of lines and of rates agree to the minor unit.

    ``lines`` are in the order asked, ``sums`` by tax code and rate; both are empty where the
    seller has no tax tables at all.
    """

    lines: tuple[TaxedLine, ...]
    sums: tuple[TaxSum, ...]
    subtotal: Decimal
    tax: Decimal
    total: Decimal


@dataclass(frozen=True, slots=True, kw_only=True)
class _Rate:
    """The rate found for a line: what lines have in common that are taxed as one."""

    table: TaxTable
    tax_code: str | None
    percent: Decimal
    exempt: str | None

    @property
    def share(self) -> Fraction:
        """How much of a line's amount the tax is."""
        percent = Fraction(self.percent)
        if self.table.prices is TaxPrices.INCLUSIVE:
            return percent / (HUNDRED + percent)
        return percent / HUNDRED


class TableTax:
    """The tax engine over one catalog."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog

    def tax(self, *, customer: CustomerId, currency: str, lines: Sequence[Taxable]) -> Taxed:
        """The tax on one document.

        Raises:
            TaxUnknown: a line has no rate; ``errors`` point at ``/lines/<index>``.
        """
        digits = minor_units(currency)
        if not self._catalog.taxes:
            return _untaxed(lines, digits)
        rates = self._rates(customer, lines)
        shares = _shares(lines, rates, digits)
        taxed = tuple(map(_taxed_line, lines, rates, shares))
        subtotal = _sum((line.net for line in taxed), digits)
        tax = _sum((line.tax for line in taxed), digits)
        return Taxed(
            lines=taxed,
            sums=_sums(taxed, rates, digits),
            subtotal=subtotal,
            tax=tax,
            total=_sum((subtotal, tax), digits),
        )

    def _rates(self, customer: CustomerId, lines: Sequence[Taxable]) -> list[_Rate]:
        found: list[_Rate] = []
        errors: list[FieldError] = []
        for index, line in enumerate(lines):
            rate = self._rate(customer, line)
            if isinstance(rate, str):
                errors.append(FieldError(pointer=f"/lines/{index}", detail=rate))
            else:
                found.append(rate)
        if errors:
            more = f" (and {len(errors) - 1} more)" if errors[1:] else ""
            raise TaxUnknown(f"{errors[0].detail}{more}", errors=errors)
        return found

    def _rate(self, customer: CustomerId, line: Taxable) -> _Rate | str:
        """The rate of one line, or why there is none."""
        zone = self._catalog.timezone
        payer = _on(self._catalog.customers.get(customer), line.on, zone)
        place: CustomerTax | None = payer.tax if payer else None
        if place is None:
            return f"customer {customer} has no tax jurisdiction on {line.on}"
        table = _on(self._catalog.taxes.get(place.jurisdiction), line.on, zone)
        if table is None:
            return f"there is no tax table {place.jurisdiction} on {line.on}"
        sold = None
        if line.product is not None:
            sold = _on(self._catalog.products.get(line.product), line.on, zone)
        code = sold.tax_code if sold else None
        if place.exempt is not None:
            return _Rate(table=table, tax_code=code, percent=Decimal(0), exempt=place.exempt)
        rate = table.rate(code, line.on)
        if rate is None:
            of = "products without tax code" if code is None else f"tax code {code}"
            return f"tax table {table.id} has no rate of {of} on {line.on}"
        return _Rate(table=table, tax_code=code, percent=rate.percent, exempt=None)


def _on(chain: Chain[T] | None, day: date, zone: ZoneInfo) -> T | None:
    return None if chain is None else chain.at(midnight(day, zone), zone)


def _shares(lines: Sequence[Taxable], rates: Sequence[_Rate], digits: int) -> list[Decimal]:
    """Each line's tax. Rounded once an invoice, the lines of a rate share what that comes to.

    The sharing rounds what has accrued so far: every line is less than a minor unit off its own,
    and the lines add up to the one rounding of the whole.
    """
    accrued: dict[_Rate, Fraction] = {}
    given: dict[_Rate, int] = {}
    found = []
    for line, rate in zip(lines, rates, strict=True):
        own = Fraction(line.amount) * rate.share * 10**digits
        if rate.table.rounding is TaxRounding.LINE:
            units = nearest(own.numerator, own.denominator)
        else:
            whole = accrued[rate] = accrued.get(rate, Fraction(0)) + own
            upto = nearest(whole.numerator, whole.denominator)
            units = upto - given.get(rate, 0)
            given[rate] = upto
        found.append(from_units(units, digits))
    return found


def _taxed_line(line: Taxable, rate: _Rate, tax: Decimal) -> TaxedLine:
    digits = _digits(tax)
    inclusive = rate.table.prices is TaxPrices.INCLUSIVE
    net = _sum((line.amount, tax.copy_negate()), digits) if inclusive else line.amount
    return TaxedLine(
        line_id=line.line_id,
        net=_sum((net,), digits),
        tax=tax,
        gross=_sum((net, tax), digits),
    )


def _sums(taxed: Sequence[TaxedLine], rates: Sequence[_Rate], digits: int) -> tuple[TaxSum, ...]:
    members: dict[_Rate, list[TaxedLine]] = {}
    for line, rate in zip(taxed, rates, strict=True):
        members.setdefault(rate, []).append(line)
    found = [
        TaxSum(
            jurisdiction=rate.table.id,
            tax_code=rate.tax_code,
            percent=rate.percent,
            exempt=rate.exempt,
            net=_sum((line.net for line in lines), digits),
            tax=_sum((line.tax for line in lines), digits),
        )
        for rate, lines in members.items()
    ]
    return tuple(sorted(found, key=lambda each: (each.tax_code or "", each.percent)))


def _untaxed(lines: Sequence[Taxable], digits: int) -> Taxed:
    subtotal = _sum((line.amount for line in lines), digits)
    return Taxed(
        lines=(), sums=(), subtotal=subtotal, tax=from_units(0, digits), total=subtotal
    )


def _digits(amount: Decimal) -> int:
    return -int(amount.as_tuple().exponent)


def _sum(amounts: Iterable[Decimal], digits: int) -> Decimal:
    """An exact sum with the currency's digits, whatever the decimal context."""
    whole = sum((Fraction(amount) for amount in amounts), Fraction(0)) * 10**digits
    assert whole.denominator == 1, "an amount has more digits than its currency"
    return from_units(int(whole), digits)
