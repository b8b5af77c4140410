"""Whose usage is it, of which feature, in which segment: from facts to ledger deltas.

Frames in, frames out. The same catalog attributes the same fact alike, whenever it is read: that
is what lets a void be reversed and a recount be compared.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from copy import copy
from dataclasses import replace
from typing import Any

import polars as pl

from catalog.events import QUANTITY
from catalog.ids import CustomerId, FeatureId, SpecId
from catalog.meters import Aggregation, FactSpec, Meter
from catalog.snapshot import Catalog
from entitlements.amounts import UNIT
from entitlements.grants import Schedule
from entitlements.schedules import Schedules, bounds

USES = pl.Schema(
    {
        "customer": pl.String(),
        "feature": pl.String(),
        "segment": pl.Int64(),
        "seq": pl.Int64(),
        "amount": QUANTITY,
    }
)
"""One row per (fact, customer, feature): ``amount`` is 1 on a count meter. Facts in no segment
(before any contract) have no row. ``segment`` is the segment's start, microseconds."""

DELTAS = pl.Schema(
    {
        "customer": pl.String(),
        "feature": pl.String(),
        "segment": pl.Int64(),
        "nanos": pl.Int128(),
    }
)
"""USES summed by (customer, feature, segment), as whole nano-units."""

DeltaKey = tuple[CustomerId, FeatureId, int]
"""What a delta is kept for: the feature of a customer, and the segment's start."""

_Target = tuple[int, int, CustomerId, FeatureId, Schedule, bool]
"""Since and until when a subject's facts of a spec count for a feature; whether by number."""

_ONE = pl.lit(1).cast(QUANTITY)
_PAIR = ["customer", "feature"]


class Attribution:
    """The joins of one catalog, built once. Only features on sum and count meters take part."""

    def __init__(self, schedules: Schedules) -> None:
        self.schedules = schedules
        self._claims = _claims(schedules.catalog)
        self._readings = _readings_frame(schedules)
        self._owners = _by_first(self._claims)
        self._metered = _by_first(self._readings)
        self._targets: dict[SpecId, dict[str, list[_Target]]] = {}  # of claimed subjects
        self.specs = list(_specs(schedules).values())
        """What has to be extracted."""

    def regranted(self, schedules: Schedules) -> Attribution:
        """The joins under another book of grants: claims and meters are the catalog's."""
        other = copy(self)
        other.schedules = schedules
        other._targets = {}  # noqa: SLF001
        return other

    def subjects(self, customers: Iterable[CustomerId]) -> list[str]:
        """Every subject these customers ever claim."""
        wanted = self._claims.filter(pl.col("customer").is_in(list(customers)))
        return wanted["subject"].unique().to_list()

    def claims(self, subject: str) -> bool:
        """Whether any customer ever claims it."""
        return subject in self._owners

    def add(
        self,
        sums: defaultdict[DeltaKey, int],
        spec: SpecId,
        facts: Iterable[tuple[str, int, int | None]],
    ) -> None:
        """Add facts of one spec, each its subject, its instant and its value in nano-units.

        What comes out is :func:`deltas` of :meth:`uses`. A value is null where there is no fact.
        """
        met = self._targets.setdefault(spec, {})
        for subject, at, nanos in facts:
            if nanos is None:
                continue
            targets = met.get(subject)
            if targets is None:
                if subject not in self._owners:
                    continue
                targets = met[subject] = list(self._met(subject, spec))
            for since, until, customer, feature, schedule, counts in targets:
                if since <= at < until and (segment := schedule.segment_at(at)) is not None:
                    sums[customer, feature, segment.start] += UNIT if counts else nanos

    def _met(self, subject: str, spec: SpecId) -> Iterator[_Target]:
        """What a subject's facts of one spec may count for, and when."""
        for customer, claimed, unclaimed in self._owners.get(subject, ()):
            schedules = self.schedules.metered(customer)
            for feature, since, until, counts in self._metered.get(spec, ()):
                if feature in schedules:
                    span = max(claimed, since), min(unclaimed, until)
                    yield *span, customer, feature, schedules[feature], counts

    def uses(self, facts: pl.DataFrame) -> pl.DataFrame:
        """USES of FACTS."""
        instant = pl.col("time").dt.epoch("us")
        rows = (
            facts.lazy()
            .select("seq", "spec", "subject", "value", instant.alias("at"))
            .join(self._claims.lazy(), on="subject")
            .filter(pl.col("at").is_between("since", "until", closed="left"))
            .drop("since", "until")
            .join(self._readings.lazy(), on="spec")
            .filter(pl.col("at").is_between("since", "until", closed="left"))
            .with_columns(
                pl.when("counts").then(_ONE).otherwise(pl.col("value")).fill_null(0).alias("amount")
            )
            .collect(engine="in-memory")
        )
        return self._segmented(rows)

    def _segmented(self, rows: pl.DataFrame) -> pl.DataFrame:
        """USES: each row with its segment; a row that is in none is dropped."""
        spans = rows.group_by(_PAIR).agg(
            pl.col("at").min().alias("first"), pl.col("at").max().alias("last")
        )
        starts = pl.DataFrame(
            [
                (customer, feature, start)
                for customer, feature, first, last in spans.iter_rows()
                for start in self._starts(customer, feature, first, last)
            ],
            schema={"customer": pl.String, "feature": pl.String, "segment": pl.Int64},
            orient="row",
        )
        return (
            rows.lazy()
            .sort("at")
            .join_asof(
                starts.lazy().sort("segment"),
                left_on="at",
                right_on="segment",
                by=_PAIR,
                strategy="backward",
                check_sortedness=False,
            )
            .filter(pl.col("segment").is_not_null())
            .select(USES.names())
            .cast(USES)
            .collect(engine="in-memory")
        )

    def _starts(self, customer: str, feature: str, first: int, last: int) -> Iterator[int]:
        schedule: Schedule | None = self.schedules.metered(CustomerId(customer)).get(
            FeatureId(feature)
        )
        for segment in schedule.segments(first, last + 1) if schedule else ():
            yield segment.start


def deltas(uses: pl.DataFrame) -> pl.DataFrame:
    """DELTAS of USES."""
    return (
        uses.lazy()
        .group_by("customer", "feature", "segment")
        .agg(pl.col("amount").sum())
        .with_columns(pl.col("amount").to_physical().cast(pl.Int128).alias("nanos"))
        .select(DELTAS.names())
        .collect(engine="in-memory")
    )


def _by_first(frame: pl.DataFrame) -> dict[str, list[Any]]:
    """The rows by their first column, without it."""
    found: dict[str, list[Any]] = {}
    for first, *rest in frame.iter_rows():
        found.setdefault(first, []).append(rest)
    return found


def _claims(catalog: Catalog) -> pl.DataFrame:
    rows = []
    for customer, chain in catalog.customers.items():
        for version in chain.versions:
            outer = bounds(version.effective_from, version.effective_until, catalog.timezone)
            for claim in version.value.subjects:
                inner = bounds(claim.since, claim.until, catalog.timezone)
                since, until = max(outer[0], inner[0]), min(outer[1], inner[1])
                if since < until:
                    rows.append((claim.subject, customer, since, until))
    columns = {"subject": pl.String, "customer": pl.String, "since": pl.Int64, "until": pl.Int64}
    return pl.DataFrame(rows, schema=columns, orient="row")


def _spec(meter: Meter) -> FactSpec:
    """What an account needs of an event: dimensions are left out, half the work of reading it."""
    return replace(meter.fact_spec, dimensions=())


def _specs(schedules: Schedules) -> dict[SpecId, FactSpec]:
    specs = [
        _spec(reading.meter)
        for readings in schedules.readings.values()
        for reading in readings
        if reading.additive
    ]
    return {spec.id: spec for spec in specs}


def _readings_frame(schedules: Schedules) -> pl.DataFrame:
    rows = [
        (
            _spec(reading.meter).id,
            feature,
            reading.since,
            reading.until,
            reading.meter.aggregation is Aggregation.COUNT,
        )
        for feature, readings in schedules.readings.items()
        for reading in readings
        if reading.additive
    ]
    columns: dict[str, type[pl.DataType]] = {
        "spec": pl.String,
        "feature": pl.String,
        "since": pl.Int64,
        "until": pl.Int64,
        "counts": pl.Boolean,
    }
    return pl.DataFrame(rows, schema=columns, orient="row")
