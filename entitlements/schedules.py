"""From the catalog to schedules: which contracts give a customer which allowances, and when.

A contract's own entitlement for a feature replaces its pricebook's; several contracts add up.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Protocol
from zoneinfo import ZoneInfo

from catalog.clock import Micros
from catalog.contracts import Contract
from catalog.ids import ContractId, CustomerId, FeatureId, PricebookId
from catalog.meters import ADDITIVE, Meter
from catalog.periods import FOREVER
from catalog.pricebooks import Entitlement, Moment, Pricebook
from catalog.products import Feature
from catalog.snapshot import Catalog, Chain, resolve
from entitlements.given import NO_GRANTS, GrantBook
from entitlements.grants import Schedule, Stretch, Term

BEGINNING = Micros(0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """A feature's meter while one version of both holds: ``[since, until)`` of event time."""

    feature: FeatureId
    meter: Meter
    since: Micros
    until: Micros

    @property
    def additive(self) -> bool:
        """Whether usage adds up event by event."""
        return self.meter.aggregation in ADDITIVE


class _Bounded(Protocol):
    """What a catalog version says of its time, whatever it is a version of."""

    @property
    def effective_from(self) -> Moment | None: ...

    @property
    def effective_until(self) -> Moment | None: ...


class Schedules:
    """All schedules of one catalog and book of grants, compiled when first asked for."""

    def __init__(
        self,
        catalog: Catalog,
        *,
        grants: GrantBook = NO_GRANTS,
        before: Schedules | None = None,
    ) -> None:
        """Prepare; with ``before`` what did not change since is not compiled again."""
        self.catalog = catalog
        self.grants = grants
        self.readings = _readings(catalog)
        self._contracts = _contracts_by_customer(catalog)
        self._checked: dict[CustomerId, Mapping[FeatureId, Schedule]] = {}
        alike = before is not None and before.readings == self.readings
        self._compiled: dict[CustomerId, tuple[object, Mapping[FeatureId, Schedule]]] = (
            before._compiled if before is not None and alike else {}  # noqa: SLF001
        )

    def regranted(self, grants: GrantBook) -> Schedules:
        """The same catalog with a later book of grants: whom it leaves alone is not looked at."""
        other, checked = copy(self), self._checked.copy()
        for customer in grants.changed_since(self.grants):
            checked.pop(customer, None)
        other.grants = grants
        other._checked = checked  # noqa: SLF001
        return other

    def changed_since(self, before: Schedules) -> frozenset[CustomerId] | None:
        """The customers whose schedules may differ from earlier ones; null: any."""
        same = self.catalog is before.catalog
        return self.grants.changed_since(before.grants) if same else None

    def of(self, customer: CustomerId) -> Mapping[FeatureId, Schedule]:
        """The customer's schedules by feature: only features some contract ever names."""
        found = self._checked.get(customer)
        if found is None:
            stated = self._stated(customer)
            known = self._compiled.get(customer)
            found = known[1] if known and known[0] == stated else self._compile(customer)
            self._compiled[customer] = (stated, found)
            self._checked[customer] = found
        return found

    def _stated(self, customer: CustomerId) -> object:
        """The revisions of everything a customer's schedules are compiled from."""
        contracts = [self.catalog.contracts[c] for c in self._contracts.get(customer, ())]
        books = {book for chain in contracts for value in chain.values for book in _books(value)}
        listed = [self.catalog.pricebooks.get(book) for book in sorted(books)]
        stated = [self.catalog.customers.get(customer), *contracts, *listed]
        given = tuple(grant.revision for grant in self.grants.of(customer))
        return given, [
            tuple(v.revision for v in chain.versions) if chain else None for chain in stated
        ]

    def metered(self, customer: CustomerId) -> dict[FeatureId, Schedule]:
        """Those the ledger keeps: of features with a sum or count meter."""
        return {
            feature: schedule
            for feature, schedule in self.of(customer).items()
            if any(reading.additive for reading in self.readings.get(feature, ()))
        }

    def reading_at(self, feature: FeatureId, instant: int) -> Reading | None:
        """Which meter counts the feature at ``instant``."""
        for reading in self.readings.get(feature, ()):
            if reading.since <= instant < reading.until:
                return reading
        return None

    def feature_at(self, feature: FeatureId, instant: int) -> Feature | None:
        """The feature's version in force."""
        chain = self.catalog.features.get(feature)
        return chain.at(instant, self.catalog.timezone) if chain else None

    def feature_span(
        self, feature: FeatureId, instant: int
    ) -> tuple[Feature, Micros, Micros] | None:
        """The feature's version in force, and since and until when it is."""
        chain = self.catalog.features.get(feature)
        for version in chain.versions if chain else ():
            since, until = bounds(
                version.effective_from, version.effective_until, self.catalog.timezone
            )
            if since <= instant < until:
                return version.value, Micros(since), Micros(until)
        return None

    def _compile(self, customer: CustomerId) -> dict[FeatureId, Schedule]:
        offers = [
            _Offer(self.catalog, contract, customer)
            for contract in self._contracts.get(customer, ())
        ]
        given = [grant for grant in self.grants.of(customer) if grant.effective < grant.until]
        cuts = {cut for offer in offers for cut in offer.cuts()}
        cuts |= {cut for grant in given for cut in (grant.effective, grant.until)} - {FOREVER}
        found: dict[FeatureId, list[Stretch]] = {}
        for since, until in pairwise([*sorted(cuts), FOREVER]):
            active = [grant for grant in given if grant.effective <= since < grant.until]
            terms = [term for offer in offers for term in offer.terms(since)]
            terms += [
                Term.of_grant(grant, timezone=self.catalog.timezone)
                for grant in active
                if grant.every_months is not None
            ]
            active = [grant for grant in active if grant.every_months is None]
            named = {term.entitlement.feature for term in terms} | {one.feature for one in active}
            for feature in {*found, *named}:
                stretch = Stretch(
                    since=since,
                    until=Micros(until),
                    terms=tuple(term for term in terms if term.entitlement.feature == feature),
                    given=tuple(grant for grant in active if grant.feature == feature),
                )
                _append(found.setdefault(feature, []), stretch)
        claims = repr(self._claims(customer))
        return {
            feature: Schedule(stretches, reading=self._reading_digest(feature, claims))
            for feature, stretches in found.items()
        }

    def _claims(self, customer: CustomerId) -> list[object]:
        chain = self.catalog.customers.get(customer)
        return [
            (v.effective_from, v.effective_until, v.value.subjects)
            for v in (chain.versions if chain else ())
        ]

    def _reading_digest(self, feature: FeatureId, claims: str) -> str:
        read = [
            (r.since, r.until, r.meter.fact_spec.id, r.meter.aggregation.value)
            for r in self.readings.get(feature, ())
        ]
        return hashlib.sha256(f"{read}{claims}".encode()).hexdigest()[:16]


class CurrentSchedules:
    """The schedules of whatever catalog and grants are current: anew when a revision moves."""

    def __init__(
        self,
        catalog: Callable[[], Catalog],
        grants: Callable[[], GrantBook] = lambda: NO_GRANTS,
    ) -> None:
        self._catalog = catalog
        self._grants = grants
        self._schedules = Schedules(catalog(), grants=grants())

    def __call__(self) -> Schedules:
        """The same object as long as the catalog and the grants are the same."""
        catalog, grants, known = self._catalog(), self._grants(), self._schedules
        if catalog.revision != known.catalog.revision:
            self._schedules = Schedules(catalog, grants=grants, before=known)
        elif grants.revision != known.grants.revision:
            self._schedules = known.regranted(grants)
        return self._schedules


class _Offer:
    """What one contract gives a customer, at any instant."""

    def __init__(self, catalog: Catalog, contract: ContractId, customer: CustomerId) -> None:
        self._catalog = catalog
        self._chain = catalog.contracts[contract]
        self._customer = customer
        self._zone = _zone(self._chain.last, catalog)

    def cuts(self) -> set[Micros]:
        """Every instant at which its terms may change."""
        found: set[Micros] = set()
        for version in self._chain.versions:
            found |= self._resolved([version.effective_from, version.effective_until])
            contract = version.value
            found |= self._resolved([contract.start, contract.end])
            for amendment in contract.amendments:
                found |= self._resolved([amendment.effective_from, amendment.end])
            for book in _books(contract):
                for listed in _versions(self._catalog.pricebooks.get(book)):
                    found |= self._resolved([listed.effective_from, listed.effective_until])
        return found

    def terms(self, instant: int) -> list[Term]:
        """The terms in force at ``instant``; none outside of the contract."""
        contract = self._chain.at(instant, self._zone)
        if contract is None or contract.customer != self._customer:
            return []
        amended = self._amended(contract, instant)
        start = resolve(contract.start, self._zone)
        end = FOREVER if amended.end is None else resolve(amended.end, self._zone)
        if not start <= instant < end:
            return []
        rights = self._rights(amended, start if contract.pin else instant)
        return [
            Term(
                id=f"{contract.id}/{index}",
                entitlement=right,
                start=start,
                end=end,
                timezone=self._zone,
            )
            for index, right in rights
        ]

    def _amended(self, contract: Contract, instant: int) -> Contract:
        for amendment in sorted(
            contract.amendments, key=lambda a: resolve(a.effective_from, self._zone)
        ):
            if resolve(amendment.effective_from, self._zone) <= instant:
                contract = replace(
                    contract,
                    pricebook=amendment.pricebook or contract.pricebook,
                    end=amendment.end or contract.end,
                )
        return contract

    def _rights(self, contract: Contract, listed_at: int) -> list[tuple[str, Entitlement]]:
        """Rights with a name each: the feature, and its place where there are several."""
        own = {right.feature for right in contract.entitlements}
        chain = self._catalog.pricebooks.get(contract.pricebook) if contract.pricebook else None
        book = chain.at(listed_at, self._zone) if chain else None
        listed = [r for r in (book.entitlements if book else ()) if r.feature not in own]
        counts: dict[FeatureId, int] = {}
        found = []
        for right in [*contract.entitlements, *listed]:
            place = counts[right.feature] = counts.get(right.feature, 0) + 1
            found.append((f"{right.feature}/{place}", right))
        return found

    def _resolved(self, moments: Iterable[Moment | None]) -> set[Micros]:
        return {resolve(moment, self._zone) for moment in moments if moment is not None}


def _append(stretches: list[Stretch], stretch: Stretch) -> None:
    """Add a stretch, joined to the one before where nothing changes."""
    same = stretches and (stretches[-1].terms, stretches[-1].given) == (
        stretch.terms,
        stretch.given,
    )
    if same:
        stretches[-1] = replace(stretches[-1], until=stretch.until)
    elif stretches or stretch.terms or stretch.given:
        stretches.append(stretch)


def _zone(contract: Contract, catalog: Catalog) -> ZoneInfo:
    return ZoneInfo(contract.timezone) if contract.timezone else catalog.timezone


def _books(contract: Contract) -> list[PricebookId]:
    named = [contract.pricebook, *(amendment.pricebook for amendment in contract.amendments)]
    return [book for book in named if book is not None]


def _versions(chain: Chain[Pricebook] | None) -> Sequence[_Bounded]:
    return chain.versions if chain else ()


def _contracts_by_customer(catalog: Catalog) -> dict[CustomerId, list[ContractId]]:
    found: dict[CustomerId, list[ContractId]] = {}
    for contract, chain in catalog.contracts.items():
        for customer in {value.customer for value in chain.values}:
            found.setdefault(customer, []).append(contract)
    return found


def _readings(catalog: Catalog) -> dict[FeatureId, tuple[Reading, ...]]:
    """Each metered feature's meters over time: feature versions crossed with meter versions."""
    found: dict[FeatureId, list[Reading]] = {}
    zone = catalog.timezone
    for feature, chain in catalog.features.items():
        for version in chain.versions:
            meters = catalog.meters.get(version.value.meter) if version.value.meter else None
            for metered in meters.versions if meters else ():
                outer = bounds(version.effective_from, version.effective_until, zone)
                inner = bounds(metered.effective_from, metered.effective_until, zone)
                since, until = max(outer[0], inner[0]), min(outer[1], inner[1])
                if since < until:
                    reading = Reading(
                        feature=feature,
                        meter=metered.value,
                        since=Micros(since),
                        until=Micros(until),
                    )
                    found.setdefault(feature, []).append(reading)
    return {feature: tuple(readings) for feature, readings in found.items()}


def bounds(since: Moment | None, until: Moment | None, timezone: ZoneInfo) -> tuple[int, int]:
    """A version's or a claim's time as instants: ``[since, until)``, open ends far away."""
    return (
        BEGINNING if since is None else resolve(since, timezone),
        FOREVER if until is None else resolve(until, timezone),
    )
