"""What rating cannot do yet, by name: refused when it is applied, never rated wrongly."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from typing import Any

from catalog.charges import Charge, Percentage
from catalog.contracts import Contract
from catalog.errors import DomainError
from catalog.meters import Aggregation, Meter
from catalog.money import plain
from catalog.pricebooks import Price
from catalog.references import Counted
from rating.aggregations import ACCUMULATING, unsupported_meter
from rating.charges.base import ChargeModel, NotCovered
from rating.charges.registry import COMPOSED, MODELS, composed, model_name
from rating.steps import converted


class UnsupportedTerms(DomainError):
    """A catalog states what cannot be rated yet; apply refuses it, and so does rating."""

    code = "unsupported_terms"


def require_rateable(price: Price, meter: Meter) -> None:
    """Let through only a meter whose usage ``price`` can price.

    Raises:
        UnsupportedTerms: naming what cannot.
    """
    if missing := unsupported(Counted(price=price, meter=meter)):
        raise UnsupportedTerms(f"meter {meter.id}: {'; '.join(missing)}")


def require_supported(stated: Price | Contract, *, name: str) -> None:
    """Let through only what can be rated in full: a term that is ignored would be a wrong bill.

    Raises:
        UnsupportedTerms: naming what cannot.
    """
    if isinstance(stated, Price) and (missing := _sentences(_of_price(stated))):
        raise UnsupportedTerms(f"{name}: {'; '.join(missing)}")


def unsupported(stated: Price | Contract | Counted) -> list[str]:
    """What of a price, a contract (its prices aside) or a meter as a price counts it does not rate.

    One sentence each, naming the charge or term; empty where all of it can.
    """
    match stated:
        case Price():
            names = [*_of_price(stated), *_beyond(stated)]
        case Contract():
            names = []  # discounts, commitments, minimum, credits and trial all rate
        case Counted():
            names = _of_usage(stated.price, stated.meter)
    return _sentences(names)


def _sentences(names: list[str]) -> list[str]:
    return [f"{name} cannot be rated yet" for name in names]


def _of_price(price: Price) -> list[str]:
    charge = price.charge
    names = []
    if price.commitment is not None and price.tiers_span_months is not None:
        names.append("commitment with tiers_span")
    if price.bucket is not None and price.tiers_span_months is not None:
        names.append("bucket with tiers_span")
    if type(charge) not in MODELS and type(charge) not in COMPOSED:
        names.append(f"charge model {model_name(charge)}")
    model = composed(charge)
    clashes = [] if model is None else model.clashes(price)
    if model is not None and price.commitment is not None:
        clashes.append("commitment")
    if price.quantity is not None and price.tiers_span_months is not None:
        clashes.append("quantity with tiers_span")
    return names + [f"{clash} with a charge of model {model_name(charge)}" for clash in clashes]


def _beyond(price: Price) -> Iterator[str]:
    """Fixed numbers of units that no tier covers: such a line could never be priced.

    What is stored all the same is rated until such a line is due.
    """
    model, promise = MODELS.get(type(price.charge)), price.commitment
    if model is None or composed(price.charge) is not None:
        return
    if price.quantity is not None:
        units = Fraction(price.quantity)
        units = units if price.convert is None else converted(units, price.convert)
        left = max(Fraction(0), units - Fraction(price.included or 0))
        if not _covered(model, price.charge, left):
            yield f"a quantity of {plain(price.quantity)}, which no tier covers,"
    promised = None if promise is None else promise.quantity
    if promised is not None and not _covered(model, price.charge, Fraction(promised)):
        yield f"a commitment of {plain(promised)} units, which no tier covers,"


def _covered(model: ChargeModel[Any], charge: Charge, units: Fraction) -> bool:
    try:
        model.exact(charge, units)
    except NotCovered:
        return False
    return True


def _of_usage(price: Price, meter: Meter) -> list[str]:
    """A meter's own gaps, then what does not go with how the price counts it."""
    aggregation, charge = meter.aggregation, price.charge
    per_event = composed(charge) is not None and isinstance(charge, Percentage)
    weighted = aggregation is Aggregation.WEIGHTED_SUM
    terms = {
        "a percentage with terms for each event": per_event
        and (aggregation is not Aggregation.SUM or meter.window is not None),
        "bucket": price.bucket is not None and (weighted or meter.window is not None),
        "hours": bool(price.hours) and weighted,
        "tiers_span": price.tiers_span_months is not None and aggregation not in ACCUMULATING,
    }
    kind = f"a {aggregation} meter" + (" with a window" if meter.window else "")
    clashes = [f"{name} on {kind}" for name, given in terms.items() if given]
    return [*unsupported_meter(meter), *clashes]
