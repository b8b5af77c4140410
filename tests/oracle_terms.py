"""A naive second opinion on the terms of a contract as a whole, always from its first day.

For contracts without overrides, on one undated list of per-unit prices and flat fees: the lines
themselves are for :mod:`tests.oracle`. Money is :class:`fractions.Fraction` in the currency's
major unit; what is left of every line is kept, line by line, and every term walks over all of it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import date, timedelta
from fractions import Fraction
from itertools import pairwise
from typing import Any
from zoneinfo import ZoneInfo

from catalog.charges import Flat
from catalog.clock import to_datetime
from catalog.contracts import Contract
from catalog.pricebooks import Invoicing, Prorate, Timing
from catalog.snapshot import Catalog, resolve
from tests.oracle import MINOR, NEVER, Event, rounded, walked_periods

ZERO, ONE = Fraction(0), Fraction(1)


@dataclass
class Piece:
    """Some money of one document that terms eat away at."""

    product: str | None
    scope: tuple[str, ...] | None
    kind: str
    at: int
    left: Fraction
    free: Fraction = ZERO


@dataclass
class Doc:
    """One invoice to be."""

    due: int
    timing: str
    start: int
    end: int
    pieces: list[Piece] = field(default_factory=list)

    @property
    def key(self) -> tuple[Any, ...]:
        """When it falls due, before or after which other."""
        return self.due, self.timing, self.start, self.end


Told = tuple[date, str, str, int, int, Fraction]
"""Accounting date, kind, timing, start, end and amount of one line that is not zero."""


Made = tuple[Doc, Piece, tuple[int, int]]
"""A line of a term, the document it is billed with, and what it covers."""


class Book:
    """One contract, settled from its start up to a day."""

    def __init__(self, catalog: Catalog, contract: Contract, *, until: date, as_of: int) -> None:
        self.catalog, self.contract, self.until, self.as_of = catalog, contract, until, as_of
        self.zone = ZoneInfo(contract.timezone) if contract.timezone else catalog.timezone
        self.start = resolve(contract.start, self.zone)
        self.end = NEVER if contract.end is None else resolve(contract.end, self.zone)
        assert contract.pricebook is not None
        self.book = catalog.pricebooks[contract.pricebook].last
        self.decimals = MINOR[self.book.currency]
        self.prorate = contract.prorate or self.book.prorate
        self.invoicing = contract.invoicing or self.book.invoicing
        self.docs: list[Doc] = []
        self.told: list[Told] = []

    # -- documents and their lines --------------------------------------------------------------

    def day(self, instant: int) -> date:
        """The local day."""
        return to_datetime(instant).astimezone(self.zone).date()

    def doc(self, due: int, timing: str, start: int, end: int) -> Doc:
        """The document with these bounds, a new one where there is none."""
        made = Doc(due, timing, start, end)
        found = [doc for doc in self.docs if doc.key == made.key]
        if not found:
            self.docs.append(made)
        return found[0] if found else made

    def money(self, exact: Fraction) -> Fraction:
        """Rounded once."""
        return Fraction(rounded(exact, self.decimals))

    def tell(self, doc: Doc, kind: str, amount: Fraction, *, over: tuple[int, int]) -> None:
        """One more line."""
        if amount:
            self.told.append((self.day(doc.due), kind, doc.timing, *over, amount))

    def periods(self, invoicing: Invoicing) -> list[tuple[int, int, int, int, int]]:
        """Billing periods that may count before the day, and one more."""
        horizon = resolve(self.until + timedelta(days=40), self.zone)
        return list(walked_periods(self.start, self.end, invoicing, self.zone, horizon))

    def bill(self, events: Iterable[Event]) -> None:
        """Every line that a price makes."""
        for price in self.book.prices:
            invoicing = price.invoicing or self.invoicing
            meter = self.catalog.products[price.product].last.meter
            flat = isinstance(price.charge, Flat)
            for _, start, end, low, high in self.periods(invoicing):
                once = invoicing.timing is Timing.ONCE
                late = invoicing.timing is Timing.ARREARS or (once and not flat)
                due = end - 1 if late else start
                if due >= NEVER - 1 or start > self.as_of or self.day(due) >= self.until:
                    continue
                doc = self.doc(due, invoicing.timing.value, start, end)
                parts = [(start, end, ZERO)]
                if flat:
                    free = ZERO if once else self.free(start, end)
                    share = ONE if once and end >= NEVER else self.share(start, end, low, high)
                    exact = Fraction(price.charge.amount) * (share or 0)
                    self.line(doc, (price.product, "fixed"), exact, (start, end, free))
                    continue
                if start < self.trial_end < end:
                    parts = [(start, self.trial_end, ONE), (self.trial_end, end, ZERO)]
                elif end <= self.trial_end:
                    parts = [(start, end, ONE)]
                for since, until, free in parts:
                    used = sum(
                        (
                            Fraction(e.value)
                            for e in events
                            if e.meter == meter
                            and e.received_at <= self.as_of
                            and e.subject == self.contract.customer
                            and since <= e.time < until
                        ),
                        ZERO,
                    )
                    exact = used * Fraction(price.charge.unit_price)
                    self.line(doc, (price.product, "usage"), exact, (since, until, free))

    def line(
        self, doc: Doc, what: tuple[str, str], exact: Fraction, over: tuple[int, int, Fraction]
    ) -> None:
        """A price's line; lines of one product, kind and free share are one piece."""
        product, kind = what
        amount = self.money(exact)
        self.tell(doc, kind, amount, over=over[:2])
        same = [p for p in doc.pieces if (p.product, p.kind, p.free) == (product, kind, over[2])]
        if same:
            same[0].left += amount
        else:
            doc.pieces.append(Piece(product, (product,), kind, doc.due, amount, over[2]))
            doc.pieces.sort(key=lambda p: (p.product, p.kind, p.free))

    def share(self, start: int, end: int, low: int, high: int) -> Fraction:
        """What of a period's amount is due for a part of it."""
        if self.prorate is Prorate.NO or high >= NEVER:
            return ONE
        if self.prorate is Prorate.DAYS:
            return Fraction(
                (self.day(end) - self.day(start)).days, (self.day(high) - self.day(low)).days
            )
        return Fraction(end - start, high - low)

    # -- the trial ------------------------------------------------------------------------------

    @property
    def trial_end(self) -> int:
        """The first instant after it, or before everything."""
        if self.contract.trial is None:
            return -NEVER
        local = to_datetime(self.start).astimezone(self.zone)
        ended = (local.replace(tzinfo=None, fold=0) + self.contract.trial).replace(tzinfo=self.zone)
        return round((ended - to_datetime(0)) / timedelta(microseconds=1))

    def free(self, start: int, end: int) -> Fraction:
        """How much of a stretch lies in the trial."""
        if self.trial_end <= start:
            return ZERO
        if end <= self.trial_end:
            return ONE
        days = (self.day(end) - self.day(start)).days
        if not days:
            return Fraction(self.trial_end - start, end - start)
        return Fraction((self.day(self.trial_end) - self.day(start)).days, days)

    # -- terms ----------------------------------------------------------------------------------

    def settle(self) -> None:
        """Trial, discounts, commitments, minimum, credits."""
        self.docs.sort(key=lambda doc: doc.key)
        for doc in self.docs:
            tried = [p for p in doc.pieces if p.free]
            self.eat(doc, tried, [p.left * p.free for p in tried], "discount")
        self.discounts()
        found = [
            made
            for held in list(self.committed())
            for made in (*self.overages(held), *self.true_ups(held))
        ]
        for doc, piece, over in found:
            doc.pieces.append(piece)
            self.tell(doc, piece.kind, piece.left, over=over)
        for doc, piece, over in list(self.minimums()):
            doc.pieces.append(piece)
            self.tell(doc, piece.kind, piece.left, over=over)
        self.docs.sort(key=lambda doc: doc.key)
        self.credits()

    def eat(self, doc: Doc, pieces: list[Piece], parts: list[Fraction], kind: str) -> Fraction:
        """Take parts off pieces in whole cents; the line is their sum, rounded."""
        total = ZERO
        for n, piece in enumerate(pieces):
            piece.left -= self.money(sum(parts[: n + 1], ZERO)) - self.money(sum(parts[:n], ZERO))
        total = self.money(sum(parts, ZERO))
        self.tell(doc, kind, -total, over=(doc.start, doc.end))
        return total

    def standing(self, name: str, instant: int) -> Any:
        """The contract's discounts or commitments at an instant."""
        found = getattr(self.contract, name)
        for amendment in self.contract.amendments:
            if resolve(amendment.effective_from, self.zone) <= instant:
                named = getattr(amendment, name)
                found = found if named is None else named
        return found

    def discounts(self) -> None:
        """Percent and amount, in the order written."""
        used: dict[Any, Fraction] = {}
        for doc in self.docs:
            for n, d in enumerate(self.standing("discounts", doc.due)):
                if d.since is not None and doc.due < resolve(d.since, self.zone):
                    continue
                if d.until is not None and doc.due >= resolve(d.until, self.zone):
                    continue
                pieces = within(doc.pieces, d.products)
                if d.percent is not None:
                    parts = [p.left * Fraction(d.percent) / 100 for p in pieces]
                    self.eat(doc, pieces, parts, "discount")
                    continue
                pool = n, d, self.pool(doc.due)
                room = Fraction(d.amount) - used.get(pool, ZERO)
                taken = self.eat_evenly(doc, pieces, room, "discount")
                used[pool] = used.get(pool, ZERO) + taken

    def pool(self, instant: int) -> int:
        """The billing period of the contract that holds an instant, by its start."""
        for _, start, end, *_ in self.periods(self.invoicing):
            if start <= instant < end:
                return start
        return self.start

    def eat_evenly(self, doc: Doc, pieces: list[Piece], most: Fraction, kind: str) -> Fraction:
        """Take at most what there is, by size."""
        total = sum((p.left for p in pieces), ZERO)
        if total <= 0 or most <= 0:
            return ZERO
        wanted = min(most, total)
        return self.eat(doc, pieces, [wanted * p.left / total for p in pieces], kind)

    def windows(self, every: int | None) -> list[tuple[int, int, int, int]]:
        """(start, end, whole start, whole end) of windows of so many months, or of the term."""
        if every is None:
            return [(self.start, self.end, self.start, self.end)]
        cadence = Invoicing(timing=Timing.ARREARS, every=every, anchor=self.invoicing.anchor)
        return [period[1:] for period in self.periods(cadence)]

    def stretches(self, window: tuple[int, int, int, int], pick: Any) -> list[Any]:
        """(promise, spend since, in force from, until, share, due) over a window."""
        start, end, low, high = window
        cuts = [resolve(a.effective_from, self.zone) for a in self.contract.amendments]
        bounds = [start, *(c for c in cuts if start < c < end), end]
        held: list[list[Any]] = []
        for left, right in pairwise(bounds):
            promise = pick(left)
            if promise is None:
                continue
            if held and held[-1][2] == left and held[-1][0] == promise:
                held[-1][2] = right
            else:
                held.append([promise, left, right])
        prorated = self.prorate is not Prorate.NO
        return [
            (
                promise,
                left if prorated else start,
                left,
                right,
                self.share(left, right, low, high) if prorated else ONE,
                prorated or right == end,
            )
            for promise, left, right in held
        ]

    def committed(self) -> Iterable[tuple[Any, ...]]:
        """Every commitment over every stretch."""
        at = [self.start, *(resolve(a.effective_from, self.zone) for a in self.contract.amendments)]
        stood = [self.standing("commitments", instant) for instant in at]
        every = {(n, c.every_months) for named in stood for n, c in enumerate(named)}
        for n, months in sorted(every, key=lambda found: (found[0], found[1] or 0)):

            def pick(instant: int, n: int = n, months: int | None = months) -> Any:
                found = self.standing("commitments", instant)
                return found[n] if len(found) > n and found[n].every_months == months else None

            for window in self.windows(months):
                yield from self.stretches(window, pick)

    def spend(self, since: int, until: int, products: Any, *, docs: Any = None) -> Fraction:
        """What prices billed less discounts."""
        pieces = [p for doc in (self.docs if docs is None else docs) for p in doc.pieces]
        own = [p for p in within(pieces, products) if p.kind in ("usage", "fixed")]
        return sum((p.left for p in own if since <= p.at < until), ZERO)

    def overages(self, held: Any) -> Iterable[Made]:
        """On each document: spend up to it, beyond the promise, less spend before it beyond."""
        c, since, left, right, share, _ = held
        for n, doc in enumerate(self.docs):
            if c.overage_multiplier is None or not left <= doc.due < right:
                continue
            promised = Fraction(c.amount) * share
            now = self.spend(since, right, c.products, docs=self.docs[: n + 1])
            before = self.spend(since, right, c.products, docs=self.docs[:n])
            beyond = max(ZERO, now - promised) - max(ZERO, before - promised)
            extra = self.money(beyond * (Fraction(c.overage_multiplier) - 1))
            piece = Piece(None, c.products, "commitment", doc.due, extra)
            yield doc, piece, (doc.start, doc.end)

    def true_ups(self, held: Any) -> Iterable[Made]:
        """What is short where a window ends."""
        c, since, _, right, share, due = held
        doc = self.due_with(since, right) if due and c.true_up else None
        if doc is not None:
            spent = self.spend(since, right, c.products)
            short = self.money(max(ZERO, Fraction(c.amount) * share - spent))
            piece = Piece(None, c.products, "commitment", right - 1, short)
            yield doc, piece, (since, right)

    def minimums(self) -> Iterable[Made]:
        """What all lines of a window are short of the minimum."""
        minimum = self.contract.minimum
        if minimum is None:
            return
        made = []
        for window in self.windows(minimum.every_months):
            for _, since, _, right, share, due in self.stretches(window, lambda _: minimum):
                doc = self.due_with(since, right) if due else None
                if doc is None:
                    continue
                pieces = [p for d in self.docs for p in d.pieces]
                spent = sum((p.left for p in pieces if since <= p.at < right), ZERO)
                promised = Fraction(minimum.amount) * share * (1 - self.free(since, right))
                short = self.money(max(ZERO, promised - spent))
                made.append((doc, Piece(None, None, "minimum", right - 1, short), (since, right)))
        yield from made

    def due_with(self, since: int, end: int) -> Doc | None:
        """The document that bills what was short up to ``end``."""
        if end >= NEVER:
            return None
        bounds = since, end
        if self.invoicing.timing is Timing.ARREARS:
            for _, start, until, *_ in self.periods(self.invoicing):
                if start <= end - 1 < until:
                    bounds = start, until
        if bounds[0] > self.as_of or self.day(bounds[1] - 1) >= self.until:
            return None
        return self.doc(bounds[1] - 1, "arrears", *bounds)

    def credits(self) -> None:
        """Burn them, document by document."""
        balance = {c.id: Fraction(c.amount) for c in self.contract.credits}

        def rank(c: Any) -> tuple[Any, ...]:
            expiry = NEVER if c.expires_at is None else resolve(c.expires_at, self.zone)
            age = self.start if c.effective_at is None else resolve(c.effective_at, self.zone)
            return c.priority, expiry, age

        for doc in self.docs:
            for c in sorted(self.contract.credits, key=rank):
                if c.effective_at is not None and doc.due < resolve(c.effective_at, self.zone):
                    continue
                if c.expires_at is not None and doc.due >= resolve(c.expires_at, self.zone):
                    continue
                cents = 10**self.decimals
                most = min(balance[c.id], sum((p.left for p in doc.pieces), ZERO))
                whole = Fraction(most * cents // 1, cents)
                pieces = within(doc.pieces, c.products)
                balance[c.id] -= self.eat_evenly(doc, pieces, whole, "credit")


def within(pieces: list[Piece], products: Any) -> list[Piece]:
    """Pieces that lie wholly in a term's products."""
    return [
        p
        for p in pieces
        if products is None or (p.scope is not None and all(s in products for s in p.scope))
    ]


def oracle_terms(
    catalog: Catalog, events: list[Event], *, first: date, until: date, as_of: int
) -> list[Told]:
    """Every line of every contract that counts in ``[first, until)`` and is not zero."""
    told: list[Told] = []
    for chain in catalog.contracts.values():
        book = Book(catalog, chain.last, until=until, as_of=as_of)
        book.bill(events)
        book.settle()
        told += [line for line in book.told if first <= line[0] < until]
    return sorted(told)
