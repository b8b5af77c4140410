"""A third opinion, in fractions: bframe's model as it is meant, and its known departures from it.

:func:`invoices` walks every price of every iteration of a contract month by month. Without
departures it says what Tallyman must say; with all of them, what bframe says. Each departure is a
rule by itself (a keyword of :data:`DEPARTURES`), so a difference is explained by those without
which it would not be there.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import date, datetime
from fractions import Fraction
from itertools import groupby
from typing import Any

from tests.bframe.business import ADVANCED, ARREARS, ONE_TIME, RANGE, Business, Row, months_on

DEPARTURES = {
    "thousandths": "prices, quantities and values are rounded to three decimals when they are read",
    "events_rounded": "every event's amount is rounded to a thousandth before they are added up",
    "floats": "a fixed fee is a binary float until it is rounded",
    "missing_is_one": "an event without the property that is summed counts as one",
    "absent_passes": "an absent property passes a filter if another condition holds",
    "text_inside": "a value passes `in` if its digits are found anywhere in the list's text",
    "versions_cut": "every iteration and pricebook version is a line of its own, changed or not",
    "fee_each_version": "a fee that is not prorated is due in full under each version in a period",
    "advance_whole": "what is billed in advance or once is not cut when its terms are replaced",
    "first_month_decides": "a version that begins after a period's first month waits for the next",
    "book_whole_months": "a pricebook's dates count by whole periods: two versions bill one twice",
    "book_unseen": "a pricebook is not found unless its dates lie within the iteration's",
    "begins_with_month": "a price that starts inside a month counts from the month's first day",
    "runs_to_period_end": "a price that ends inside a period counts to the period's last day",
    "outlives_contract": "a price whose last period is cut by the contract's end keeps its own end",
    "once_from_month": "a one-time fee is prorated from the first day of its month",
    "endless_once": "a one-time price of a contract without an end has no amount if prorated",
}
ALL = frozenset(DEPARTURES)

Invoices = dict[tuple[str, str, str, str | None], list[tuple[int, Fraction, Fraction]]]
FAR = date(2200, 1, 1)


@dataclass(frozen=True, kw_only=True)
class Item:
    """One price of one iteration, under one pricebook version (or none)."""

    contract: str
    customer: str
    slot: str
    product: int
    metered: bool
    price: Fraction
    quantity: Fraction
    prorated: bool
    timing: str
    months: int
    starts: date
    ends: date | None
    since: date
    until: date | None
    book_since: date | None
    book_until: date | None

    @property
    def terms(self) -> tuple[object, ...]:
        """What is billed, however it came about: equal neighbours are one line."""
        prorated = self.prorated and not self.metered
        quantity = 0 if self.metered else self.quantity
        return (*self.cadence, self.product, self.price, quantity, prorated)

    @property
    def cadence(self) -> tuple[object, ...]:
        """When it is billed."""
        return (self.timing, self.months, self.starts, self.ends)


@dataclass(frozen=True, kw_only=True)
class Part:
    """A part of one billing period: what is shown as the period, and what counts."""

    item: Item
    shown: tuple[date, date | None]
    whole: tuple[date, date | None]
    since: date
    until: date | None
    due: bool = True


def invoices(business: Business, known: str, departures: Collection[str] = ()) -> Invoices:
    """What is billed by invoice (contract, delivery, start, end): (product, quantity, amount)."""
    says = _Rule(business, known, frozenset(departures))
    found: Invoices = defaultdict(list)
    for part in says.parts():
        line = says.line(part)
        if line is not None:
            start, end = part.shown
            key = (part.item.contract, part.item.timing, str(start), str(end) if end else None)
            found[key].append(line)
    return {key: sorted(lines) for key, lines in found.items()}


class _Rule:
    """One business under one set of departures."""

    def __init__(self, business: Business, known: str, departures: frozenset[str]) -> None:
        self.departures = departures
        self.business, self.known = business, known
        self.products = {row["id"]: row for row in business.known("products", known)}
        self.events = [
            (event, json.loads(event["properties"]), self._payer(event))
            for event in business.received(known)
        ]

    def has(self, departure: str) -> bool:
        assert departure in DEPARTURES
        return departure in self.departures

    def number(self, text: str) -> Fraction:
        """A number as it is read."""
        exact = Fraction(text)
        return _rounded(exact, 3) if self.has("thousandths") else exact

    # -- which prices there are -----------------------------------------------------------------

    def items(self) -> Iterator[Item]:
        books = self.business.known("pricebooks", self.known)
        listed = self.business.known("list_prices", self.known)
        own = self.business.known("contract_prices", self.known)
        for row in self.business.known("contracts", self.known):
            if row["void"]:
                continue
            for book in books:
                if book["durable_id"] != row["pricebook_id"] or not self._found(book, row):
                    continue
                for price in (p for p in listed if p["pricebook_uid"] == book["id"]):
                    word = next(
                        (
                            p
                            for p in own
                            if (p["contract_uid"], p["list_price_uid"]) == (row["id"], price["id"])
                        ),
                        {},
                    )
                    yield self._item(row, (word, row, price, book), book=book)
            for price in own:
                if price["contract_uid"] == row["id"] and price["list_price_uid"] is None:
                    yield self._item(row, (price, row), book={})

    def _found(self, book: Row, row: Row) -> bool:
        if not self.has("book_unseen"):
            return True
        since, until = book["effective_at"], book["ineffective_at"]
        if row["ineffective_at"] is None or (since or until) is None:
            return True
        inside = since is not None and row["effective_at"] <= since < row["ineffective_at"]
        return inside or (
            until is not None and row["effective_at"] < until <= row["ineffective_at"]
        )

    def _item(self, row: Row, sources: tuple[Row, ...], *, book: Row) -> Item:
        priced = [source for source in sources if source is not row]

        def first(key: str, among: Any = None) -> Any:
            return next((s[key] for s in among or priced if s.get(key) is not None), None)

        started, ended = _day(row["started_at"]), _day(row["ended_at"])
        begin, stop = first("start_period"), first("end_period")
        ends = _day(first("ended_at")) or (ended if stop is None else months_on(started, stop))
        if not self.has("outlives_contract"):
            ends = _earliest(ends, ended)
        product = self.products[first("product_uid")]
        return Item(
            contract=row["durable_id"],
            customer=row["customer_id"],
            slot=first("slot"),
            product=product["id"],
            metered=product["ptype"] == "EVENT",
            price=self.number(first("price")),
            quantity=self.number(first("fixed_quantity") or "1"),
            prorated=bool(first("prorate", sources)),
            timing=first("invoice_delivery"),
            months=first("invoice_schedule"),
            starts=_day(first("started_at"))
            or (started if begin is None else months_on(started, begin)),
            ends=ends,
            since=_day(row["effective_at"]),
            until=_day(row["ineffective_at"]),
            book_since=_day(book.get("effective_at")),
            book_until=_day(book.get("ineffective_at")),
        )

    # -- which periods, and which parts of them -------------------------------------------------

    def parts(self) -> Iterator[Part]:
        """Every part that is a line: of one price (a slot) and cadence, period by period."""
        for _, held in groupby(sorted(self.items(), key=_run), key=_run):
            parts = sorted(self._cut(held), key=_by_period)
            for _, together in groupby(parts, key=_by_period):
                yield from self._due(list(together))

    def _cut(self, items: Iterable[Item]) -> Iterator[Part]:
        for item in items:
            for start, end in _periods(item):
                part = self._part(item, start, end)
                if part is not None:
                    yield part

    def _part(self, item: Item, start: date, end: date | None) -> Part | None:
        """What one item has of the whole period ``[start, end)``, if anything."""
        shown = max(start, item.starts), _earliest(end, item.ends)
        once = item.timing == ONE_TIME
        month_end = months_on(start, 1)
        since, until = item.since, _earliest(item.until, item.ends)
        if self.has("first_month_decides") and not (since < month_end and (until or FAR) > start):
            return None
        books = item.book_since or date.min, item.book_until or FAR
        if self.has("book_whole_months"):
            if not (books[0] < month_end and books[1] > start):
                return None
        else:
            since, until = max(since, books[0]), _earliest(until, item.book_until)
        if not self.has("begins_with_month"):
            since = max(since, item.starts)
        if self.has("runs_to_period_end") and item.timing == ARREARS and item.until is not None:
            until = _earliest(
                item.until, None if self.has("book_whole_months") else item.book_until
            )
        if self.has("advance_whole") and item.timing != ARREARS:
            if (until or FAR) <= start or since >= (shown[1] or FAR):
                return None
            until = shown[1]
        since, until = max(since, start), _earliest(until, end)
        if since >= (until or FAR):
            return None
        whole = (start if not once or self.has("once_from_month") else shown[0]), end
        return Part(item=item, shown=shown, whole=whole, since=since, until=until)

    def _due(self, parts: list[Part]) -> Iterator[Part]:
        """Of the parts of one period those that are lines; neighbours with equal terms are one."""
        parts = sorted(parts, key=lambda part: part.since)
        if not self.has("versions_cut"):
            parts = _merged(parts)
        for place, part in enumerate(parts):
            item = part.item
            if item.metered or item.prorated or self.has("fee_each_version"):
                yield part
            elif item.timing == ARREARS:
                if part.until == part.shown[1]:
                    yield part
            elif item.timing == ADVANCED:
                if part.since == part.shown[0]:
                    yield part
            elif place == 0:
                yield part

    # -- what they come to ----------------------------------------------------------------------

    def line(self, part: Part) -> tuple[int, Fraction, Fraction] | None:
        item = part.item
        if item.metered:
            values = list(self._values(part))
            quantity = sum(values, Fraction(0))
            amounts = [item.price * value for value in values]
            if self.has("events_rounded"):
                amounts = [_rounded(amount, 3) for amount in amounts]
            amount = _rounded(sum(amounts, Fraction(0)), 2)
        else:
            quantity, amount = item.quantity, self._fee(part)
        return (item.product, quantity, amount) if quantity or amount else None

    def _fee(self, part: Part) -> Fraction:
        item, share = part.item, Fraction(1)
        if item.prorated and part.until and part.whole[1]:
            share = Fraction((part.until - part.since).days, (part.whole[1] - part.whole[0]).days)
        elif item.prorated and self.has("endless_once"):
            return Fraction(0)
        if not self.has("floats"):
            return _rounded(item.quantity * share * item.price, 2)
        told = float(item.quantity) * (share.numerator / share.denominator) * float(item.price)
        return _rounded(Fraction(told * 100.0), 0) / 100

    def _values(self, part: Part) -> Iterator[Fraction]:
        product = self.products[part.item.product]
        for event, properties, payer in self.events:
            day = datetime.fromisoformat(event["metered_at"]).date()
            inside = part.since <= day < (part.until or FAR)
            if not inside or payer != part.item.customer:
                continue
            if part.item.timing == ONE_TIME and part.shown[1] is None:
                continue  # never due, here as there
            if properties["name"] == product["event_name"] and self._passes(product, properties):
                value = self._value(product, properties)
                if value is not None:
                    yield value

    def _value(self, product: Row, properties: Row) -> Fraction | None:
        path = product["agg_property"]
        if path is None:
            return Fraction(1)
        told = properties.get(path.removeprefix("$."))
        if told is None:
            return Fraction(1) if self.has("missing_is_one") else None
        return self.number(told)

    def _passes(self, product: Row, properties: Row) -> bool:
        said = [
            self._condition(condition, properties)
            for condition in json.loads(product["filters"] or "{}").values()
        ]
        if self.has("absent_passes"):
            known = [verdict for verdict in said if verdict is not None]
            return (all(known) and bool(known)) or not said
        return all(said)

    def _condition(self, condition: Row, properties: Row) -> bool | None:
        """Whether one condition holds; None where the property is absent and asked for."""
        value = properties.get(condition["path"].removeprefix("$."))
        if value is None:
            return True if condition["optional"] else None
        listed = condition.get("_in") or condition["not_in"]
        among = value in listed
        if self.has("text_inside"):
            among = json.dumps(value) in json.dumps(listed, separators=(",", ":"))
        return among is ("_in" in condition)

    def _payer(self, event: Row) -> str | None:
        if event["customer_id"] is not None:
            return str(event["customer_id"])
        for row in self.business.known("customers", self.known):
            since, until = row["effective_at"], row["ineffective_at"]
            begun = since is None or since <= event["metered_at"]
            held = begun and (until is None or event["metered_at"] < until)
            if held and event["customer_alias"] in json.loads(row["ingest_aliases"]):
                return str(row["durable_id"])
        return None


def _periods(item: Item) -> Iterator[tuple[date, date | None]]:
    """The whole periods of a price that begin within the range."""
    last = date.fromisoformat(RANGE[1][:10])
    if item.timing == ONE_TIME:
        start = months_on(item.starts, item.months)
        if max(start, item.starts) < min(item.ends or FAR, last):
            yield start, item.ends
        return
    step = 0
    while True:
        start = months_on(item.starts, step * item.months)
        if max(start, item.starts) >= min(item.ends or FAR, last):
            return
        yield start, months_on(start, item.months)
        step += 1


def _merged(parts: list[Part]) -> list[Part]:
    found: list[Part] = []
    for part in parts:
        last = found[-1] if found else None
        if last and last.until == part.since and last.item.terms == part.item.terms:
            found[-1] = replace(last, until=part.until)
        else:
            found.append(part)
    return found


def _run(item: Item) -> tuple[str, str, str]:
    return item.contract, item.slot, str(item.cadence)


def _by_period(part: Part) -> tuple[date, date]:
    return part.shown[0], part.shown[1] or FAR


def _earliest(*days: date | None) -> date | None:
    return min((day for day in days if day is not None), default=None)


def _day(moment: str | None) -> Any:
    return None if moment is None else date.fromisoformat(moment[:10])


def _rounded(number: Fraction, places: int) -> Fraction:
    """Half away from zero."""
    scaled = abs(number) * 10**places
    whole = (scaled + Fraction(1, 2)).__floor__()
    return Fraction(whole if number >= 0 else -whole, 10**places)
