"""Why an event is in no line: the reasons of ``GET /v1/events/unmatched``.

The chain an event passes: a meter reads it, the meter finds its value, a customer claims its
subject, that customer has a contract, the contract prices a product of the meter. An event is
matched when one of its meters passes all of it; else the reason is where the meter that came
furthest stopped. A price takes what happens in its hours and its ramp; a dynamic one needs the
amount that events name. Only the catalog and the events decide; no store is asked.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property

import polars as pl

from catalog.charges import Dynamic
from catalog.durations import hours_minutes
from catalog.events import INSTANT, RECORDS, RecordKind, UnmatchedReason
from catalog.ids import NodeId
from catalog.meters import Aggregation, Meter
from catalog.snapshot import Catalog
from catalog.subjects import ENDLESS, SubjectIndex, span
from ingest.extract import extract_facts, specs_of
from rating.dimensions import Selector
from rating.plan import counted_within
from rating.terms import Terms
from rating.timeline import Timelines, term_of
from rating.windows import Hours, within_hours

METERED = pl.Schema(
    {
        "spec": pl.String(),
        "meter": pl.String(),
        "reads": pl.Boolean(),
        "carried": pl.Boolean(),
        "since": INSTANT,
        "until": INSTANT,
    }
)
"""One row a meter version: what it reads (``reads``: a value) and when it holds. What is
``carried`` (a level) counts from then on too, whenever it was."""
UNDER = pl.Schema({"customer": pl.String(), "since": INSTANT, "until": INSTANT})
"""One row a contract: when its customer is under it."""
PRICED = pl.Schema(
    {
        "customer": pl.String(),
        "meter": pl.String(),
        "selector": pl.Int64(),
        "hours": pl.Int64(),
        "amount": pl.String(),
        "since": INSTANT,
        "until": INSTANT,
    }
)
"""One row a stretch in which a contract prices a meter's facts that pass a product's filter.

``hours`` are those of the day that it takes (null: all), ``amount`` the fact spec of the amount
that events have to name (null: none)."""

STEPS = (
    UnmatchedReason.NO_METER,
    UnmatchedReason.MISSING_VALUE,
    UnmatchedReason.NO_CUSTOMER,
    UnmatchedReason.NO_CONTRACT,
    UnmatchedReason.NO_PRICE,
    UnmatchedReason.MISSING_VALUE,
)
"""Where the chain may stop, in order. A missing value comes before the customer: it is what a
typo in a meter looks like, whoever the customer is. A price that events name themselves finds its
amount last."""
MATCHED = len(STEPS)


class Matcher:
    """Matches events with one catalog. Build one per catalog revision; thread-safe to use."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self._specs = list(specs_of(catalog).values())
        self._claims = SubjectIndex(catalog).frame()
        self._selectors: dict[Selector, int] = {}
        self._hours: dict[tuple[Hours, str], int] = {}

    def reasons(self, events: pl.DataFrame) -> pl.Series:
        """Why each of ``events`` is in no line, as text in their order; null where it is in one.

        Args:
            events: ``type``, ``subject``, ``time``, ``data`` and ``received_at`` of each.
        """
        facts = self._facts(events)
        reached = facts.group_by("seq").agg(step=pl.col("step").max())
        rows = pl.DataFrame({"seq": pl.int_range(events.height, eager=True)})
        steps = rows.join(reached, on="seq", how="left", maintain_order="left")["step"]
        names = pl.Series([*map(str, STEPS), None], dtype=pl.String)
        return names.gather(steps.fill_null(0))

    def _facts(self, events: pl.DataFrame) -> pl.DataFrame:
        """``seq`` (row of ``events``) and ``step`` of every meter that reads an event."""
        records = events.with_columns(
            seq=pl.int_range(pl.len(), dtype=pl.Int64),
            kind=pl.lit(RecordKind.EVENT.value, pl.UInt8),
            target=pl.lit(None, pl.Int64),
        ).select(list(RECORDS))
        read = extract_facts(records, self._specs, node=NodeId("n"), missing=True)
        facts = _during(read.join(self._metered, on="spec"))
        columns = ("seq", "subject", "time", "value", "text", "dimensions", "meter")
        facts = facts.select(*columns, "reads", "carried")
        missing = pl.col("reads") & pl.col("value").is_null() & pl.col("text").is_null()
        stopped = [facts.filter(missing).select("seq", step=_step(UnmatchedReason.MISSING_VALUE))]
        facts = facts.filter(~missing)
        for table, keys, reason in (
            (self._claims, ["subject"], UnmatchedReason.NO_CUSTOMER),
            (self._under, ["customer"], UnmatchedReason.NO_CONTRACT),
        ):
            passed = _during(facts.join(table, on=keys)).drop("since", "until")
            stopped.append(facts.select("seq", step=_step(reason)))
            facts = passed
        stopped.append(facts.select("seq", step=_step(UnmatchedReason.NO_PRICE)))
        priced = self._passing(_during(facts.join(self._priced, on=["customer", "meter"])))
        named = read.filter(pl.col("value").is_not_null()).select("seq", amount="spec")
        bare = priced.drop_nulls("amount").join(named, on=["seq", "amount"], how="anti")
        stopped.append(bare.select("seq", step=pl.lit(MATCHED - 1, pl.Int64)))
        priced = priced.join(bare, on=["seq", "amount"], how="anti")
        stopped.append(priced.select("seq", step=pl.lit(MATCHED, pl.Int64)))
        return pl.concat(stopped)

    def _passing(self, facts: pl.DataFrame) -> pl.DataFrame:
        """Facts whose dimensions pass the product's filter, at an hour that the price takes."""
        inside = pl.col("hours").is_null()
        for (hours, timezone), index in self._hours.items():
            inside |= (pl.col("hours") == index) & within_hours(hours, timezone=timezone)
        facts = facts.filter(inside)
        selectors = list(self._selectors)
        pairs = facts.select("selector", "dimensions").unique()
        passing = [selectors[index].group(text) is not None for index, text in pairs.iter_rows()]
        kept = pairs.filter(pl.Series(passing, dtype=pl.Boolean))
        return facts.join(kept, on=["selector", "dimensions"], how="semi")

    @cached_property
    def _metered(self) -> pl.DataFrame:
        rows = [
            (
                v.value.fact_spec.id,
                meter,
                v.value.value is not None,
                v.value.aggregation is Aggregation.WEIGHTED_SUM,
                *span(v, self._catalog.timezone),
            )
            for meter, chain in self._catalog.meters.items()
            for v in chain.versions
        ]
        return _frame(rows, METERED)

    @cached_property
    def _under(self) -> pl.DataFrame:
        terms = [term_of(self._catalog, c) for c in self._catalog.contracts.values() if c.versions]
        rows = [
            (term.contract.customer, term.start, ENDLESS if term.end is None else term.end)
            for term in terms
        ]
        return _frame(rows, UNDER)

    @cached_property
    def _priced(self) -> pl.DataFrame:
        return _frame(list(self._stretches()), PRICED)

    def _stretches(self) -> Iterator[tuple[object, ...]]:
        timelines = Timelines(self._catalog)
        for chain in self._catalog.contracts.values():
            term = term_of(self._catalog, chain)
            end = ENDLESS if term.end is None else term.end
            if term.start >= end:
                continue
            customer, zone = term.contract.customer, term.timezone.key
            for stretches in timelines.slots(term, since=term.start, until=end).values():
                for stretch in stretches:
                    within = counted_within(term, stretch)
                    for taken in self._takes(stretch.terms, zone):
                        yield customer, *taken, *within

    def _takes(self, terms: Terms, zone: str) -> Iterator[tuple[object, ...]]:
        """What of which meters the terms price: meter, selector, hours and amount of PRICED."""
        hours = tuple(map(hours_minutes, terms.price.hours))
        open_at = self._hours.setdefault((hours, zone), len(self._hours)) if hours else None
        for meter, selector in _selections(terms):
            index = self._selectors.setdefault(selector, len(self._selectors))
            yield meter.id, index, open_at, _amount(terms, meter)


def _selections(terms: Terms) -> Iterator[tuple[Meter, Selector]]:
    """Each meter that the terms price, and which of its facts: a product filters its own meter."""
    for meter in terms.counted:
        if meter.billable:
            own = terms.filter if meter == terms.meter else ()
            yield meter, Selector(filter=own, group_by=())


def _amount(terms: Terms, meter: Meter) -> str | None:
    """What reads the amount that events name, where they do."""
    charge = terms.price.charge
    return meter.reading(charge.amount).id if isinstance(charge, Dynamic) else None


def _step(reason: UnmatchedReason) -> pl.Expr:
    return pl.lit(STEPS.index(reason), pl.Int64)


def _during(rows: pl.DataFrame) -> pl.DataFrame:
    """Rows that happen in their stretch; a level counts in those after it too."""
    begun = pl.col("carried") | (pl.col("time") >= pl.col("since"))
    return rows.filter(begun, pl.col("time") < pl.col("until"))


def _frame(rows: Sequence[tuple[object, ...]], schema: pl.Schema) -> pl.DataFrame:
    raw = {name: pl.Int64() if dtype == INSTANT else dtype for name, dtype in schema.items()}
    return pl.DataFrame(rows, schema=raw, orient="row").cast(schema)
