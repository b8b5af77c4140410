"""Which terms a contract has, when: list prices and overrides as they take effect.

A contract's prices are *slots* (a list price and what replaces it share one). Each slot has its
terms over time, cut only where they change.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from operator import attrgetter
from typing import TypeVar
from zoneinfo import ZoneInfo

from catalog.charges import Capacity
from catalog.clock import Micros, to_datetime, to_micros
from catalog.contracts import Contract
from catalog.errors import DomainError
from catalog.ids import MeterId, PricebookId
from catalog.meters import Meter
from catalog.pricebooks import Invoicing, Price, Pricebook, Prorate
from catalog.snapshot import Catalog, Chain, Version, resolve
from rating.charges.capacity import meters_of
from rating.frames import LineKind
from rating.overrides import (
    LISTED,
    OWN,
    Offer,
    Origin,
    amended,
    bounds,
    in_force,
    in_order,
    latest,
    overridden,
    pinned_at,
)
from rating.support import require_rateable, require_supported
from rating.terms import Terms, bare

K = TypeVar("K")
T = TypeVar("T")


class InconsistentCatalog(DomainError):
    """The catalog refers to what is not there; apply refuses such a catalog."""

    code = "inconsistent_catalog"


@dataclass(frozen=True, slots=True, kw_only=True)
class Stretch:
    """One slot's terms over ``[start, end)``."""

    start: Micros
    end: Micros
    terms: Terms
    origin: Origin


@dataclass(frozen=True, slots=True, kw_only=True)
class Term:
    """A contract as rating reads it: its versions, from when to when, on which calendar.

    ``trial_end`` is the first instant after the trial; null without one.
    """

    chain: Chain[Contract]
    contract: Contract
    start: Micros
    end: Micros | None
    timezone: ZoneInfo
    trial_end: Micros | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreed:
    """A contract as a whole at one instant: amended, with the defaults of its pricebook."""

    contract: Contract
    invoicing: Invoicing
    currency: str
    prorate: Prorate
    revision: int


Pattern = tuple[object, ...]
"""What of a contract decides its prices over time. Contracts of one pattern have the same terms."""


def pattern_of(term: Term) -> Pattern:
    """The pattern of a contract: all that its terms follow from, but for when it is in force.

    Contracts that look at their own start (a trial, a pinned list) share one with those that
    start with them; a contract of several versions has one of its own.
    """
    versions = term.chain.versions
    if len(versions) > 1:
        return (term.contract.id, term.start)
    version, contract = versions[0], term.contract
    dated = term.start if contract.pin or contract.trial is not None else None
    return (
        version.effective_from,
        version.effective_until,
        contract.pricebook,
        contract.currency,
        contract.invoicing,
        contract.prorate,
        contract.prices,
        contract.amendments,
        contract.pin,
        term.timezone.key,
        term.trial_end,
        dated,
    )


_STATED = attrgetter(
    "start",
    "end",
    "pricebook",
    "currency",
    "invoicing",
    "prorate",
    "timezone",
    "pin",
    "prices",
    "discounts",
    "minimum",
    "commitments",
    "credits",
    "trial",
    "amendments",
)


def likeness(chain: Chain[Contract]) -> Pattern:
    """What of a contract decides its lines, but for whose they are.

    A contract of several versions is like no other.
    """
    if len(chain.versions) > 1:
        return (chain.last.id,)
    version = chain.versions[0]
    return version.effective_from, version.effective_until, _STATED(version.value)


def term_of(catalog: Catalog, chain: Chain[Contract]) -> Term:
    """Customer, start, end, trial and time zone are those of the contract's last version.

    It ends at the earlier of its own end (the last amendment's that names one) and the end of
    its last version (a retired contract).
    """
    contract = chain.last
    timezone = ZoneInfo(contract.timezone) if contract.timezone else catalog.timezone
    ends = [a.end for a in in_order(contract.amendments, timezone) if a.end is not None]
    moments = (ends[-1] if ends else contract.end, chain.versions[-1].effective_until)
    start = resolve(contract.start, timezone)
    return Term(
        chain=chain,
        contract=contract,
        start=start,
        end=min((resolve(m, timezone) for m in moments if m is not None), default=None),
        timezone=timezone,
        trial_end=_trial_end(contract, start, timezone),
    )


def _trial_end(contract: Contract, start: Micros, timezone: ZoneInfo) -> Micros | None:
    """So many days on the wall after ``start``, at the same time of day."""
    if contract.trial is None:
        return None
    wall = to_datetime(start).astimezone(timezone).replace(tzinfo=None, fold=0)
    return to_micros((wall + contract.trial).replace(tzinfo=timezone))


class Timelines:
    """Terms over time for the contracts of one catalog. Caches what contracts share."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self._terms: dict[tuple[object, ...], Terms] = {}
        self._lists: dict[tuple[object, ...], dict[str, Offer]] = {}
        self._cuts: dict[tuple[str, str], list[Micros]] = {}
        self._changes: dict[Pattern, list[Micros]] = {}
        self._held: dict[tuple[Pattern, int], dict[str, tuple[Terms, Origin]]] = {}

    def slots(self, term: Term, *, since: int, until: int) -> dict[str, list[Stretch]]:
        """Every slot's stretches within ``[since, until)``, in order; equal neighbours are one.

        The origin of terms that a contract states names any contract of the same pattern.
        """
        pattern = pattern_of(term)
        changes = self._changes_of(pattern, term)
        inside = changes[bisect_right(changes, since) : bisect_left(changes, until)]
        slots: dict[str, list[Stretch]] = {}
        for start, end in pairwise([Micros(since), *inside, Micros(until)]):
            for slot, (terms, origin) in self._held_at(pattern, term, start).items():
                past = slots.setdefault(slot, [])
                if past and past[-1].end == start and past[-1].terms == terms:
                    past[-1] = replace(past[-1], end=end)
                else:
                    past.append(Stretch(start=start, end=end, terms=terms, origin=origin))
        return slots

    def _changes_of(self, pattern: Pattern, term: Term) -> list[Micros]:
        """Every instant at which the terms may change, in order, each once."""
        found = self._changes.get(pattern)
        if found is None:
            found = self._changes[pattern] = sorted(set(self._all_cuts(term)))
        return found

    def _held_at(
        self, pattern: Pattern, term: Term, instant: int
    ) -> dict[str, tuple[Terms, Origin]]:
        """The terms at ``instant``: those since the last change, alike for all of a pattern."""
        key = (pattern, bisect_right(self._changes_of(pattern, term), instant))
        found = self._held.get(key)
        if found is None:
            found = self._held[key] = self._terms_at(term, instant)
        return found

    def agreed(self, term: Term, instant: int) -> Agreed | None:
        """What holds for the contract as a whole at ``instant``; null in a gap of its chain."""
        found = self._stated(term, instant)
        if found is None:
            return None
        contract, listed, revision = found
        book, _ = self._list(contract, listed, term.timezone)
        invoicing, currency, prorate = _defaults(contract, book)
        return Agreed(
            contract=contract,
            invoicing=invoicing,
            currency=currency,
            prorate=prorate,
            revision=revision,
        )

    def _stated(self, term: Term, instant: int) -> tuple[Contract, int, int] | None:
        """The contract as amended, when its list is read, and the revision that stated it."""
        zone = term.timezone
        version = version_at(term.chain, instant, zone)
        if version is None:
            return None
        require_supported(version.value, name=f"contract {term.contract.id}")
        contract = amended(version.value, instant, zone)
        pinned = pinned_at(version.value, term.start, instant, zone) if contract.pin else instant
        return contract, pinned, version.revision

    def _terms_at(self, term: Term, instant: int) -> dict[str, tuple[Terms, Origin]]:
        zone, found = term.timezone, self._stated(term, instant)
        if found is None:
            return {}
        contract, listed, revision = found
        book, offers = self._list(contract, listed, zone)
        origin = Origin(source=OWN, id=contract.id, key="", revision=revision)
        if contract.prices:
            offers = overridden(
                offers, contract.prices, instant=instant, timezone=zone, origin=origin
            )
        trial = term.trial_end is not None and instant < term.trial_end
        resolved = {
            slot: (self._resolved(offer, contract, book, instant), offer.origin)
            for slot, offer in offers.items()
        }
        return {slot: (self._tried(t, trial=trial), o) for slot, (t, o) in resolved.items()}

    def _tried(self, terms: Terms, *, trial: bool) -> Terms:
        """``terms`` as they stand in a trial: usage is told apart, fees are shared later."""
        if not trial or terms.kind is not LineKind.USAGE:
            return terms
        key = ("trial", id(terms))
        if key not in self._terms:
            self._terms[key] = replace(terms, trial=True)
        return self._terms[key]

    def _list(
        self, contract: Contract, instant: int, zone: ZoneInfo
    ) -> tuple[Pricebook | None, dict[str, Offer]]:
        """The pricebook (for its defaults, in force or not) and its prices in force, by slot."""
        if contract.pricebook is None:
            return None, {}
        chain = self._pricebook(contract.pricebook)
        version = version_at(chain, instant, zone)
        if version is None:
            return chain.versions[0].value, {}
        book = version.value
        live = [price for price in book.prices if in_force(price, instant, zone)]
        key = (id(book), zone.key, *map(id, live))
        if key not in self._lists:
            origin = Origin(source=LISTED, id=book.id, key="", revision=version.revision)
            self._lists[key] = {
                slot: Offer(price=price, origin=replace(origin, key=price.key))
                for slot, price in latest(live, zone).items()
            }
        return book, self._lists[key]

    def _pricebook(self, pricebook: PricebookId) -> Chain[Pricebook]:
        return _named(self._catalog.pricebooks, pricebook, "pricebook")

    def _resolved(
        self, offer: Offer, contract: Contract, book: Pricebook | None, instant: int
    ) -> Terms:
        price, zone = offer.price, self._catalog.timezone
        invoicing, currency, prorate = _defaults(contract, book)
        invoicing, prorate = price.invoicing or invoicing, price.prorate or prorate
        product = value_at(_named(self._catalog.products, price.product, "product"), instant, zone)
        meter = None
        if product.meter is not None:
            meter = self._meter(product.meter, instant)
        meters = tuple(self._meter(name, instant) for name in _capacity(price))
        read = (id(meter), *map(id, meters))
        parts = (id(price), id(product), read, offer.multiply, invoicing, currency, prorate)
        if parts not in self._terms:
            require_supported(price, name=f"price {price.key} of contract {contract.id}")
            terms = Terms(
                product=product.id,
                filter=product.filter,
                meter=meter,
                price=bare(price),
                multiply=offer.multiply,
                invoicing=invoicing,
                prorate=prorate,
                currency=currency,
                capacity=meters,
            )
            for counted in terms.counted:
                require_rateable(price, counted)
            self._terms[parts] = terms
        return self._terms[parts]

    def _meter(self, meter: MeterId, instant: int) -> Meter:
        chain = _named(self._catalog.meters, meter, "meter")
        return value_at(chain, instant, self._catalog.timezone)

    def _all_cuts(self, term: Term) -> Iterator[Micros]:
        """Every instant at which the terms may change (and some at which they do not)."""
        zone = term.timezone
        yield from self._cuts_of_products()
        yield from bounds(term.chain.versions, zone)
        if term.trial_end is not None:
            yield term.trial_end
        books: set[PricebookId] = set()
        for contract in term.chain.values:
            overrides = list(contract.prices)
            books.update([contract.pricebook] if contract.pricebook else [])
            for amendment in contract.amendments:
                yield resolve(amendment.effective_from, zone)
                overrides.extend(amendment.prices or ())
                books.update([amendment.pricebook] if amendment.pricebook else [])
            yield from bounds([o.price for o in overrides if o.price is not None], zone)
        for book in books:
            yield from self._cuts_of_book(book, zone)

    def _cuts_of_book(self, book: PricebookId, zone: ZoneInfo) -> list[Micros]:
        key = (book, zone.key)
        if key not in self._cuts:
            versions = self._pricebook(book).versions
            prices = [price for version in versions for price in version.value.prices]
            self._cuts[key] = [*bounds(versions, zone), *bounds(prices, zone)]
        return self._cuts[key]

    def _cuts_of_products(self) -> list[Micros]:
        """Products and meters have no calendar of their own: they change on the service's."""
        key = ("", "")
        if key not in self._cuts:
            own, found = self._catalog.timezone, []
            for product in self._catalog.products.values():
                found.extend(bounds(product.versions, own))
            for meter in self._catalog.meters.values():
                found.extend(bounds(meter.versions, own))
            self._cuts[key] = found
        return self._cuts[key]


def _defaults(contract: Contract, book: Pricebook | None) -> tuple[Invoicing, str, Prorate]:
    """Invoicing, currency and prorate of a contract, from its pricebook where it names none."""
    invoicing = contract.invoicing or (book.invoicing if book else None)
    currency = contract.currency or (book.currency if book else None)
    if invoicing is None or currency is None:
        raise InconsistentCatalog(f"contract {contract.id} has no invoicing or currency")
    prorate = contract.prorate or (book.prorate if book else Prorate.NO)
    return invoicing, currency, prorate


def _capacity(price: Price) -> tuple[MeterId, ...]:
    """The meters of a capacity charge that is metered."""
    charge = price.charge
    return meters_of(charge) if isinstance(charge, Capacity) and price.quantity is None else ()


def version_at(chain: Chain[T], instant: int, timezone: ZoneInfo) -> Version[T] | None:
    """The version in force at ``instant``, or None in a gap."""
    return next((v for v in chain.versions if in_force(v, instant, timezone)), None)


def value_at(chain: Chain[T], instant: int, timezone: ZoneInfo) -> T:
    """The value in force; where none is, the first there is (products and meters have no gaps)."""
    version = version_at(chain, instant, timezone)
    return chain.versions[0].value if version is None else version.value


def _named(chains: Mapping[K, Chain[T]], name: K, what: str) -> Chain[T]:
    found = chains.get(name)
    if found is None or not found.versions:
        raise InconsistentCatalog(f"there is no {what} {name}")
    return found
