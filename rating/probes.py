"""What has to be counted for a line: one quantity for most, several for some, each a probe."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from enum import StrEnum
from functools import partial
from typing import overload

import numpy as np
import polars as pl

from catalog.charges import Dynamic, Matrix, Percentage
from catalog.clock import Micros
from catalog.durations import hours_minutes, window_minutes
from catalog.ids import CustomerId, MeterId, SpecId
from catalog.meters import Aggregation, FactSpec, Meter
from catalog.snapshot import Catalog
from rating.aggregations import ADDITIVE, STORED
from rating.charges.matrix import Rows
from rating.claims import Claim, claim_rows, claims_of
from rating.dimensions import Selector
from rating.plan import LinePlan, Part
from rating.planned import Numbers, Planned, planned, spread
from rating.ports import SPANS
from rating.terms import Terms
from rating.windows import Hours


class Role(StrEnum):
    """What the answer of a probe is for."""

    USAGE = "usage"
    CELLS = "cells"
    WINDOWS = "windows"
    UP_TO = "up_to"
    BEFORE = "before"
    COST = "cost"
    EVENTS = "events"
    METER = "meter"


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """How facts become a number. ``window`` and ``bucket`` are minutes, 0 for none.

    ``timezone`` is given only where the clock on the wall matters, so that lines share shapes.
    ``events`` is a charge that prices them one by one.
    """

    aggregation: Aggregation
    percentile: Decimal | None = None
    window: int = 0
    bucket: int = 0
    hours: Hours = ()
    timezone: str = ""
    events: Percentage | None = None

    @property
    def additive(self) -> bool:
        """Whether of nothing it is 0."""
        return self.aggregation in (*ADDITIVE, Aggregation.WEIGHTED_SUM)

    @property
    def stored(self) -> bool:
        """Whether the store can make it."""
        return self.aggregation in STORED and not self.timezone and self.events is None


@dataclass(slots=True)
class Probe:
    """One number per group (and row, and bucket) of what ``[start, end)`` holds for a line.

    ``reads`` is what is read from events, ``meter`` whose it is.
    """

    line: int
    role: Role
    meter: MeterId
    reads: SpecId
    selector: int
    shape: int
    start: Micros
    end: Micros


PROBES = pl.Schema(
    {
        "probe": pl.Int64(),
        "line": pl.Int64(),
        "role": pl.String(),
        "span": pl.Int64(),
        "selector": pl.Int64(),
        "shape": pl.Int64(),
        "whole": pl.Boolean(),
    }
)
"""One row a probe. ``whole``: its facts are one group, so it has an answer even for nothing."""


@dataclass
class Spans:
    """Spans asked for, each distinct one once, however many probes it feeds."""

    ids: dict[tuple[str, CustomerId, Micros, Micros], int] = field(default_factory=dict)
    rows: list[tuple[object, ...]] = field(default_factory=list)

    def of(self, probe: Probe, customer: CustomerId, claims: Sequence[Claim]) -> int:
        """The span of what ``probe`` counts of the customer."""
        key = (probe.reads, customer, probe.start, probe.end)
        span = self.ids.get(key)
        if span is None:
            span = self.ids[key] = len(self.ids)
            for claim in claims:
                start, end = max(probe.start, claim.start), min(probe.end, claim.end)
                if start < end:
                    self.rows.append((span, probe.reads, claim.subject, start, end))
        return span

    def frame(self) -> pl.DataFrame:
        """All of them as SPANS."""
        return columns_of(self.rows, SPANS)


def columns_of(rows: Sequence[tuple[object, ...]], schema: pl.Schema) -> pl.DataFrame:
    """Rows as a frame, column by column: five times as fast as row by row. Instants are µs."""
    columns = zip(*rows, strict=True) if rows else ((),) * len(schema)
    return pl.DataFrame(
        [
            pl.Series(name, values, dtype=pl.Int64).cast(dtype)
            if dtype == pl.Datetime("us", "UTC")
            else pl.Series(name, values, dtype=dtype)
            for (name, dtype), values in zip(schema.items(), columns, strict=True)
        ]
    )


class Probes(Sequence[Probe]):
    """Probes by number; each is made when it is asked for."""

    def __init__(self, made: Sequence[_Made], line: Numbers, which: Numbers) -> None:
        self._made, self._line, self._which = made, line, which

    @overload
    def __getitem__(self, index: int) -> Probe: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Probe]: ...
    def __getitem__(self, index: int | slice) -> Probe | Sequence[Probe]:
        if isinstance(index, slice):
            return [self[number] for number in range(*index.indices(len(self)))]
        return Probe(int(self._line[index]), *self._made[self._which[index]])

    def __len__(self) -> int:
        return len(self._line)


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What is asked of the store: PROBES and the spans that feed them, added up or listed.

    Time-weighted probes are not among the frames: they ask for spans of their own. ``extreme``
    are spans whose smallest and largest values are asked for, not only sums.
    """

    probes: Probes
    frame: pl.DataFrame
    added: pl.DataFrame
    extreme: pl.DataFrame
    listed: pl.DataFrame
    selectors: tuple[Selector, ...]
    shapes: tuple[Shape, ...]
    claims: Callable[[CustomerId], Sequence[Claim]]


_Template = tuple[Role, MeterId, SpecId, int, int]
"""A probe but for its line and when: what it is for, whose, what it reads, selector, shape."""
_Made = tuple[Role, MeterId, SpecId, int, int, Micros, Micros]
"""A probe but for its line."""


class _Asking:
    """Collects the probes of lines; what lines share is worked out once."""

    def __init__(self) -> None:
        self.selectors: dict[Selector, int] = {}
        self.shapes: dict[Shape, int] = {}
        self._made: dict[tuple[int, str], tuple[Terms, list[_Template]]] = {}

    def of_part(self, part: Part) -> list[_Made]:
        """The probes of every line of a part, but for the line."""
        return [
            (role, meter, reads, selector, shape, start, end)
            for role, meter, reads, selector, shape in self._templates(part)
            for start, end in _intervals(role, part)
        ]

    def _templates(self, part: Part) -> list[_Template]:
        terms, zone = part.terms, part.timezone.key
        key = (id(terms), zone)
        if key not in self._made:
            made = [
                (role, meter.id, reads.id, self._selector(selector), self._shape(shape, zone))
                for role, meter, reads, selector, shape in _wanted(terms)
            ]
            self._made[key] = (terms, made)
        return self._made[key][1]

    def _selector(self, selector: Selector) -> int:
        return self.selectors.setdefault(selector, len(self.selectors))

    def _shape(self, shape: Shape, zone: str) -> int:
        if shape.window or shape.bucket or shape.hours:
            shape = replace(shape, timezone=zone)
        return self.shapes.setdefault(shape, len(self.shapes))


def ask(plans: Sequence[LinePlan], catalog: Catalog) -> Question:
    """What has to be counted for ``plans``; kept with them, as they are of one catalog."""
    columns = planned(plans)
    return columns.known("question", lambda: _ask(columns, catalog))


_ADDED, _EXTREME, _LISTED, _APART = range(4)
_TABLE = pl.Schema(
    {
        "role": pl.String(),
        "selector": pl.Int64(),
        "shape": pl.Int64(),
        "start": pl.Int64(),
        "end": pl.Int64(),
        "reads": pl.String(),
    }
)


def _ask(plans: Planned, catalog: Catalog) -> Question:
    asking = _Asking()
    made = [asking.of_part(part) for part in plans.parts]
    lengths = np.array([len(each) for each in made], dtype=np.int64)
    which, line = spread(lengths, plans.part)
    every = [each for part in made for each in part]
    shapes, selectors = tuple(asking.shapes), tuple(asking.selectors)
    places: dict[CustomerId, int] = {}
    customer = [places.setdefault(owner.customer, len(places)) for owner in plans.owners]
    rows = _numbered(every, shapes, selectors)[which].with_columns(
        probe=pl.int_range(pl.len(), dtype=pl.Int64),
        line=line,
        customer=pl.Series(customer, dtype=pl.Int64)[plans.owner[line]],
    )
    rows = rows.join(_spans(rows), on=_SPANNED, how="left", maintain_order="left")
    claims = columns_of(list(claim_rows(catalog, places)), _CLAIMS)
    spans = [_claimed(rows.filter(pl.col("into") == into), claims) for into in range(_APART)]
    return Question(
        probes=Probes(every, line, which),
        frame=rows.select(pl.col(name).cast(dtype) for name, dtype in PROBES.items()),
        added=spans[_ADDED],
        extreme=spans[_EXTREME],
        listed=spans[_LISTED],
        selectors=selectors,
        shapes=shapes,
        claims=partial(claims_of, catalog),
    )


def _numbered(
    made: Sequence[_Made], shapes: Sequence[Shape], selectors: Sequence[Selector]
) -> pl.DataFrame:
    """One row of ``made``: its columns, ``into`` which spans it goes, ``interval`` a number."""
    rows = [
        (role.value, selector, shape, start, end, reads)
        for role, _, reads, selector, shape, start, end in made
    ]
    into = pl.Series([_into(shape) for shape in shapes], dtype=pl.Int64)
    whole = pl.Series([not selector.group_by for selector in selectors], dtype=pl.Boolean)
    frame = columns_of(rows, _TABLE)
    return frame.with_columns(
        into=into.gather(frame["shape"]), whole=whole.gather(frame["selector"])
    ).with_columns(interval=pl.struct("into", "reads", "start", "end").rank("dense"))


_SPANNED = ["interval", "customer"]


def _spans(rows: pl.DataFrame) -> pl.DataFrame:
    """Each distinct span once, however many probes it feeds; time-weighted ones are apart."""
    spans = rows.select(*_SPANNED, "into").unique(_SPANNED, maintain_order=True)
    numbered = pl.int_range(pl.len(), dtype=pl.Int64).over("into")
    span = pl.when(pl.col("into") != _APART).then(numbered)
    return spans.select(*_SPANNED, span=span)


_CLAIMS = pl.Schema(
    {
        "customer": pl.Int64(),
        "subject": pl.String(),
        "since": pl.Int64(),
        "until": pl.Int64(),
    }
)


def _claimed(rows: pl.DataFrame, claims: pl.DataFrame) -> pl.DataFrame:
    """SPANS of probes: of all that their customers claim."""
    spans = rows.unique("span", maintain_order=True).join(claims, on="customer")
    cut = spans.with_columns(
        start=pl.max_horizontal("start", "since"), end=pl.min_horizontal("end", "until")
    ).filter(pl.col("start") < pl.col("end"))
    named = cut.rename({"reads": "spec"})
    return named.select(pl.col(name).cast(dtype) for name, dtype in SPANS.items())


def _into(shape: Shape) -> int:
    """Where the spans of a shape's probes belong; time-weighted ones have spans of their own."""
    if shape.aggregation is Aggregation.WEIGHTED_SUM:
        return _APART
    if not shape.stored:
        return _LISTED
    return _ADDED if shape.aggregation in ADDITIVE else _EXTREME


def line_spans(plan: LinePlan, catalog: Catalog) -> pl.DataFrame:
    """SPANS of one line's own usage; empty for a fixed quantity."""
    spans, claims = Spans(), claims_of(catalog, plan.customer)
    for made in _Asking().of_part(plan.part):
        probe = Probe(0, *made)
        if probe.role in (Role.USAGE, Role.METER) or (
            probe.role is Role.CELLS and plan.terms.price.bucket is not None
        ):
            spans.of(probe, plan.customer, claims)
    return spans.frame()


def _intervals(role: Role, part: Part) -> Iterator[tuple[Micros, Micros]]:
    """The line's own interval; for tiers that accumulate, from where their span began."""
    if role not in (Role.UP_TO, Role.BEFORE):
        yield part.start, part.end
        return
    for start, end in part.spans:
        until = min(end, part.end) if role is Role.UP_TO else part.start
        if start < until:
            yield start, until


def _wanted(terms: Terms) -> Iterator[tuple[Role, Meter, FactSpec, Selector, Shape]]:
    """The probes of any line under ``terms``, but for when."""
    price, charge = terms.price, terms.price.charge
    plain = Selector(filter=terms.filter, group_by=price.group_by)
    for meter in terms.capacity:
        if meter.billable:
            own = plain if terms.meter == meter else replace(plain, filter=())
            yield Role.METER, meter, meter.fact_spec, own, _shape_of(meter, terms)
    counted = terms.metered
    if counted is None or not counted.billable:
        return
    reads, shape = counted.fact_spec, _shape_of(counted, terms)
    fine = replace(plain, rows=Rows.of(charge)) if isinstance(charge, Matrix) else plain
    if price.bucket is not None:
        bucketed = replace(shape, bucket=window_minutes(price.bucket))
        yield Role.CELLS, counted, reads, fine, bucketed
        if fine is not plain:
            yield Role.WINDOWS, counted, reads, plain, bucketed
        return
    yield Role.USAGE, counted, reads, plain, shape
    if price.tiers_span_months is not None:
        yield Role.UP_TO, counted, reads, fine, shape
        yield Role.BEFORE, counted, reads, fine, shape
    elif isinstance(charge, Matrix):
        yield Role.CELLS, counted, reads, fine, shape
    elif isinstance(charge, Dynamic):
        summed = Shape(aggregation=Aggregation.SUM, hours=shape.hours)
        yield Role.COST, counted, counted.reading(charge.amount), plain, summed
    elif terms.per_event:
        assert isinstance(charge, Percentage)
        yield Role.EVENTS, counted, reads, plain, replace(shape, events=charge)


def _shape_of(meter: Meter, terms: Terms) -> Shape:
    return Shape(
        aggregation=meter.aggregation,
        percentile=meter.percentile,
        window=0 if meter.window is None else window_minutes(meter.window),
        hours=tuple(map(hours_minutes, terms.price.hours)),
    )
