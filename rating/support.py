"""What rating cannot do yet, by name: refused when it is applied, never rated wrongly."""

from __future__ import annotations

from catalog.contracts import Contract
from catalog.errors import DomainError
from catalog.meters import Meter
from catalog.pricebooks import Price
from rating.aggregations import unsupported_meter
from rating.charges.registry import MODELS, model_name


class UnsupportedTerms(DomainError):
    """A catalog states what cannot be rated yet; apply refuses it, and so does rating."""

    code = "unsupported_terms"


def require_supported(stated: Price | Contract | Meter, *, name: str) -> None:
    """Let through only what can be rated in full: a term that is ignored would be a wrong bill.

    Raises:
        UnsupportedTerms: naming what cannot.
    """
    if missing := unsupported(stated):
        raise UnsupportedTerms(f"{name}: {'; '.join(missing)}")


def unsupported(stated: Price | Contract | Meter) -> list[str]:
    """What of a price, a contract (its prices aside) or a meter that is priced cannot be rated.

    One sentence each, naming the charge or term; empty where all of it can.
    """
    match stated:
        case Price():
            names = _of_price(stated)
        case Contract():
            names = _of_contract(stated)
        case Meter():
            names = unsupported_meter(stated)
    return [f"{name} cannot be rated yet" for name in names]


def _of_price(price: Price) -> list[str]:
    terms = {
        "bucket": price.bucket is not None,
        "hours": bool(price.hours),
        "tiers_span": price.tiers_span_months is not None,
        "commitment": price.commitment is not None,
    }
    charge = price.charge
    names = [] if type(charge) in MODELS else [f"charge model {model_name(charge)}"]
    return names + [name for name, given in terms.items() if given]


def _of_contract(contract: Contract) -> list[str]:
    amendments = contract.amendments
    terms = {
        "discounts": bool(contract.discounts),
        "minimum": contract.minimum is not None,
        "commitments": bool(contract.commitments),
        "credits": bool(contract.credits),
        "trial": contract.trial is not None,
        "amendments.discounts": any(a.discounts for a in amendments),
        "amendments.commitments": any(a.commitments for a in amendments),
    }
    return [name for name, given in terms.items() if given]
