"""Why a line is what it is: price version, quantities, tier by tier, each step before and after.

An explanation is complete: its amount follows from what it says alone.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import date
from decimal import Decimal
from fractions import Fraction
from typing import Any
from zoneinfo import ZoneInfo

import polars as pl

from catalog.charges import Matrix
from catalog.clock import Micros, to_rfc3339
from catalog.durations import hours_minutes
from catalog.events import EMPTY_DIMENSIONS, FACTS
from catalog.ids import ContractId
from catalog.money import minor_units, plain, round_fraction
from catalog.snapshot import Catalog, midnight
from rating.cells import exact
from rating.charges.base import Part
from rating.charges.registry import model_name
from rating.contract_terms.explained import explained
from rating.contract_terms.find import Asked, settled_line
from rating.dimensions import Selector
from rating.exactly import start_of
from rating.explanation import Explanation, StepTaken, moment_text, number_text
from rating.pieces import Piece
from rating.plan import LinePlan, Started, plan_lines
from rating.ports import FactSource
from rating.probes import line_spans
from rating.quantities import measure
from rating.steps import CHARGE, STEPS, Priced
from rating.windows import within_hours

_UTC = ZoneInfo("UTC")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Found:
    """The plan of one line, its group, and how much was used."""

    plan: LinePlan
    group: str
    quantity: Fraction
    event_count: int
    pieces: tuple[Piece, ...] | None


def explain(
    catalog: Catalog,
    *,
    line_id: str,
    period: date,
    contract: ContractId,
    source: FactSource,
    as_of: Micros,
) -> Explanation:
    """How the line ``line_id`` came about; ``contract`` and ``period`` as ``named_in`` reads them.

    Raises:
        NotFound: the contract has no such line.
    """
    plans = plan_lines(catalog, Started(midnight(period, _UTC)), contracts=[contract])
    found = _find(plans, line_id, catalog=catalog, source=source, as_of=as_of)
    if found is None:
        asked = Asked(line_id=line_id, day=period, contract=contract, as_of=as_of)
        return explained(settled_line(asked, catalog, source), as_of=as_of)
    plan = found.plan
    steps, priced, pieces = _steps(found)
    decimals = minor_units(plan.terms.currency)
    return Explanation(
        line=_line(line_id, found),
        price=_price(plan),
        quantity=number_text(found.quantity),
        event_count=found.event_count,
        steps=steps,
        pieces=pieces,
        parts=tuple(map(_part, priced.parts)),
        exact_amount=number_text(priced.amount),
        amount=f"{round_fraction(priced.amount, decimals):f}",
        rounding={"mode": "half_away_from_zero", "decimals": decimals},
        as_of=to_rfc3339(as_of),
    )


def line_facts(
    catalog: Catalog,
    *,
    line_id: str,
    period: date,
    contract: ContractId,
    source: FactSource,
    as_of: Micros,
) -> pl.LazyFrame:
    """FACTS that a line counts, by time, node and seq: the events behind it. Raises as explain."""
    plans = plan_lines(catalog, Started(midnight(period, _UTC)), contracts=[contract])
    found = _find(plans, line_id, catalog=catalog, source=source, as_of=as_of)
    if found is None:
        settled_line(
            Asked(line_id=line_id, day=period, contract=contract, as_of=as_of), catalog, source
        )
        return FACTS.to_frame().lazy()
    spans = line_spans(found.plan, catalog)
    if spans.is_empty():
        return FACTS.to_frame().lazy()
    price = found.plan.terms.price
    selector = Selector(filter=found.plan.terms.filter, group_by=price.group_by)
    facts = source.facts(spans, as_of=as_of)
    if price.hours:
        hours = tuple(map(hours_minutes, price.hours))
        facts = facts.filter(within_hours(hours, timezone=found.plan.timezone.key))
    texts = facts.select(pl.col("dimensions").unique()).collect()["dimensions"].to_list()
    counted = [text for text in texts if selector.group(text) == found.group]
    return (
        facts.filter(pl.col("dimensions").is_in(counted))
        .select(list(FACTS))
        .sort("time", "node", "seq")
    )


def _find(
    plans: list[LinePlan], line_id: str, *, catalog: Catalog, source: FactSource, as_of: Micros
) -> _Found | None:
    """The one plan and group with this id, if any; groups are known from the usage."""
    ungrouped = [plan for plan in plans if plan.line_id(EMPTY_DIMENSIONS) == line_id]
    candidates = ungrouped or [plan for plan in plans if plan.terms.price.group_by]
    measured = measure(candidates, catalog, source, as_of=as_of)
    for line, group, quantity, divisor, events, rest in measured.usage.iter_rows():
        plan = candidates[line]
        if plan.line_id(group) == line_id:
            rows = measured.pieces.filter(line=line, dimensions=group)
            pieces = measured.pieces_of(plan.terms, rows) if plan.terms.pieced else None
            units = exact(quantity, divisor, rest)
            windowed = plan.terms.price.bucket is not None
            if pieces is not None and windowed and not isinstance(plan.terms.price.charge, Matrix):
                units = sum((piece.units for piece in pieces), Fraction(0))
            return _Found(plan=plan, group=group, quantity=units, event_count=events, pieces=pieces)
    return None


def _steps(found: _Found) -> tuple[tuple[StepTaken, ...], Priced, tuple[dict[str, Any], ...]]:
    """Every step that the price has, in order, the line they led to, and its pieces on the way."""
    plan = found.plan
    taken: list[StepTaken] = []
    line = start_of(plan.terms, found.quantity)
    if found.pieces is not None:
        line = replace(line, pieces=found.pieces)
    charged = False
    forms = [line.pieces]
    for step in STEPS:
        after = step.exact(line, plan.terms, plan.share)
        stated = step.stated(plan.terms, plan.share)
        before = line.amount if charged else line.units
        charged = charged or step.name == CHARGE
        if stated is not None or step.name == CHARGE:
            taken.append(
                StepTaken(
                    step=step.name,
                    before=number_text(before),
                    after=number_text(after.amount if charged else after.units),
                    stated=None if stated is None else number_text(stated),
                )
            )
        if not charged:
            forms.append(after.pieces)
        line = after
    pieced = found.pieces is not None
    return tuple(taken), line, tuple(map(_piece, *forms)) if pieced else ()


def _piece(measured: Piece, converted: Piece, priced: Piece) -> dict[str, str | None]:
    """One piece as it was measured, converted, and after included units came off."""
    return {
        "piece": measured.label,
        "sign": str(measured.sign),
        "fee": str(measured.fee).lower(),
        "quantity": number_text(measured.units),
        "converted": number_text(converted.units),
        "units": number_text(priced.units),
    }


def _line(line_id: str, found: _Found) -> dict[str, str | None]:
    plan = found.plan
    meter = plan.terms.metered
    return {
        "line_id": line_id,
        "customer": plan.customer,
        "contract": plan.contract,
        "product": plan.terms.product,
        "meter": meter.id if meter else None,
        "dimensions": found.group,
        "timing": plan.terms.invoicing.timing.value,
        "period_start": moment_text(plan.start),
        "period_end": moment_text(plan.end),
        "billing_start": moment_text(plan.period.start),
        "billing_end": moment_text(plan.period.end),
        "accounting_date": plan.accounting.isoformat(),
        "currency": plan.terms.currency,
        "kind": plan.terms.kind.value,
    }


def _price(plan: LinePlan) -> dict[str, str | int | None]:
    """Which price, by whom stated, and what of it the steps do not show."""
    price, share = plan.terms.price, plan.share
    convert, commitment = price.convert, price.commitment
    multiplier = commitment.overage_multiplier if commitment else None
    return {
        "version": plan.terms.version,
        "origin": plan.origin.source,
        "origin_id": plan.origin.id,
        "key": plan.origin.key,
        "revision": plan.origin.revision,
        "model": model_name(price.charge),
        "billing_period": plan.period.index,
        "from_period": price.from_period,
        "to_period": price.to_period,
        "tiers_span_months": price.tiers_span_months,
        "prorate": plan.terms.prorate.value,
        "share": number_text(share.terms),
        "convert_round": convert.round.value if convert else None,
        "convert_digits": convert.digits if convert else None,
        "overage_multiplier": _decimal(multiplier),
        "true_up": str(commitment.true_up).lower() if commitment else None,
    }


def _part(part: Part) -> dict[str, str | None]:
    """One part of the charge as text; see :class:`rating.charges.base.Part`."""
    return {
        "piece": part.piece,
        "sign": str(part.sign),
        "tier": None if part.tier is None else str(part.tier),
        "units_from": _decimal(part.units_from),
        "units_to": _decimal(part.units_to),
        "units": number_text(part.units),
        "package_size": _decimal(part.package_size),
        "priced": number_text(part.priced),
        "unit_price": _decimal(part.unit_price),
        "flat_fee": _decimal(part.flat_fee),
        "maximum": _decimal(part.maximum),
        "amount": number_text(part.amount),
    }


def _decimal(number: Decimal | None) -> str | None:
    return None if number is None else plain(number)
