"""Where the days of cells are cut: so that no line's usage begins or ends inside a cell.

Only speed hangs on it. A cell that a line cuts all the same is counted from its facts.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain
from zoneinfo import ZoneInfo

import polars as pl

from catalog.clock import Micros
from catalog.contracts import Contract
from catalog.durations import DAY_MINUTES
from catalog.ids import CustomerId
from catalog.snapshot import Catalog, Chain, resolve
from catalog.subjects import BEGINNING, ENDLESS, SubjectIndex, contracts_by_customer
from catalog.windows import edges
from rating.overrides import bounds
from rating.timeline import term_of

INSTANT = pl.Datetime("us", "UTC")
UTC = ZoneInfo("UTC")


@dataclass(frozen=True, slots=True)
class Calendar:
    """The days of these zones, cut at these instants besides."""

    zones: frozenset[str] = frozenset({"UTC"})
    instants: tuple[int, ...] = ()

    def edges(self, since: Micros, until: Micros) -> list[int]:
        """The ends of the pieces that ``[since, until)`` meets, in order."""
        zones = map(ZoneInfo, self.zones)
        days = [edges(DAY_MINUTES, since=since, until=until, timezone=zone) for zone in zones]
        first = max(found[0] for found in days)
        last = min(found[-1] for found in days)
        inside = (i for i in self.instants if first < i < last)
        return sorted({*(e for e in chain(*days) if first <= e <= last), *inside})


@dataclass(frozen=True, slots=True, kw_only=True)
class Cuts:
    """A calendar for every subject; ``common`` for those that nobody claims."""

    by_subject: Mapping[str, Calendar] = field(default_factory=dict)
    common: Calendar = Calendar()

    def pieces(self, rows: pl.DataFrame) -> pl.DataFrame:
        """``rows`` (with ``subject``, ``time``) with ``start`` and ``end`` of their piece of a day.

        Every time lies in its ``[start, end)``; pieces of one subject never overlap.
        """
        if rows.is_empty():
            return rows.with_columns(start=pl.col("time"), end=pl.col("time"))
        low, high = rows["time"].to_physical().min(), rows["time"].to_physical().max()
        assert isinstance(low, int)
        assert isinstance(high, int)
        numbers: dict[Calendar, int] = {}
        subjects, held = rows["subject"].unique(), self.by_subject
        near = (_near(held.get(subject, self.common), low, high) for subject in subjects)
        found = [numbers.setdefault(calendar, len(numbers)) for calendar in near]
        if len(numbers) == 1:
            return _cut(rows, next(iter(numbers)))
        keyed = rows.join(pl.DataFrame({"subject": subjects, "calendar": found}), on="subject")
        parts = keyed.partition_by("calendar", include_key=False, as_dict=True)
        return pl.concat(_cut(parts[number,], calendar) for calendar, number in numbers.items())


def _near(calendar: Calendar, low: int, high: int) -> Calendar:
    """Subjects that are cut alike between ``low`` and ``high`` share a calendar."""
    day = DAY_MINUTES * 60_000_000
    near = tuple(i for i in calendar.instants if low - 2 * day < i < high + 2 * day)
    return Calendar(calendar.zones, near)


def _cut(rows: pl.DataFrame, calendar: Calendar) -> pl.DataFrame:
    times = rows["time"].to_physical()
    low, high = times.min(), times.max()
    assert isinstance(low, int)
    assert isinstance(high, int)
    ends = pl.Series(calendar.edges(Micros(low), Micros(high + 1)), dtype=pl.Int64)
    places = ends.search_sorted(times, side="right").cast(pl.Int64) - 1
    return rows.with_columns(
        start=ends.gather(places).cast(INSTANT), end=ends.gather(places + 1).cast(INSTANT)
    )


def cuts_of(catalog: Catalog) -> Cuts:
    """Where the lines of every contract, and the claims on every subject, begin and end."""
    index, shared = SubjectIndex(catalog), tuple(sorted(set(_shared(catalog))))
    own = {
        customer: list(_contracts(catalog, contracts))
        for customer, contracts in contracts_by_customer(catalog).items()
    }
    found: dict[str, Calendar] = {}
    for subject, claims in _claims(index):
        terms = [term for claim in claims for term in own.get(claim[2], ())]
        zones = frozenset(zone for zone, _ in terms) or frozenset({UTC.key})
        instants = {i for _, instants in terms for i in instants}
        instants |= {i for claim in claims for i in claim[:2] if BEGINNING < i < ENDLESS}
        found[subject] = Calendar(zones, tuple(sorted({*shared, *instants})))
    return Cuts(by_subject=found, common=Calendar(frozenset({catalog.timezone.key}), shared))


def _claims(index: SubjectIndex) -> Iterator[tuple[str, list[tuple[int, int, CustomerId]]]]:
    claims: dict[str, list[tuple[int, int, CustomerId]]] = defaultdict(list)
    for subject, customer, since, until in (
        index.frame().with_columns(pl.col("since", "until").to_physical()).iter_rows()
    ):
        claims[subject].append((since, until, customer))
    yield from claims.items()


def _contracts(
    catalog: Catalog, contracts: Iterable[Contract]
) -> Iterator[tuple[str, tuple[int, ...]]]:
    """The zone and the instants of each of a customer's contracts."""
    for name in sorted({contract.id for contract in contracts}):
        held: Chain[Contract] = catalog.contracts[name]
        term = term_of(catalog, held)
        moments = {term.start, *bounds(held.versions, term.timezone)}
        moments |= {i for i in (term.end, term.trial_end) if i is not None}
        for contract in held.values:
            moments |= set(_amended(contract, term.timezone))
        yield term.timezone.key, tuple(sorted(moments))


def _amended(contract: Contract, zone: ZoneInfo) -> Iterator[Micros]:
    prices = [o.price for o in contract.prices if o.price is not None]
    for amendment in contract.amendments:
        yield resolve(amendment.effective_from, zone)
        prices.extend(o.price for o in amendment.prices or () if o.price is not None)
    yield from bounds(prices, zone)


def _shared(catalog: Catalog) -> Iterator[int]:
    """When products, meters, pricebooks and their prices change, in every zone there is."""
    own = catalog.timezone
    for product in catalog.products.values():
        yield from bounds(product.versions, own)
    for meter in catalog.meters.values():
        yield from bounds(meter.versions, own)
    names = {c.last.timezone for c in catalog.contracts.values() if c.versions}
    for zone in {own.key, *(name for name in names if name)}:
        for book in catalog.pricebooks.values():
            yield from bounds(book.versions, ZoneInfo(zone))
            yield from bounds([p for value in book.values for p in value.prices], ZoneInfo(zone))
