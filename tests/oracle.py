"""A naive second opinion on rating: one event at a time, one fraction at a time, no frames.

It shares the catalog's vocabulary with the engine and nothing else: periods are walked from the
contract's start, terms are looked up at every instant at which anything in the catalog changes,
amounts are :class:`fractions.Fraction`. Slow, and meant to be read.
"""

from __future__ import annotations

import calendar
import itertools
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields, is_dataclass, replace
from datetime import date, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any
from zoneinfo import ZoneInfo

from catalog.charges import Capacity, Flat
from catalog.clock import EPOCH, to_datetime
from catalog.contracts import Contract
from catalog.pricebooks import Anchor, Invoicing, PeriodUnit, Price, Prorate, Rounding, Timing
from catalog.snapshot import Catalog, resolve
from tests.oracle_charges import Refused, charged
from tests.oracle_usage import NEVER, Event, Priced, Stay, used

__all__ = ["Event", "Line", "Refused", "charged", "oracle"]

MINOR = {"USD": 2, "EUR": 2, "JPY": 0, "KWD": 3}


@dataclass(frozen=True, order=True)
class Line:
    """What a line must say."""

    contract: str
    product: str
    start: int
    end: int
    dimensions: str
    kind: str
    timing: str
    currency: str
    quantity: Decimal
    amount: Decimal
    events: int


# -- time ---------------------------------------------------------------------------------------


def _month_later(moment: datetime, months: int) -> datetime:
    index = moment.year * 12 + moment.month - 1 + months
    year, month = index // 12, index % 12 + 1
    return moment.replace(
        year=year, month=month, day=min(moment.day, calendar.monthrange(year, month)[1])
    )


def _instant(wall: datetime, zone: ZoneInfo) -> int:
    return (wall.replace(tzinfo=zone, fold=0) - EPOCH) // timedelta(microseconds=1)


def _wall(instant: int, zone: ZoneInfo) -> datetime:
    return to_datetime(instant).astimezone(zone).replace(tzinfo=None, fold=0)


_FIRST_DAY = {"day": 1, "hour": 0, "minute": 0, "second": 0, "microsecond": 0}


def walked_periods(
    start: int, end: int, invoicing: Invoicing, zone: ZoneInfo, until: int
) -> Iterator[tuple[int, int, int, int, int]]:
    """(index, start, end, whole start, whole end) of every billing period up to ``until``."""
    origin = _wall(start, zone)
    first = (
        start
        if not invoicing.after_months
        else _instant(_month_later(origin, invoicing.after_months), zone)
    )
    on_month = invoicing.anchor is Anchor.MONTH
    if on_month:
        first = max(start, _instant(_wall(first, zone).replace(**_FIRST_DAY), zone))
    if invoicing.timing is Timing.ONCE:
        if first < end:
            yield 1, first, end, first, end
        return
    months = invoicing.unit is PeriodUnit.MONTH
    days = timedelta(days=invoicing.every * (7 if invoicing.unit is PeriodUnit.WEEK else 1))
    base, shift = (origin, invoicing.after_months) if months else (_wall(first, zone), 0)
    if invoicing.anchor is Anchor.CALENDAR:
        base = datetime(2000, 1, 3 if invoicing.unit is PeriodUnit.WEEK else 1)  # noqa: DTZ001
        shift = 0
    elif on_month:
        base = origin.replace(**_FIRST_DAY)

    def bound(n: int) -> int:
        wall = _month_later(base, shift + n * invoicing.every) if months else base + n * days
        return _instant(wall, zone)

    index = 0
    for n in itertools.count():
        left, right = bound(n), bound(n + 1)
        if left >= min(until, end):
            return
        if right > first and right > left:
            index += 1
            yield index, max(left, first), min(right, end), left, right


# -- terms --------------------------------------------------------------------------------------


def _moments(value: Any) -> Iterator[date]:
    if isinstance(value, date):
        yield value
    elif is_dataclass(value):
        for field in fields(value):
            yield from _moments(getattr(value, field.name))
    elif isinstance(value, tuple):
        for item in value:
            yield from _moments(item)


def _holds(since: Any, until: Any, instant: int, zone: ZoneInfo) -> bool:
    return (since is None or resolve(since, zone) <= instant) and (
        until is None or instant < resolve(until, zone)
    )


def _since(price: Price | None, zone: ZoneInfo) -> int:
    moment = price.effective_from if price else None
    return -NEVER if moment is None else resolve(moment, zone)


@dataclass(frozen=True)
class Terms:
    """A price as it applies: with the contract's factor and every default."""

    price: Price
    factor: Decimal
    invoicing: Invoicing
    prorate: Prorate
    currency: str
    product: Any
    meter: Any
    zone: ZoneInfo

    @property
    def fixed(self) -> bool:
        """Whether the quantity is not metered."""
        if self.price.quantity is not None or isinstance(self.price.charge, Flat):
            return True
        return self.meter is None and not isinstance(self.price.charge, Capacity)


def terms_at(catalog: Catalog, contract: Contract, instant: int) -> dict[str, Terms]:
    """The contract's prices in force at one instant, by slot."""
    zone = _zone(catalog, contract)
    overrides, book_id, listed_at = contract.prices, contract.pricebook, instant
    fixed_at = resolve(contract.start, zone)
    for amendment in sorted(contract.amendments, key=lambda a: resolve(a.effective_from, zone)):
        begun = resolve(amendment.effective_from, zone)
        if begun <= instant:
            overrides = amendment.prices if amendment.prices is not None else overrides
            if amendment.pricebook:
                book_id, fixed_at = amendment.pricebook, max(fixed_at, begun)
    if contract.pin:
        listed_at = fixed_at
    listed, book = [], None
    if book_id:
        chain = catalog.pricebooks[book_id]
        found = chain.at(listed_at, zone)
        book = found or chain.versions[0].value
        listed = _listed(found.prices if found else (), listed_at, zone)
    priced = _overridden(listed, overrides, instant, zone)
    return {
        slot: _terms(catalog, contract, book, price, factor)
        for slot, (price, factor) in priced.items()
    }


def _listed(prices: Iterable[Price], instant: int, zone: ZoneInfo) -> list[tuple[str, Price]]:
    """List prices in force: of namesakes the newest, twins numbered."""
    live = [p for p in prices if _holds(p.effective_from, p.effective_until, instant, zone)]
    found = []
    for price in live:
        newest = max(_since(p, zone) for p in live if p.key == price.key)
        twins = [p for p in live if p.key == price.key and _since(p, zone) == newest]
        found += [
            (price.key if rank == 1 else f"{price.key}#{rank}", price)
            for rank, twin in enumerate(twins, start=1)
            if twin is price
        ]
    return found


def _overridden(
    listed: list[tuple[str, Price]], overrides: Iterable[Any], instant: int, zone: ZoneInfo
) -> dict[str, tuple[Price, Decimal]]:
    """What the contract's overrides leave of the list, and add to it."""
    result = {slot: (price, Decimal(1)) for slot, price in listed}
    added = []
    for o in _newest(overrides, instant, zone):
        hit = [
            slot
            for slot, p in listed
            if p.product == o.product and o.overrides in (None, p.key) and not o.additional
        ]
        if o.multiply is not None:
            result.update({slot: (dict(listed)[slot], o.multiply) for slot in hit})
            continue
        for slot in hit:
            result.pop(slot, None)
        if o.price is not None:
            key = hit[0] if len(hit) == 1 else o.price.key
            added.append((f"+{key}" if o.additional else key, o.price))
    for key, price in added:
        names = (key if n == 1 else f"{key}#{n}" for n in itertools.count(1))
        result[next(name for name in names if name not in result)] = price, Decimal(1)
    return result


def _newest(overrides: Iterable[Any], instant: int, zone: ZoneInfo) -> list[Any]:
    """Overrides in force; of prices that say they are the same one, the newest."""

    def name(o: Any) -> Any:
        return o.product, o.overrides, o.additional, o.price.key

    live = [
        o
        for o in overrides
        if o.price is None or _holds(o.price.effective_from, o.price.effective_until, instant, zone)
    ]
    return [
        o
        for o in live
        if o.price is None
        or _since(o.price, zone)
        == max(_since(x.price, zone) for x in live if x.price and name(x) == name(o))
    ]


def _terms(catalog: Catalog, contract: Contract, book: Any, price: Price, factor: Decimal) -> Terms:
    product = catalog.products[price.product].last
    nothing = dict.fromkeys(
        ("id", "name", "effective_from", "effective_until", "invoicing", "prorate")
    )
    return Terms(
        price=replace(price, **nothing),
        factor=factor,
        invoicing=price.invoicing or contract.invoicing or book.invoicing,
        prorate=price.prorate or contract.prorate or (book.prorate if book else Prorate.NO),
        currency=contract.currency or book.currency,
        product=product,
        meter=catalog.meters[product.meter].last if product.meter else None,
        zone=_zone(catalog, contract),
    )


def _zone(catalog: Catalog, contract: Contract) -> ZoneInfo:
    return ZoneInfo(contract.timezone) if contract.timezone else catalog.timezone


# -- money --------------------------------------------------------------------------------------


def amount_of(
    terms: Terms, pieces: Iterable[Priced], *, terms_share: Fraction, fee: Fraction
) -> Fraction:
    """One line through the order of terms, from conversion to the minimum."""
    price = terms.price
    spanned = price.tiers_span_months is not None
    included = Fraction(price.included or 0) * (1 if terms.fixed or spanned else terms_share)
    amount, left = Fraction(0), included
    for piece in pieces:
        if piece.fee:
            amount += piece.sign * piece.price(piece.units)
            continue
        units = piece.units if price.convert is None else converted(price.convert, piece.units)
        taken = max(Fraction(0), min(left, units))
        left = included if spanned else left - taken
        cost = piece.price(units - taken)
        amount += piece.sign * _committed(terms, piece, cost, terms_share)
    amount *= fee * Fraction(terms.factor)
    if price.discount_percent is not None:
        amount -= amount * Fraction(price.discount_percent) / 100
    if price.maximum is not None:
        amount = min(amount, Fraction(price.maximum) * terms_share)
    if price.minimum is not None:
        amount = max(amount, Fraction(price.minimum) * terms_share)
    return amount


def _committed(terms: Terms, piece: Priced, cost: Fraction, share: Fraction) -> Fraction:
    """A piece's cost: at least what was promised for it, and at another rate beyond."""
    promise, price = terms.price.commitment, terms.price
    if promise is None:
        return cost
    borne = Fraction(1) if terms.fixed or price.bucket is not None else share
    if promise.quantity is None:
        least = Fraction(promise.amount) * borne
    else:
        least = piece.price(Fraction(promise.quantity) * borne)
    if cost > least:
        rate = promise.overage_multiplier
        return least + (cost - least) * Fraction(1 if rate is None else rate)
    return least if promise.true_up else cost


def converted(c: Any, units: Fraction) -> Fraction:
    """Units as they are priced."""
    units = units * Fraction(c.multiply) / Fraction(c.divide)
    size = abs(units) * 10**c.digits
    rounded = {
        Rounding.NONE: size,
        Rounding.UP: math.ceil(size),
        Rounding.DOWN: math.floor(size),
        Rounding.HALF_UP: math.floor(size + Fraction(1, 2)),
    }[c.round]
    return Fraction(rounded, 10**c.digits) * (1 if units >= 0 else -1)


def rounded(amount: Fraction, decimals: int) -> Decimal:
    """Half away from zero."""
    units = math.floor(abs(amount) * 10**decimals + Fraction(1, 2))
    sign = 1 if amount < 0 and units else 0
    return Decimal((sign, tuple(int(d) for d in str(units)), -decimals))


# -- lines --------------------------------------------------------------------------------------


def oracle(
    catalog: Catalog, events: Iterable[Event], *, first: date, until: date, as_of: int
) -> list[Line]:
    """Every line whose accounting date lies in ``[first, until)``, zeros left out."""
    counted = [event for event in events if event.received_at <= as_of]
    found: list[Line] = []
    for chain in catalog.contracts.values():
        found.extend(_contract(catalog, chain.last, counted, (first, until), as_of))
    return sorted(line for line in found if line.quantity or line.amount)


def _contract(
    catalog: Catalog, contract: Contract, events: list[Event], days: tuple[date, date], as_of: int
) -> Iterator[Line]:
    zone = _zone(catalog, contract)
    start = resolve(contract.start, zone)
    end = _end(catalog, contract)
    dated = [
        m
        for c in (catalog.pricebooks, catalog.contracts)
        for k in c.values()
        for v in k.versions
        for m in (*_moments(v.value), v.effective_from, v.effective_until)
        if m is not None
    ]
    cuts = sorted({resolve(m, zone) for m in dated} | {start})
    cadences = {
        (slot, terms.invoicing, terms.fixed)
        for cut in cuts
        if start <= cut < end
        for slot, terms in terms_at(catalog, contract, cut).items()
    }
    horizon = resolve(days[1] + timedelta(days=400), zone)
    for slot, invoicing, fixed in cadences:
        for period in walked_periods(start, end, invoicing, zone, horizon):
            late = invoicing.timing is Timing.ARREARS or (
                invoicing.timing is Timing.ONCE and not fixed
            )
            instant = period[2] - 1 if late else period[1]
            if instant >= NEVER - 1 or period[1] > as_of:
                continue
            if days[0] <= _wall(instant, zone).date() < days[1]:
                parts = _parts(catalog, contract, (slot, invoicing, fixed), period, cuts)
                yield from _period(catalog, contract, parts, period, events)


def _end(catalog: Catalog, contract: Contract) -> int:
    zone = _zone(catalog, contract)
    amendments = sorted(contract.amendments, key=lambda a: resolve(a.effective_from, zone))
    ends = [a.end for a in amendments if a.end]
    stated = ends[-1] if ends else contract.end
    return NEVER if stated is None else resolve(stated, zone)


def _parts(catalog, contract, cadence, period, cuts):
    """(start, end, terms) of the slot within the period, cut only where the terms differ."""
    slot, invoicing, fixed = cadence
    index, left, right, *_ = period
    bounds = [left, *(c for c in cuts if left < c < right), right]
    parts = []
    for low, high in itertools.pairwise(bounds):
        terms = terms_at(catalog, contract, low).get(slot)
        if terms is None or (terms.invoicing, terms.fixed) != (invoicing, fixed):
            continue
        if not (terms.price.from_period or 1) <= index <= (terms.price.to_period or index):
            continue
        if parts and parts[-1][1] == low and parts[-1][2] == terms:
            parts[-1] = (parts[-1][0], high, terms)
        else:
            parts.append((low, high, terms))
    return parts


def _period(catalog, contract, parts, period, events):
    _, left, right, whole_left, whole_right = period
    zone = _zone(catalog, contract)
    for n, (low, high, terms) in enumerate(parts):
        prorated = terms.prorate is not Prorate.NO
        if terms.fixed and not prorated:
            timing = terms.invoicing.timing
            due = {Timing.ARREARS: high == right, Timing.ADVANCE: low == left, Timing.ONCE: n == 0}
            if not due[timing]:
                continue
            low, high = left, right  # noqa: PLW2901
        share = Fraction(1)
        if whole_right >= NEVER and (low, high) == (left, right):
            pass
        elif terms.prorate is Prorate.DAYS and whole_right < NEVER:
            share = Fraction(
                (_wall(high, zone).date() - _wall(low, zone).date()).days,
                (_wall(whole_right, zone).date() - _wall(whole_left, zone).date()).days,
            )
        elif prorated and whole_right < NEVER:
            share = Fraction(high - low, whole_right - whole_left)
        elif not terms.fixed:
            share = Fraction(high - low, right - left)
        stay = Stay(
            low, high, whole_right - whole_left, zone, _spans(catalog, contract, terms, high)
        )
        customer = catalog.customers[contract.customer].last
        for group in used(catalog, customer, terms, events, stay):
            exact = amount_of(
                terms,
                group.pieces,
                terms_share=share,
                fee=share if terms.fixed and prorated else Fraction(1),
            )
            yield Line(
                contract=contract.id, product=terms.price.product, start=low, end=high,
                dimensions=group.text, kind="fixed" if terms.fixed else "usage",
                timing=terms.invoicing.timing.value, currency=terms.currency,
                quantity=rounded(group.quantity, 9), amount=rounded(exact, MINOR[terms.currency]),
                events=group.count,
            )  # fmt: skip


def _spans(catalog, contract, terms, until):
    """The spans over which tiers accumulate, from the contract's start on."""
    if terms.price.tiers_span_months is None:
        return ()
    zone = _zone(catalog, contract)
    cadence = replace(
        terms.invoicing,
        timing=Timing.ARREARS,
        every=terms.price.tiers_span_months,
        unit=PeriodUnit.MONTH,
    )
    start = resolve(contract.start, zone)
    walked = walked_periods(start, _end(catalog, contract), cadence, zone, until)
    return tuple((left, right) for _, left, right, _, _ in walked)
