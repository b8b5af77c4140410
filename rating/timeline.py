"""Which terms a contract has, when: list prices and overrides as they take effect.

A contract's prices are *slots* (a list price and what replaces it share one). Each slot has its
terms over time, cut only where they change.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TypeVar
from zoneinfo import ZoneInfo

from catalog.clock import Micros
from catalog.contracts import Contract
from catalog.errors import DomainError
from catalog.ids import PricebookId
from catalog.pricebooks import Pricebook, Prorate
from catalog.snapshot import Catalog, Chain, Version, resolve
from rating.overrides import (
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
from rating.support import require_supported
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
    """A contract as rating reads it: its versions, from when to when, on which calendar."""

    chain: Chain[Contract]
    contract: Contract
    start: Micros
    end: Micros | None
    timezone: ZoneInfo


def term_of(catalog: Catalog, chain: Chain[Contract]) -> Term:
    """Customer, start, end and time zone are those of the contract's last version.

    It ends at the earlier of its own end (the last amendment's that names one) and the end of
    its last version (a retired contract).
    """
    contract = chain.last
    timezone = ZoneInfo(contract.timezone) if contract.timezone else catalog.timezone
    ends = [a.end for a in in_order(contract.amendments, timezone) if a.end is not None]
    moments = (ends[-1] if ends else contract.end, chain.versions[-1].effective_until)
    return Term(
        chain=chain,
        contract=contract,
        start=resolve(contract.start, timezone),
        end=min((resolve(m, timezone) for m in moments if m is not None), default=None),
        timezone=timezone,
    )


class Timelines:
    """Terms over time for the contracts of one catalog. Caches what contracts share."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self._terms: dict[tuple[object, ...], Terms] = {}
        self._lists: dict[tuple[object, ...], dict[str, Offer]] = {}
        self._cuts: dict[tuple[str, str], list[Micros]] = {}

    def slots(self, term: Term, *, since: int, until: int) -> dict[str, list[Stretch]]:
        """Every slot's stretches within ``[since, until)``, in order; equal neighbours are one."""
        cuts = {since, until, *(c for c in self._all_cuts(term) if since < c < until)}
        slots: dict[str, list[Stretch]] = {}
        for start, end in pairwise(Micros(cut) for cut in sorted(cuts)):
            for slot, (terms, origin) in self._terms_at(term, start).items():
                past = slots.setdefault(slot, [])
                if past and past[-1].end == start and past[-1].terms == terms:
                    past[-1] = replace(past[-1], end=end)
                else:
                    past.append(Stretch(start=start, end=end, terms=terms, origin=origin))
        return slots

    def _terms_at(self, term: Term, instant: int) -> dict[str, tuple[Terms, Origin]]:
        zone = term.timezone
        version = version_at(term.chain, instant, zone)
        if version is None:
            return {}
        require_supported(version.value, name=f"contract {term.contract.id}")
        contract = amended(version.value, instant, zone)
        listed = instant
        if contract.pin:
            listed = pinned_at(version.value, term.start, instant, zone)
        book, offers = self._list(contract, listed, zone)
        origin = Origin(source="contract", id=contract.id, key="", revision=version.revision)
        if contract.prices:
            offers = overridden(
                offers, contract.prices, instant=instant, timezone=zone, origin=origin
            )
        return {
            slot: (self._resolved(offer, contract, book, instant), offer.origin)
            for slot, offer in offers.items()
        }

    def _list(
        self, contract: Contract, instant: int, zone: ZoneInfo
    ) -> tuple[Pricebook | None, dict[str, Offer]]:
        """The pricebook (for its defaults, in force or not) and its prices in force, by slot."""
        if contract.pricebook is None:
            return None, {}
        chain = self._pricebook(contract.pricebook)
        version = version_at(chain, instant, zone)
        if version is None or not in_force(version.value, instant, zone):
            return chain.versions[0].value, {}
        book = version.value
        live = [price for price in book.prices if in_force(price, instant, zone)]
        key = (id(book), zone.key, *map(id, live))
        if key not in self._lists:
            origin = Origin(source="list", id=book.id, key="", revision=version.revision)
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
        invoicing = price.invoicing or contract.invoicing or (book.invoicing if book else None)
        currency = contract.currency or (book.currency if book else None)
        if invoicing is None or currency is None:
            raise InconsistentCatalog(f"contract {contract.id} has no invoicing or currency")
        prorate = price.prorate or contract.prorate or (book.prorate if book else Prorate.NO)
        product = value_at(_named(self._catalog.products, price.product, "product"), instant, zone)
        meter = None
        if product.meter is not None:
            meter = value_at(_named(self._catalog.meters, product.meter, "meter"), instant, zone)
        parts = (id(price), id(product), id(meter), offer.multiply, invoicing, currency, prorate)
        if parts not in self._terms:
            require_supported(price, name=f"price {price.key} of contract {contract.id}")
            if meter is not None and price.quantity is None:
                require_supported(meter, name=f"meter {meter.id}")
            self._terms[parts] = Terms(
                product=product.id,
                filter=product.filter,
                meter=meter,
                price=bare(price),
                multiply=offer.multiply,
                invoicing=invoicing,
                prorate=prorate,
                currency=currency,
            )
        return self._terms[parts]

    def _all_cuts(self, term: Term) -> Iterator[Micros]:
        """Every instant at which the terms may change (and some at which they do not)."""
        zone = term.timezone
        yield from self._cuts_of_products()
        yield from bounds(term.chain.versions, zone)
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
            values = [version.value for version in versions]
            prices = [price for value in values for price in value.prices]
            self._cuts[key] = [
                *bounds(versions, zone),
                *bounds(values, zone),
                *bounds(prices, zone),
            ]
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
