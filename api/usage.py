"""Usage of one meter: what was counted, whoever pays for it and whether anyone does."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from itertools import pairwise
from typing import Any, Protocol
from zoneinfo import ZoneInfo

import polars as pl

from api import levels
from api.freshness import Freshness, Settled
from catalog.clock import Micros, to_datetime, to_rfc3339
from catalog.durations import window_minutes
from catalog.errors import FieldError, InvalidRequest, NotFound, OutOfRange
from catalog.events import INSTANT
from catalog.ids import CustomerId, MeterId
from catalog.meters import Aggregation, Meter
from catalog.money import plain, round_quantity
from catalog.snapshot import Catalog
from catalog.subjects import BEGINNING, ENDLESS, SubjectIndex, span
from catalog.windows import assign, edges
from rating.aggregations import ADDITIVE, FROM_FACTS, percentile_of
from rating.dimensions import Selector
from rating.ports import SPANS, FactSource

VALUE_LIMIT = 10**18
BY_CUSTOMER, BY_SUBJECT = "customer", "subject"
WINDOW = ("window_start", "window_end")


class Catalogs(Protocol):
    """The catalog now and as it was recorded at an instant."""

    def current(self) -> Catalog:
        """Everything stated so far."""
        ...

    def as_of(self, recorded_at: Micros) -> Catalog:
        """What had been stated by then."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageQuery:
    """What of a meter is asked for. ``[since, until)`` bounds event time; nulls are open.

    ``group_by`` names ``customer``, ``subject`` and dimensions of the meter.
    """

    meter: MeterId
    since: Micros | None = None
    until: Micros | None = None
    window: str | None = None
    customer: CustomerId | None = None
    group_by: tuple[str, ...] = ()
    timezone: ZoneInfo | None = None
    as_of: Micros | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """One JSON object a row, sorted by window, customer, subject and dimensions."""

    rows: Sequence[Mapping[str, object]]
    settled: Settled


class MeterUsage:
    """Answers usage queries from facts, exactly, for every aggregation."""

    def __init__(self, *, catalogs: Catalogs, source: FactSource, freshness: Freshness) -> None:
        self._catalogs = catalogs
        self._source = source
        self._freshness = freshness

    async def measure(self, query: UsageQuery) -> Usage:
        """Usage as received up to ``query.as_of`` (default: everything acknowledged).

        Raises:
            NotFound: there is no such meter or customer.
            InvalidRequest: an unknown dimension, window or aggregation.
        """
        if query.as_of is None:
            known = await asyncio.to_thread(self._catalogs.current)
        else:
            known = await asyncio.to_thread(self._catalogs.as_of, query.as_of)
        plan = _Plan(query, known)
        specs = [version.fact_spec.id for version, _, _ in plan.versions]
        settled = await self._freshness.settle(query.as_of, specs)
        rows = await asyncio.to_thread(plan.rows, self._source, settled.as_of)
        return Usage(rows=rows, settled=settled)


class _Plan:
    """One query against one catalog."""

    def __init__(self, query: UsageQuery, catalog: Catalog) -> None:
        self._query, self._catalog = query, catalog
        chain = catalog.meters.get(query.meter)
        if chain is None or not chain.versions:
            raise NotFound(f"there is no meter {query.meter}")
        if query.customer is not None and query.customer not in catalog.customers:
            raise NotFound(f"there is no customer {query.customer}")
        self._since = BEGINNING if query.since is None else query.since
        self._until = ENDLESS if query.until is None else query.until
        self.versions = [
            (version.value, max(start, self._since), min(end, self._until))
            for version in chain.versions
            for start, end in [span(version, catalog.timezone)]
        ]
        self.meter: Meter = chain.last
        self._zone = query.timezone or catalog.timezone
        self._index = SubjectIndex(catalog)
        self._dimensions = self._asked_dimensions()
        self._minutes = None if query.window is None else window_minutes(query.window)
        self._check_meter()

    def rows(self, source: FactSource, as_of: Micros) -> list[Mapping[str, object]]:
        """The answer, exact."""
        if self.meter.aggregation is Aggregation.WEIGHTED_SUM:
            return list(self._levels(source, as_of))
        spans = self._spans()
        if self.meter.aggregation in ADDITIVE and not self._query.group_by and not self._minutes:
            totals = source.sums(spans, as_of=as_of).select(pl.col("sum", "count").sum())
            counts = self.meter.aggregation is Aggregation.COUNT
            quantity = totals["count" if counts else "sum"][0]
            return [{"value": _text(Decimal(quantity or 0), 1)}]
        facts = source.facts(spans, as_of=as_of).collect()
        keyed = self._keyed(facts)
        keys = [name for name in self._keys() if name in keyed.columns]
        measured = _aggregated(self._summed_per_window(keyed, keys), self.meter, keys)
        if not keys and measured.is_empty():
            return [{"value": None}]
        return [_row(row) for row in measured.sort(keys, nulls_last=True).iter_rows(named=True)]

    def _keys(self) -> list[str]:
        keys = list(WINDOW) if self._minutes else []
        keys += [name for name in (BY_CUSTOMER, BY_SUBJECT) if name in self._query.group_by]
        return [*keys, "dimensions"] if self._dimensions else keys

    def _asked_dimensions(self) -> tuple[str, ...]:
        known = {name for version, _, _ in self.versions for name, _ in version.dimensions}
        asked = [n for n in self._query.group_by if n not in {BY_CUSTOMER, BY_SUBJECT}]
        if unknown := [name for name in asked if name not in known]:
            detail = f"{', '.join(unknown)}: not a dimension of {self._query.meter}"
            raise InvalidRequest(detail, errors=[FieldError(pointer="?group_by", detail=detail)])
        return tuple(dict.fromkeys(asked))

    def _check_meter(self) -> None:
        if self.meter.aggregation is not Aggregation.WEIGHTED_SUM:
            return
        bounds = {"from": self._query.since, "to": self._query.until}
        detail = "a level is averaged over a stretch of time: say from when to when"
        if missing := [name for name, instant in bounds.items() if instant is None]:
            errors = [FieldError(pointer=f"?{name}", detail="is needed") for name in missing]
            raise InvalidRequest(detail, errors=errors)
        if self._since >= self._until:
            error = FieldError(pointer="?to", detail="must be later than from")
            raise InvalidRequest(detail, errors=[error])

    def _levels(self, source: FactSource, as_of: Micros) -> Iterator[Mapping[str, object]]:
        """The average level in each window, cut to the bounds asked for."""
        stretches = self._stretches()
        facts = source.facts(levels.asked(stretches), as_of=as_of).collect()
        changed = levels.changes(self._grouped(facts), stretches)
        windows = [self._since, self._until]
        shown: list[dict[str, object]] = [{}]
        if self._minutes:
            zone = self._zone
            found = edges(self._minutes, since=self._since, until=self._until, timezone=zone)
            windows = [self._since, *found[1:-1], self._until]
            shown = [
                dict(zip(WINDOW, map(to_datetime, pair), strict=True)) for pair in pairwise(found)
            ]
        keys = [name for name in self._keys() if name not in WINDOW]
        rows = [
            {**shown[window], **dict(zip(keys, key, strict=True))}
            | {"quantity": round_quantity(level), "divisor": 1}
            for key, window, level in levels.averages(changed, keys, windows)
        ]
        rows = [row for row in rows if row["quantity"] or row.get(BY_CUSTOMER, "") is not None]
        if not self._keys() and not rows:
            return iter([{"value": "0"}])
        order = self._keys()
        return map(_row, sorted(rows, key=lambda row: [_nulls_last(row[name]) for name in order]))

    def _stretches(self) -> pl.DataFrame:
        """STRETCHES: all that the versions of the meter read, and what of it each customer pays."""
        rows: list[tuple[object, ...]] = []
        for version, low, high in self.versions:
            spec, shown = version.fact_spec.id, BY_CUSTOMER in self._query.group_by
            if low < high and self._query.customer is None:
                rows.append((spec, None, low, high, None, 1))
            if self._query.customer is None and not shown:
                continue
            for subject, customer, since, until in self._claims():
                start, end = max(low, since), min(high, until)
                if start < end:
                    rows.append((spec, subject, start, end, customer, 1))
                    if self._query.customer is None:
                        rows.append((spec, subject, start, end, None, -1))
        numbered = [(span, *row) for span, row in enumerate(rows)]
        raw = {n: pl.Int64() if t == INSTANT else t for n, t in levels.STRETCHES.items()}
        return pl.DataFrame(numbered, schema=raw, orient="row").cast(levels.STRETCHES)

    def _claims(self) -> Iterator[tuple[str, str, Micros, Micros]]:
        """Subject, customer, since and until of the claims that matter."""
        claims = self._index.frame().with_columns(pl.col("since", "until").to_physical())
        if self._query.customer is not None:
            claims = claims.filter(pl.col("customer") == self._query.customer)
        return claims.select("subject", "customer", "since", "until").iter_rows()

    def _spans(self) -> pl.DataFrame:
        rows = [
            (0, version.fact_spec.id, subject, to_datetime(start), to_datetime(end))
            for version, low, high in self.versions
            for subject, start, end in self._subjects(low, high)
        ]
        return pl.DataFrame(rows, schema=SPANS, orient="row")

    def _subjects(self, low: Micros, high: Micros) -> Iterator[tuple[str | None, Micros, Micros]]:
        if low >= high:
            return
        if self._query.customer is None:
            yield None, low, high
            return
        for subject, _, since, until in self._claims():
            start, end = max(low, since), min(high, until)
            if start < end:
                yield subject, start, end

    def _keyed(self, facts: pl.DataFrame) -> pl.DataFrame:
        """``facts`` with their window, customer and group; ``dimensions`` only if asked for."""
        if self._minutes and facts.height:
            facts = facts.hstack(assign(facts["time"], self._edges(facts, self._minutes)))
        elif self._minutes:
            facts = facts.with_columns(pl.col("time").alias(name) for name in WINDOW)
        if BY_CUSTOMER in self._query.group_by:
            facts = self._with_customer(facts)
        return self._grouped(facts)

    def _grouped(self, facts: pl.DataFrame) -> pl.DataFrame:
        """``facts`` with the dimensions asked for."""
        texts = facts["dimensions"].unique().to_list()
        selector = Selector(filter=(), group_by=self._dimensions)
        groups = pl.Series([selector.group(text) for text in texts], dtype=pl.String)
        return facts.with_columns(
            pl.col("dimensions").replace_strict(texts, groups, return_dtype=pl.String)
        )

    def _edges(self, facts: pl.DataFrame, minutes: int) -> list[Micros]:
        first, last = facts.select(
            low=pl.col("time").min().to_physical(), high=pl.col("time").max().to_physical()
        ).row(0)
        return edges(minutes, since=first, until=Micros(last + 1), timezone=self._zone)

    def _with_customer(self, facts: pl.DataFrame) -> pl.DataFrame:
        """The customer who pays at each fact's time, null where nobody does."""
        numbered = facts.with_row_index("row")
        claims = self._index.frame()
        inside = (pl.col("time") >= pl.col("since")) & (pl.col("time") < pl.col("until"))
        paid = numbered.join(claims, on="subject").filter(inside).select("row", "customer")
        return numbered.join(paid, on="row", how="left").drop("row")

    def _summed_per_window(self, facts: pl.DataFrame, keys: list[str]) -> pl.DataFrame:
        """For a meter with a ``window``: one value per group and window of it, their sum."""
        if self.meter.window is None or facts.is_empty() or not self.meter.value:
            return facts
        ends = self._edges(facts, window_minutes(self.meter.window))
        buckets = assign(facts["time"], ends).rename({name: f"meter_{name}" for name in WINDOW})
        return (
            facts.hstack(buckets)
            .filter(pl.col("value").is_not_null())
            .group_by([*keys, "meter_window_start"])
            .agg(
                pl.col("value").sum(),
                pl.col("time", "received_at", "node", "seq", "text").last(),
            )
        )


def _aggregated(facts: pl.DataFrame, meter: Meter, keys: list[str]) -> pl.DataFrame:
    """``keys``, ``quantity`` and ``divisor`` of every group that has any."""
    quantity, divisor = _measured(meter)
    if meter.aggregation not in ADDITIVE:
        facts = facts.filter(pl.col("value").is_not_null() | pl.col("text").is_not_null())
    made = (quantity.cast(pl.Decimal(38, 9)).alias("quantity"), divisor.alias("divisor"))
    if keys:
        return facts.group_by(keys).agg(*made)
    return facts.select(*made) if facts.height else facts.clear().select(*made).clear()


def _measured(meter: Meter) -> tuple[pl.Expr, pl.Expr]:
    one = pl.lit(1, pl.Int64)
    match meter.aggregation:
        case Aggregation.COUNT:
            return pl.len(), one
        case Aggregation.SUM:
            return pl.col("value").sum(), one
        case Aggregation.PERCENTILE:
            return percentile_of(meter.percentile or Decimal(100)), one
        case aggregation:
            return FROM_FACTS[aggregation]


def _row(row: Mapping[str, object]) -> Mapping[str, object]:
    made: dict[str, object] = dict(row)
    quantity, divisor = made.pop("quantity"), made.pop("divisor")
    assert isinstance(divisor, int)
    assert quantity is None or isinstance(quantity, Decimal)
    if "dimensions" in made:
        made["dimensions"] = json.loads(str(made["dimensions"]))
    return made | {"value": None if quantity is None else _text(quantity, divisor)}


def _nulls_last(value: object) -> tuple[bool, Any]:
    return value is None, value


def _text(quantity: Decimal, divisor: int) -> str:
    """At most 9 decimals, rounded half away from zero where a division leaves more."""
    if abs(quantity) >= VALUE_LIMIT:
        raise OutOfRange("the usage has over 18 digits")
    if divisor == 1:
        return plain(quantity)
    return plain(round_quantity(Fraction(quantity) / divisor))


def moments(settled: Settled) -> Mapping[str, str]:
    """The instants an answer carries."""
    return {"as_of": to_rfc3339(settled.as_of), "watermark": to_rfc3339(settled.watermark)}
