"""Usage of a quote: quantities read against the one contract, with a pointer for every mistake."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

from api.models.whatif import UsageItem, read_period, wrong
from catalog.errors import DomainError, FieldError, InvalidRequest, OutOfRange
from catalog.ids import ContractId, MeterId
from catalog.meters import Aggregation, Meter
from catalog.money import QUANTITY, parse_decimal
from catalog.periods import PeriodSpec
from catalog.snapshot import Catalog
from rating.dimensions import dimensions_text
from rating.given import Given, NotQuotable, asks_more, counting, dimensions_read
from rating.pipeline import Rated
from rating.plan import LinePlan
from rating.quoting import first_instant, quote, quoted_term

_WHOLE = (Aggregation.COUNT, Aggregation.UNIQUE_COUNT)


def lines_of_usage(catalog: Catalog, contract: ContractId, usage: Sequence[UsageItem]) -> Rated:
    """The lines of a quote for quantities that a request gives.

    Raises:
        InvalidRequest, NotQuotable: naming every item that is wrong.
    """
    read = _Usage(catalog, contract)
    given, periods = [], []
    for index, item in enumerate(usage):
        try:
            each, period = read.item(item, f"/usage/{index}")
        except DomainError as error:
            read.errors.extend(error.errors)
            continue
        given.append(each)
        periods.append(period)
    read.raise_if_any()
    for index, plans in enumerate(counting(catalog, given)):
        read.check(given[index], usage[index], plans, f"/usage/{index}")
    read.raise_if_any()
    return quote(catalog, given, periods)


class _Usage:
    """Reads quantities against one contract, and keeps what is wrong with them."""

    def __init__(self, catalog: Catalog, contract: ContractId) -> None:
        self._catalog = catalog
        self._contract = contract
        self._term = quoted_term(catalog, contract)
        self.errors: list[FieldError] = []
        self._needs_more = False

    def item(self, item: UsageItem, place: str) -> tuple[Given, PeriodSpec]:
        """One quantity, at the first instant of its period in which the contract is in force.

        Raises:
            InvalidRequest: with the pointer of what is wrong.
        """
        meter = self._meter(item, place)
        period = read_period(item.period, f"{place}/period")
        instant = first_instant(self._term, period)
        if instant is None:
            raise wrong(f"{place}/period", f"the contract is not in force in {item.period}")
        quantity = _quantity(item, meter, f"{place}/quantity")
        known = {name for name, _ in meter.dimensions}
        if unknown := sorted(set(item.dimensions) - known):
            raise wrong(
                f"{place}/dimensions/{unknown[0]}",
                f"meter '{meter.id}' has no dimension '{unknown[0]}'",
            )
        text = dimensions_text((k, v) for k, v in item.dimensions.items() if v is not None)
        return Given(meter=meter.id, at=instant, quantity=quantity, dimensions=text), period

    def check(self, given: Given, item: UsageItem, plans: Sequence[LinePlan], place: str) -> None:
        """Note what the prices that count a quantity miss in it."""
        if not plans:
            detail = f"no price of the contract counts meter '{given.meter}' in {item.period}"
            self.errors.append(FieldError(pointer=f"{place}/meter", detail=detail))
        for line in plans:
            more = asks_more(line.terms)
            if more is not None:
                self._needs_more = True
                detail = f"the price of '{line.terms.product}' asks {more}: quote a history"
                self.errors.append(FieldError(pointer=place, detail=detail))
            missing = sorted(set(dimensions_read(line.terms)) - set(item.dimensions))
            for name in missing:
                detail = f"the price of '{line.terms.product}' reads '{name}': give it (or null)"
                self.errors.append(FieldError(pointer=f"{place}/dimensions", detail=detail))

    def raise_if_any(self) -> None:
        """Raise what was noted.

        Raises:
            NotQuotable, InvalidRequest: naming every place.
        """
        errors = list(dict.fromkeys(self.errors))
        if errors:
            kind = NotQuotable if self._needs_more else InvalidRequest
            raise kind(errors[0].detail, errors=errors)

    def _meter(self, item: UsageItem, place: str) -> Meter:
        chain = self._catalog.meters.get(MeterId(item.meter))
        if chain is None:
            raise wrong(f"{place}/meter", f"there is no meter '{item.meter}'")
        return chain.last


def _quantity(item: UsageItem, meter: Meter, pointer: str) -> Decimal:
    try:
        quantity = parse_decimal(item.quantity, QUANTITY)
    except (InvalidRequest, OutOfRange) as error:
        raise wrong(pointer, error.detail) from error
    if meter.aggregation in _WHOLE and (quantity < 0 or quantity != quantity.to_integral_value()):
        raise wrong(pointer, f"a {meter.aggregation.value} is a whole number, not negative")
    return quantity
