"""How much was used: quantities per line and group, all lines in one question to the store."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from decimal import Decimal
from fractions import Fraction
from math import gcd

import numpy as np
import polars as pl

from catalog.clock import Micros
from catalog.errors import OutOfRange
from catalog.events import EMPTY_DIMENSIONS
from catalog.meters import Aggregation
from catalog.money import QUANTITY as QUANTITY_LIMIT
from catalog.money import from_units
from catalog.snapshot import Catalog
from rating.aggregations import ADDITIVE, ALONE, COMBINED, STORED, measured
from rating.assembly import assemble
from rating.cells import CELLS, exact
from rating.charges.events import banded
from rating.dimensions import Selector
from rating.pieces import USAGE, Measured
from rating.plan import LinePlan
from rating.planned import Planned, once
from rating.ports import FactSource
from rating.probes import Question, Shape, ask
from rating.weighted import weighted_sums
from rating.windows import window_starts, within_hours

_KEYS = ["probe", "group", "row"]
_CARRIED = ("time", "received_at", "node", "seq", "text")


def measure(
    plans: Sequence[LinePlan], catalog: Catalog, source: FactSource, *, as_of: Micros
) -> Measured:
    """What ``plans`` are priced by: fixed quantities as they are, usage as received by ``as_of``.

    Raises:
        OutOfRange: a quantity of 10^18 or more.
        NotCovered: usage that no row or plan of a charge covers.
    """
    return answered(plans, ask(plans, catalog), source, as_of=as_of)


def answered(
    plans: Sequence[LinePlan], asked: Question, source: FactSource, *, as_of: Micros
) -> Measured:
    """:func:`measure` of plans whose probes are known already."""
    cells = [
        _stored(asked, source, as_of),
        _facts(asked, source, as_of),
        _weighted(asked, plans, source, as_of),
    ]
    return put_together(plans, asked, pl.concat(cells))


def put_together(plans: Sequence[LinePlan], asked: Question, cells: pl.DataFrame) -> Measured:
    """What ``plans`` are priced by, from the CELLS of their probes. Raises as :func:`measure`."""
    found = assemble(plans, asked, cells)
    fixed = pl.concat([once(plans, _fixed), found.usage])
    return Measured(usage=_bounded(fixed, plans), pieces=found.pieces, charges=found.charges)


def _fixed(plans: Planned) -> pl.DataFrame:
    """A fixed quantity, or 1, for every line that is not metered."""
    one, fixed = Decimal(1), plans.where(lambda part: not part.terms.counted)
    stated = [one if (q := p.terms.price.quantity) is None else q for p in plans.parts]
    lines = pl.Series("line", np.flatnonzero(fixed))
    quantity = pl.Series(stated, dtype=USAGE["quantity"])[plans.part[fixed]]
    rows = lines.to_frame().with_columns(
        dimensions=pl.lit(EMPTY_DIMENSIONS),
        quantity=quantity,
        divisor=pl.lit(1),
        event_count=pl.lit(0),
        rest=pl.lit(None),
    )
    return rows.select(pl.col(name).cast(dtype) for name, dtype in USAGE.items())


def _stored(asked: Question, source: FactSource, as_of: Micros) -> pl.DataFrame:
    """CELLS that the store can make: per full dimensions there, per group and row here."""
    found = [CELLS.to_frame()]
    if asked.added.height:
        rows = source.sums(asked.added, as_of=as_of)
        found.extend(_made(asked, rows, aggregations=ADDITIVE))
    if asked.extreme.height:
        rows = source.extremes(asked.extreme, as_of=as_of)
        others = tuple(a for a in STORED if a not in ADDITIVE)
        found.extend(_made(asked, rows.filter(pl.col("valued") > 0), aggregations=others))
    return pl.concat(found)


def _made(
    asked: Question, rows: pl.DataFrame, *, aggregations: Sequence[Aggregation]
) -> Iterator[pl.DataFrame]:
    """CELLS of the probes that aggregate so, from SUMS or EXTREMES of their spans."""
    for aggregation in aggregations:
        own = [
            index
            for index, shape in enumerate(asked.shapes)
            if shape.stored and shape.aggregation is aggregation
        ]
        probes = asked.frame.filter(pl.col("shape").is_in(own))
        if probes.height:
            grouped = _grouped(rows, probes, asked.selectors)
            alone, several = (
                grouped.filter(own) for own in (~pl.col("several"), pl.col("several"))
            )
            yield _cells(alone.select(*_KEYS, **_named(ALONE[aggregation])))
            yield _cells(several.group_by(_KEYS).agg(**_named(COMBINED[aggregation])))


def _named(number: Sequence[pl.Expr]) -> dict[str, pl.Expr]:
    return dict(zip(("quantity", "divisor", "event_count"), number, strict=True))


def _facts(asked: Question, source: FactSource, as_of: Micros) -> pl.DataFrame:
    """CELLS that need the facts themselves, one at a time; of nothing there are none."""
    if asked.listed.is_empty():
        return CELLS.to_frame()
    facts = source.facts(asked.listed, as_of=as_of).collect()
    listed = [i for i, shape in enumerate(asked.shapes) if not shape.stored]
    probes = asked.frame.filter(pl.col("shape").is_in(listed) & pl.col("span").is_not_null())
    rows = _grouped(facts, probes, asked.selectors)
    found = [CELLS.to_frame()]
    for (index,), part in rows.group_by("shape"):
        assert isinstance(index, int)
        found.append(_shaped(part, asked.shapes[index]))
    return pl.concat(found)


def _shaped(rows: pl.DataFrame, shape: Shape) -> pl.DataFrame:
    """CELLS of facts that become a number in one and the same way."""
    if shape.hours:
        rows = rows.filter(within_hours(shape.hours, timezone=shape.timezone))
    if shape.aggregation not in ADDITIVE or shape.events is not None:
        rows = rows.filter(pl.col("value").is_not_null() | pl.col("text").is_not_null())
    if shape.events is not None:
        bands = banded(rows, shape.events, keys=["probe", "group"])
        return _cells(bands.with_columns(divisor=pl.lit(1, pl.Int64), event_count=0))
    keys = _KEYS
    if shape.bucket:
        keys = [*_KEYS, "bucket"]
        rows = _windowed(rows, "bucket", minutes=shape.bucket, timezone=shape.timezone)
    rows = rows.with_columns(events=pl.lit(1, pl.Int64))
    if shape.window:
        rows = _summed(rows, shape, keys=keys)
    quantity, divisor = measured(shape.aggregation, shape.percentile)
    return _cells(
        rows.group_by(keys).agg(
            quantity=quantity, divisor=divisor, event_count=pl.col("events").sum()
        )
    )


def _windowed(rows: pl.DataFrame, name: str, *, minutes: int, timezone: str) -> pl.DataFrame:
    starts = window_starts(rows["time"], minutes=minutes, timezone=timezone)
    return rows.with_columns(starts.alias(name))


def _summed(rows: pl.DataFrame, shape: Shape, *, keys: list[str]) -> pl.DataFrame:
    """One value a window, the sum of those in it; its place in time is its first event's."""
    windowed = _windowed(rows, "window", minutes=shape.window, timezone=shape.timezone)
    return (
        windowed.filter(pl.col("value").is_not_null())
        .group_by([*keys, "window"])
        .agg(pl.col("value", "events").sum(), pl.col(_CARRIED).sort_by(*_CARRIED[:4]).first())
    )


def _weighted(
    asked: Question, plans: Sequence[LinePlan], source: FactSource, as_of: Micros
) -> pl.DataFrame:
    """CELLS of time-weighted sums."""
    own = [
        index
        for index, shape in enumerate(asked.shapes)
        if shape.aggregation is Aggregation.WEIGHTED_SUM
    ]
    if not own:
        return CELLS.to_frame()
    found = asked.frame.filter(pl.col("shape").is_in(own))["probe"]
    weighted = [(index, asked.probes[index]) for index in found]
    sums = weighted_sums(weighted, plans, asked.claims, source, as_of=as_of)
    probes = asked.frame.drop("span").with_columns(span=pl.col("probe"))
    rows = _grouped(sums, probes, asked.selectors)
    totals: dict[tuple[int, str, int], tuple[Fraction, int]] = {}
    columns = (*_KEYS, "whole_units", "nanos", "micros", "count")
    for probe, group, row, units, nanos, micros, count in rows.select(columns).iter_rows():
        total, events = totals.get((probe, group, row), (Fraction(0), 0))
        share = Fraction(units * 10**9 + nanos, 10**9 * micros)
        totals[probe, group, row] = total + share, events + count
    made = []
    for key, (total, events) in totals.items():
        quantity, divisor, rest = _mixed(total, plans[asked.probes[key[0]].line])
        made.append((*key, 0, quantity, divisor, events, rest))
    return pl.DataFrame(made, schema=CELLS, orient="row")


def _mixed(number: Fraction, plan: LinePlan) -> tuple[Decimal, int, int | None]:
    """``number`` as :func:`rating.cells.exact` reads it.

    Raises:
        OutOfRange: it is 10^18 or more.
    """
    nanos, rest = divmod(number.numerator * 10**9, number.denominator)
    if abs(number) >= QUANTITY_LIMIT.below:
        raise _too_large(plan)
    divisor = number.denominator // gcd(rest, number.denominator)
    if divisor == 1:
        return from_units(nanos, 9), 1, None
    return from_units(nanos, 9), divisor, rest * divisor // number.denominator


def _cells(rows: pl.DataFrame) -> pl.DataFrame:
    absent = {"bucket": 0, "rest": None}
    missing = {name: pl.lit(v, pl.Int64) for name, v in absent.items() if name not in rows.columns}
    rows = rows.with_columns(**missing)
    return rows.select(pl.col(name).cast(dtype) for name, dtype in CELLS.items())


def _grouped(
    rows: pl.DataFrame, probes: pl.DataFrame, selectors: Sequence[Selector]
) -> pl.DataFrame:
    """``rows`` of spans, for every probe they feed, with group and row; filtered ones are gone.

    ``several`` says whether rows of other dimensions are of the same selector, group and row.
    """
    joined = rows.join(probes, on="span")
    trivial = [index for index, selector in enumerate(selectors) if _takes_all(selector)]
    plain = joined.filter(pl.col("selector").is_in(trivial))
    several = plain["dimensions"].n_unique() > 1
    whole = plain.with_columns(
        group=pl.lit(EMPTY_DIMENSIONS), row=pl.lit(0, pl.Int64), several=pl.lit(several)
    )
    if plain.height == joined.height:
        return whole
    return pl.concat(
        [whole, _selected(joined.filter(~pl.col("selector").is_in(trivial)), selectors)]
    )


def _takes_all(selector: Selector) -> bool:
    return selector.trivial and selector.rows is None


def _selected(joined: pl.DataFrame, selectors: Sequence[Selector]) -> pl.DataFrame:
    """What of ``joined`` its selectors take, as :func:`_grouped` says."""
    pairs = joined.select("selector", "dimensions").unique()
    groups = [selectors[index].group(text) for index, text in pairs.iter_rows()]
    places = [selectors[index].row(text) for index, text in pairs.iter_rows()]
    found = pairs.with_columns(
        pl.Series("group", groups, dtype=pl.String()), pl.Series("row", places, dtype=pl.Int64())
    )
    kept = found.drop_nulls("group").with_columns(
        several=pl.len().over("selector", "group", "row") > 1
    )
    return joined.join(kept, on=["selector", "dimensions"])


def _bounded(usage: pl.DataFrame, plans: Sequence[LinePlan]) -> pl.DataFrame:
    limit = pl.lit(from_units(QUANTITY_LIMIT.below, 0), pl.Decimal(38, 9))
    large = usage.filter(pl.col("quantity").abs() >= limit)
    for line, *number in large.select("line", "quantity", "divisor", "rest").iter_rows():
        if abs(exact(*number)) >= QUANTITY_LIMIT.below:
            raise _too_large(plans[line])
    return usage


def _too_large(plan: LinePlan) -> OutOfRange:
    named = f"contract {plan.contract}, product {plan.terms.product}"
    return OutOfRange(f"{named}: a quantity of 10^18 or more")
