"""How much was used: one quantity per line and group, all lines in one question to the store."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from decimal import Decimal

import polars as pl

from catalog.clock import Micros, to_datetime
from catalog.errors import OutOfRange
from catalog.events import EMPTY_DIMENSIONS
from catalog.ids import CustomerId
from catalog.meters import Aggregation, Meter
from catalog.money import QUANTITY as QUANTITY_LIMIT
from catalog.money import from_units
from catalog.snapshot import Catalog
from rating.aggregations import ADDITIVE, FROM_FACTS
from rating.claims import Claim, claims_of
from rating.dimensions import Selector
from rating.plan import LinePlan
from rating.ports import SPANS, FactSource

USAGE = pl.Schema(
    {
        "line": pl.Int64(),
        "dimensions": pl.String(),
        "quantity": pl.Decimal(38, 9),
        "divisor": pl.Int64(),
        "event_count": pl.Int64(),
    }
)
"""One row per (line, group): the exact quantity is ``quantity`` / ``divisor`` (1 but for averages).

``line`` is the index of its plan. Additive meters without ``group_by`` have a row also where
nothing was used; others have none for nothing. Fixed quantities have one row, without events.
"""

_LINES = pl.Schema(
    {
        "line": pl.Int64(),
        "span": pl.Int64(),
        "selector": pl.Int64(),
        "aggregation": pl.String(),
        "additive": pl.Boolean(),
        "whole": pl.Boolean(),
    }
)
_QUANTITY = pl.Decimal(38, 9)


@dataclass
class _Spans:
    """Spans asked for, each distinct one once, however many lines it feeds."""

    ids: dict[tuple[object, ...], int] = field(default_factory=dict)
    rows: list[tuple[object, ...]] = field(default_factory=list)

    def of(self, plan: LinePlan, spec: str, claims: Sequence[Claim]) -> int:
        """The span of ``plan``'s usage."""
        key = (spec, plan.customer, plan.start, plan.end)
        if key not in self.ids:
            span = self.ids[key] = len(self.ids)
            for claim in claims:
                start, end = max(plan.start, claim.start), min(plan.end, claim.end)
                if start < end:
                    self.rows.append(
                        (span, spec, claim.subject, to_datetime(start), to_datetime(end))
                    )
        return self.ids[key]

    def frame(self) -> pl.DataFrame:
        """All of them as SPANS."""
        return pl.DataFrame(self.rows, schema=SPANS, orient="row")


@dataclass(frozen=True, slots=True)
class _Question:
    """What is asked of the store: ``lines`` and the spans that feed them, added up or listed."""

    lines: pl.DataFrame
    added: pl.DataFrame
    listed: pl.DataFrame
    selectors: tuple[Selector, ...]


def measure(
    plans: Sequence[LinePlan], catalog: Catalog, source: FactSource, *, as_of: Micros
) -> pl.DataFrame:
    """USAGE of ``plans``: fixed quantities as they are, usage as received up to ``as_of``.

    Raises:
        OutOfRange: a quantity of 10^18 or more.
    """
    asked = _question(plans, catalog)
    found = [_fixed(plans), _sums(asked, source, as_of), _facts(asked, source, as_of)]
    return _bounded(pl.concat(found), plans)


def line_spans(plan: LinePlan, catalog: Catalog) -> pl.DataFrame:
    """SPANS of one line's usage; empty for a fixed quantity."""
    spans = _Spans()
    meter = _priced_meter(plan)
    if meter is not None:
        spans.of(plan, meter.fact_spec.id, claims_of(catalog, plan.customer))
    return spans.frame()


def _question(plans: Sequence[LinePlan], catalog: Catalog) -> _Question:
    selectors: dict[Selector, int] = {}
    claims: dict[CustomerId, list[Claim]] = {}
    added, listed = _Spans(), _Spans()
    rows: list[tuple[object, ...]] = []
    for line, plan in enumerate(plans):
        meter = _priced_meter(plan)
        if meter is None:
            continue
        if plan.customer not in claims:
            claims[plan.customer] = claims_of(catalog, plan.customer)
        additive = meter.aggregation in ADDITIVE
        spans = added if additive else listed
        span = spans.of(plan, meter.fact_spec.id, claims[plan.customer])
        selector = Selector(filter=plan.terms.filter, group_by=plan.terms.price.group_by)
        index = selectors.setdefault(selector, len(selectors))
        aggregation = meter.aggregation.value
        rows.append((line, span, index, aggregation, additive, not selector.group_by))
    return _Question(
        lines=pl.DataFrame(rows, schema=_LINES, orient="row"),
        added=added.frame(),
        listed=listed.frame(),
        selectors=tuple(selectors),
    )


def _priced_meter(plan: LinePlan) -> Meter | None:
    """The meter whose usage ``plan`` prices; null for fixed quantities and meters not billable."""
    meter = plan.terms.metered
    if meter is None or not meter.billable:
        return None
    return meter


def _fixed(plans: Sequence[LinePlan]) -> pl.DataFrame:
    """A fixed quantity, or 1, for every line that is not metered."""
    one = Decimal(1)
    fixed = [(line, plan.terms) for line, plan in enumerate(plans) if plan.terms.metered is None]
    rows = [
        (line, EMPTY_DIMENSIONS, one if (q := terms.price.quantity) is None else q, 1, 0)
        for line, terms in fixed
    ]
    return pl.DataFrame(rows, schema=USAGE, orient="row")


def _sums(asked: _Question, source: FactSource, as_of: Micros) -> pl.DataFrame:
    """Sums and counts, added up by the store per full dimensions and here per group."""
    lines = asked.lines.filter("additive")
    if lines.is_empty():
        return USAGE.to_frame()
    counted = pl.col("aggregation") == Aggregation.COUNT.value
    quantity = pl.when(counted).then(pl.col("count").cast(_QUANTITY)).otherwise(pl.col("sum"))
    used = USAGE.to_frame()
    if not asked.added.is_empty():
        rows = _grouped(source.sums(asked.added, as_of=as_of), lines, asked.selectors)
        used = _usage(
            rows.group_by("line", "group").agg(
                quantity=quantity.sum(),
                divisor=pl.lit(1, pl.Int64),
                event_count=pl.col("count").sum(),
            )
        )
    unused = lines.filter("whole").join(used, on="line", how="anti")
    zeros = unused.select(
        "line",
        group=pl.lit(EMPTY_DIMENSIONS),
        quantity=pl.lit(Decimal(0), _QUANTITY),
        divisor=pl.lit(1, pl.Int64),
        event_count=pl.lit(0, pl.Int64),
    )
    return pl.concat([used, _usage(zeros)])


def _facts(asked: _Question, source: FactSource, as_of: Micros) -> pl.DataFrame:
    """Aggregations that need the facts themselves, one at a time; of nothing they are nothing."""
    lines = asked.lines.filter(~pl.col("additive"))
    if lines.is_empty() or asked.listed.is_empty():
        return USAGE.to_frame()
    facts = source.facts(asked.listed, as_of=as_of).collect()
    rows = _grouped(facts, lines, asked.selectors)
    found = [USAGE.to_frame()]
    for (name,), part in rows.group_by("aggregation"):
        quantity, divisor = FROM_FACTS[Aggregation(str(name))]
        valued = pl.col("value").is_not_null() | pl.col("text").is_not_null()
        made = part.filter(valued).group_by("line", "group")
        found.append(
            _usage(
                made.agg(quantity=quantity, divisor=divisor, event_count=pl.len().cast(pl.Int64))
            )
        )
    return pl.concat(found)


def _usage(rows: pl.DataFrame) -> pl.DataFrame:
    return rows.rename({"group": "dimensions"}).select(
        pl.col(name).cast(dtype) for name, dtype in USAGE.items()
    )


def _grouped(
    rows: pl.DataFrame, lines: pl.DataFrame, selectors: Sequence[Selector]
) -> pl.DataFrame:
    """``rows`` of spans, for every line they feed, with their ``group``; filtered ones are gone."""
    joined = rows.join(lines, on="span")
    pairs = joined.select("selector", "dimensions").unique()
    groups = [selectors[index].group(text) for index, text in pairs.iter_rows()]
    found = pairs.with_columns(pl.Series("group", groups, dtype=pl.String()))
    return joined.join(found.drop_nulls("group"), on=["selector", "dimensions"])


def _bounded(usage: pl.DataFrame, plans: Sequence[LinePlan]) -> pl.DataFrame:
    limit = pl.lit(from_units(QUANTITY_LIMIT.below, 0), pl.Decimal(38, 9))
    beyond = usage.filter((pl.col("quantity").abs() >= limit) & (pl.col("divisor") == 1))
    if not beyond.is_empty():
        plan = plans[int(beyond["line"].min())]  # type: ignore[arg-type]
        raise OutOfRange(
            f"contract {plan.contract}, product {plan.terms.product}: a quantity of 10^18 or more"
        )
    return usage
