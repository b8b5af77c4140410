"""What was used, counted as a person would: one event at a time, on the clock on the wall."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from functools import partial
from typing import Any
from zoneinfo import ZoneInfo

from catalog.charges import Beyond, Capacity, Dynamic, Flat, Matrix, Percentage, PerUnit
from catalog.clock import EPOCH, to_datetime
from catalog.meters import Aggregation
from catalog.snapshot import Catalog, resolve
from tests.oracle_charges import Refused, charged, events_cost, matrix_row, plan_fee

NEVER = 10**18
ADDITIVE = (Aggregation.SUM, Aggregation.COUNT, Aggregation.WEIGHTED_SUM)


@dataclass(frozen=True)
class Event:
    """One event as it counts: which meter reads it, and what."""

    meter: str
    subject: str
    time: int
    received_at: int
    value: Any
    dimensions: tuple[tuple[str, str], ...] = ()
    cost: Any = None


@dataclass(frozen=True)
class Priced:
    """Units that are priced together: by what, how many, added or taken off."""

    price: Callable[[Fraction], Fraction]
    units: Fraction
    sign: int = 1
    fee: bool = False


@dataclass(frozen=True)
class Stay:
    """One line's interval on its contract's calendar, within its whole billing period."""

    low: int
    high: int
    whole: int
    zone: ZoneInfo
    spans: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True)
class Used:
    """One group of a line: what it shows and what it is priced by."""

    text: str
    quantity: Fraction
    count: int
    pieces: list[Priced]


def used(
    catalog: Catalog, customer: Any, terms: Any, events: list[Event], stay: Stay
) -> list[Used]:
    """Every group of the usage of one line."""
    charge = terms.price.charge
    if terms.fixed:
        quantity = Fraction(1 if terms.price.quantity is None else terms.price.quantity)
        return [Used("{}", quantity, 0, [Priced(partial(charged, charge), quantity)])]
    if isinstance(charge, Capacity):
        return [_planned(catalog, customer, terms, events, stay)]
    mine = list(_mine(catalog, customer, terms, terms.meter, events))
    own = [e for e in mine if stay.low <= e.time < stay.high]
    weighted = terms.meter.aggregation is Aggregation.WEIGHTED_SUM
    counted = [e for e in mine if _held(catalog, customer, e, stay)] if weighted else own
    groups: dict[str, list[Event]] = {}
    for event in counted:
        groups.setdefault(_text(event, terms.price.group_by), []).append(event)
    if terms.meter.aggregation in ADDITIVE and not groups and not terms.price.group_by:
        groups["{}"] = []
    return [
        found
        for text, inside in groups.items()
        if (found := _group(catalog, customer, terms, (text, inside, mine), stay)) is not None
    ]


def _group(catalog: Catalog, customer: Any, terms: Any, group: Any, stay: Stay) -> Used | None:
    text, inside, mine = group
    price, charge = terms.price, terms.price.charge
    amount = partial(_amount, catalog, customer, terms, stay=stay)
    now = [e for e in inside if stay.low <= e.time < stay.high and _claimed(catalog, customer, e)]
    count = len(now)
    if price.bucket is not None:
        buckets: dict[int, list[Event]] = {}
        for event in inside:
            buckets.setdefault(_window(event.time, price.bucket, stay.zone), []).append(event)
        cells = [amount(found) for _, found in sorted(buckets.items())]
        pieces = [
            piece for _, found in sorted(buckets.items()) for piece in _rows(terms, found, amount)
        ]
        return Used(text, sum(cells, Fraction(0)), count, pieces)
    quantity = amount(inside)
    if price.tiers_span_months is not None:
        same = [e for e in mine if _text(e, price.group_by) == text]
        pieces = []
        for since, until in (span for span in stay.spans if span[1] > stay.low):
            upto = [e for e in same if since <= e.time < min(until, stay.high)]
            before = [e for e in same if since <= e.time < stay.low]
            always = terms.meter.aggregation in ADDITIVE and not price.group_by
            if upto or always:
                pieces += _rows(terms, upto, amount)
            if since < stay.low and (before or always):
                pieces += [replace(p, sign=-1) for p in _rows(terms, before, amount)]
        return Used(text, quantity, count, pieces)
    if isinstance(charge, Dynamic):
        cost = sum((Fraction(e.cost) for e in now if e.cost is not None), Fraction(0))
        multiplied = partial(charged, PerUnit(unit_price=charge.multiplier))
        return Used(text, quantity, count, [Priced(multiplied, cost)])
    if isinstance(charge, Percentage):
        terms_of_events = (charge.fixed, charge.event_minimum, charge.event_maximum)
        if any(t is not None for t in terms_of_events) or charge.free_events:
            ordered = sorted(inside, key=lambda e: (e.time, e.received_at))
            total = events_cost(charge, [Fraction(e.value) for e in ordered])
            return Used(text, quantity, count, [Priced(lambda _: total, quantity)])
    return Used(text, quantity, count, _rows(terms, inside, amount))


def _rows(terms: Any, events: list[Event], amount: Callable[..., Fraction]) -> list[Priced]:
    """The events by row of the matrix, in the order of rows; all of them where there is none."""
    charge = terms.price.charge
    if not isinstance(charge, Matrix):
        return [Priced(partial(charged, charge), amount(events))]
    rows: dict[int | None, list[Event]] = {}
    for event in events:
        rows.setdefault(matrix_row(charge, dict(event.dimensions)), []).append(event)
    missed = rows.pop(None, [])
    if missed and charge.otherwise is Beyond.REFUSE and amount(missed):
        raise Refused
    return [_row(charge.rows[index].charge, amount(found)) for index, found in sorted(rows.items())]


def _row(charge: Any, units: Fraction) -> Priced:
    """A fee of a row is due once where anything was used in it."""
    if isinstance(charge, Flat):
        return Priced(partial(charged, charge), Fraction(bool(units)), fee=True)
    return Priced(partial(charged, charge), units)


def _planned(catalog: Catalog, customer: Any, terms: Any, events: list[Event], stay: Stay) -> Used:
    """The plan that several meters fit into."""
    held, count = {}, 0
    for name in {m for tier in terms.price.charge.tiers for m, _ in tier.up_to or ()}:
        meter = catalog.meters[name].last
        mine = [
            e
            for e in _mine(catalog, customer, terms, meter, events)
            if stay.low <= e.time < stay.high
        ]
        count += len(mine)
        if mine:
            held[name] = aggregated(meter, mine, stay.zone)
    fee = plan_fee(terms.price.charge, held)
    return Used("{}", Fraction(1), count, [Priced(lambda _: fee, Fraction(1))])


def _text(event: Event, group_by: tuple[str, ...]) -> str:
    values = dict(event.dimensions)
    group = {d: values[d] for d in group_by if d in values}
    return json.dumps(group, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def _mine(catalog: Catalog, customer: Any, terms: Any, meter: Any, events: Any) -> Iterator[Event]:
    """Events of a meter that the customer pays for, that pass the product's filter and hours."""
    own_filter = terms.product.filter if meter == terms.meter else ()
    weighted = meter.aggregation is Aggregation.WEIGHTED_SUM
    for event in events:
        if event.meter != meter.id:
            continue
        claimed = weighted or _claimed(catalog, customer, event)
        values = dict(event.dimensions)
        open_now = not terms.price.hours or _in_hours(event, terms.price.hours, terms.zone)
        if claimed and open_now and all(_passes(c, values.get(c.path)) for c in own_filter):
            yield event


def _within(instant: int, since: Any, until: Any, zone: ZoneInfo) -> bool:
    return (since is None or resolve(since, zone) <= instant) and (
        until is None or instant < resolve(until, zone)
    )


def _passes(condition: Any, value: str | None) -> bool:
    if condition.exists is not None:
        return (value is not None) == condition.exists
    if value is None:
        return condition.optional
    if condition.included is not None:
        return value in condition.included
    return value not in condition.excluded


def _in_hours(event: Event, hours: tuple[str, ...], zone: ZoneInfo) -> bool:
    """Whether the clock on the wall shows one of the stretches."""
    wall = to_datetime(event.time).astimezone(zone).strftime("%H:%M")
    for text in hours:
        since, until = text.split("-")
        passes = since <= wall < until if since < until else wall >= since or wall < until
        if passes:
            return True
    return False


def _window(instant: int, text: str, zone: ZoneInfo) -> int:
    """Where the local window of an instant begins."""
    minutes = int(text[:-1]) * {"m": 1, "h": 60, "d": 1440}[text[-1]]
    local = to_datetime(instant).astimezone(zone)
    day = datetime(local.year, local.month, local.day, tzinfo=zone)
    midnight = (day - EPOCH) // timedelta(microseconds=1)
    if minutes <= 60:
        length = minutes * 60_000_000
        return midnight + (instant - midnight) // length * length
    passed = (local.hour * 60 + local.minute) // minutes * minutes
    edge = day.replace(hour=passed // 60, minute=passed % 60)
    return (edge - EPOCH) // timedelta(microseconds=1)


def _amount(catalog: Catalog, customer: Any, terms: Any, events: Any, *, stay: Stay) -> Fraction:
    """The quantity of some events of a line."""
    if terms.meter.aggregation is not Aggregation.WEIGHTED_SUM:
        return aggregated(terms.meter, events, stay.zone)
    held = (
        Fraction(_held(catalog, customer, e, stay), stay.whole) * Fraction(e.value) for e in events
    )
    return sum(held, Fraction(0))


def _held(catalog: Catalog, customer: Any, event: Event, stay: Stay) -> int:
    """How long of a line the customer has what the event brought."""
    held = 0
    for claim in customer.subjects:
        low, high = stay.low, stay.high
        if claim.since is not None:
            low = max(low, resolve(claim.since, catalog.timezone))
        if claim.until is not None:
            high = min(high, resolve(claim.until, catalog.timezone))
        if claim.subject == event.subject and low < high:
            held += max(0, high - max(low, event.time))
    return held


def _claimed(catalog: Catalog, customer: Any, event: Event) -> bool:
    """Whether the customer pays for the subject when the event happens."""
    return any(
        c.subject == event.subject and _within(event.time, c.since, c.until, catalog.timezone)
        for c in customer.subjects
    )


def aggregated(meter: Any, events: list[Event], zone: ZoneInfo) -> Fraction:
    """The quantity of a group of events; 0 of nothing."""
    if not events:
        return Fraction(0)
    ordered = sorted(events, key=lambda e: (e.time, e.received_at))
    if meter.aggregation is Aggregation.COUNT:
        return Fraction(len(events))
    if meter.aggregation is Aggregation.UNIQUE_COUNT:
        return Fraction(len({e.value for e in events}))
    values = [Fraction(e.value) for e in ordered if isinstance(e.value, Decimal | int)]
    if meter.window is not None:
        windows: dict[int, Fraction] = {}
        for event, value in zip(ordered, values, strict=True):
            start = _window(event.time, meter.window, zone)
            windows[start] = windows.get(start, Fraction(0)) + value
        values = list(windows.values())
    match meter.aggregation:
        case Aggregation.SUM:
            return sum(values, Fraction(0))
        case Aggregation.AVERAGE:
            return sum(values, Fraction(0)) / len(values)
        case Aggregation.MIN:
            return min(values)
        case Aggregation.MAX:
            return max(values)
        case Aggregation.LATEST:
            return values[-1]
        case Aggregation.PERCENTILE:
            rank = math.ceil(Fraction(meter.percentile) * len(values) / 100)
            return sorted(values)[rank - 1]
    raise NotImplementedError(meter)
