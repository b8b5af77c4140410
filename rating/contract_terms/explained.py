"""A line of a contract as a whole, explained: what its term acted on, and what it made of it."""

from __future__ import annotations

from catalog.clock import Micros, to_rfc3339
from catalog.events import EMPTY_DIMENSIONS
from catalog.money import minor_units
from rating.contract_terms.lines import Settled
from rating.explanation import Explanation, StepTaken, moment_text, number_text

_OF_PRICES = (
    "billing_period",
    "from_period",
    "to_period",
    "prorate",
    "share",
    "convert_round",
    "convert_digits",
    "overage_multiplier",
    "true_up",
)


def explained(settled: Settled, *, as_of: Micros) -> Explanation:
    """In the form of any line's explanation. It has no parts; quantity is 1, or 0 for nothing."""
    line = settled.line
    return Explanation(
        line=_line(settled),
        price=_price(settled),
        quantity=str(int(line.amount != 0)),
        event_count=0,
        steps=tuple(
            StepTaken(
                step=step.name,
                before=number_text(step.before),
                after=number_text(step.after),
                stated=None if step.stated is None else number_text(step.stated),
            )
            for step in line.steps
        ),
        parts=(),
        exact_amount=number_text(line.steps[-1].after),
        amount=f"{settled.amount:f}",
        rounding={"mode": "half_away_from_zero", "decimals": minor_units(settled.currency)},
        as_of=to_rfc3339(as_of),
    )


def _line(settled: Settled) -> dict[str, str | None]:
    line, document = settled.line, settled.line.document
    return {
        "line_id": settled.id,
        "customer": settled.term.contract.customer,
        "contract": settled.term.contract.id,
        "product": settled.product,
        "meter": None,
        "dimensions": EMPTY_DIMENSIONS,
        "timing": document.timing,
        "period_start": moment_text(line.start),
        "period_end": moment_text(line.end),
        "billing_start": moment_text(document.start),
        "billing_end": moment_text(document.end),
        "accounting_date": document.accounting.isoformat(),
        "currency": settled.currency,
        "kind": line.term.kind.value,
    }


def _price(settled: Settled) -> dict[str, str | int | None]:
    """Which term, in the place of a price: ``model`` is what it is, ``key`` where it stands."""
    term = settled.line.term
    fields: dict[str, str | int | None] = dict.fromkeys(_OF_PRICES)
    return {
        "version": settled.version,
        "origin": "contract",
        "origin_id": settled.term.contract.id,
        "key": term.slot,
        "revision": term.revision,
        "model": term.kind.value,
        **fields,
    }
