"""Charges from an example's ``params``: each reads the keys it knows; what is left is refused."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from typing import Any

from tests.vectors.cases import NotSayable, Tree

REMARKS = ("bounds", "flat", "peer_form", "semantics", "unit", "rule", "expected_rule")
"""Keys that say what every tier here does anyway, or how a peer writes it down."""


UNLIKE = {"bounds": ("upper exclusive", "lower inclusive"), "flat": ("only", "last", "highest")}
"""What remarks say where a peer's tiers are not as ours."""


class Params:
    """An example's params, each to be taken once; in the end none may be left."""

    def __init__(self, params: Tree) -> None:
        for key, words in UNLIKE.items():
            if any(word in str(params.get(key, "")) for word in words):
                raise NotSayable(f"{key}: {params[key]}")
        self._left = {key: value for key, value in params.items() if key not in REMARKS}

    def take(self, key: str, default: object = None) -> Any:
        """The value of ``key``, which is then done with."""
        return self._left.pop(key, default)

    def need(self, key: str) -> Any:
        """The value of ``key``.

        Raises:
            NotSayable: it is not there.
        """
        if key not in self._left:
            raise NotSayable(f"params without {key!r}")
        return self._left.pop(key)

    def finish(self) -> None:
        """See that nothing was overlooked: a param that is not read may change the amount."""
        if left := sorted(self._left):
            raise NotSayable(f"params this translator does not know: {', '.join(left)}")


def nonzero(value: object) -> bool:
    """Whether a param is given and is not nothing."""
    return value is not None and Decimal(str(value)) != 0


def flat(params: Params) -> Tree:
    """A fee."""
    return {"model": "flat", "amount": str(params.need("amount"))}


def per_unit(params: Params) -> Tree:
    """Every unit at one price."""
    return {"model": "per_unit", "unit_price": str(params.need("unit_amount"))}


def package(params: Params) -> Tree:
    """Whole packages, rounded up; rounded down they are a conversion (:func:`whole_packages`)."""
    return {
        "model": "package",
        "size": str(params.need("package_size")),
        "package_price": str(params.need("amount")),
        "free_units": str(params.take("free_units") or 0),
    }


def tiered(model: str, params: Params, *, beyond: str = "refuse") -> Tree:
    """Graduated or volume tiers."""
    first_fee = params.take("zero_usage", "zero")
    if first_fee not in ("zero", "first tier flat charged"):
        raise NotSayable(f"zero usage: {first_fee}")
    charge: Tree = {"model": model, "tiers": [_tier(tier) for tier in params.need("tiers")]}
    if beyond != "refuse":
        charge["beyond"] = beyond
    if first_fee == "first tier flat charged":
        charge["flat_fee_when_unused"] = True
    return charge


_TIER_KEYS = {
    "unit_amount": "unit_price",
    "flat_amount": "flat_fee",
    "tier_cap": "maximum",
    "package_size": "package_size",
}


def _tier(given: Tree) -> Tree:
    unknown = set(given) - {"up_to", *_TIER_KEYS}
    if unknown:
        raise NotSayable(f"tiers with {', '.join(sorted(unknown))}")
    tier = {ours: str(given[key]) for key, ours in _TIER_KEYS.items() if given.get(key) is not None}
    return tier if given["up_to"] is None else {"up_to": str(given["up_to"]), **tier}


def percent_tiers(params: Params) -> Tree:
    """A share of an amount, tier by tier."""
    charge: Tree = {"model": "graduated_percentage", "tiers": []}
    for tier in params.need("tiers"):
        bound = {} if tier["up_to"] is None else {"up_to": str(tier["up_to"])}
        fee = str(tier.get("flat_amount") or 0)
        charge["tiers"].append({**bound, "percent": str(tier["rate_pct"]), "flat_fee": fee})
    if params.take("zero_usage") == "first tier flat charged":
        charge["flat_fee_when_unused"] = True
    return charge


def stairs(params: Params, *, cumulative: bool) -> Tree:
    """The fee of a band, or of all bands up to it."""
    if (unused := params.take("zero_usage", "zero")) != "zero":
        raise NotSayable(f"zero usage: {unused}")
    bands = [
        {"flat_fee": str(step["amount"])}
        | ({} if step["up_to"] is None else {"up_to": str(step["up_to"])})
        for step in params.need("steps")
    ]
    charge: Tree = {"model": "stairstep", "tiers": bands}
    return charge | ({"cumulative": True} if cumulative else {})


def blocks(model: str, params: Params) -> Tree:
    """Blocks of units up to so many of them, as tiers with packages."""
    tiers: list[Tree] = []
    reached = Decimal(0)
    for block in params.need("blocks"):
        tier = {"unit_price": str(block["price"]), "package_size": str(block["size"])}
        if int(block["max_blocks"]) != -1:
            reached += Decimal(str(block["size"])) * int(block["max_blocks"])
            tier["up_to"] = str(reached)
        tiers.append(tier)
    return {"model": model, "tiers": tiers}


def percentage(params: Params) -> Tree:
    """A share of an amount with a fixed part, free events or units, and bounds of each event."""
    charge: Tree = {"model": "percentage", "percent": str(params.need("rate_pct"))}
    fields = {
        "fixed": params.take("fixed_amount"),
        "free_units": _first(
            params.take("free_units_per_total_aggregation"), params.take("free_amount")
        ),
        "free_events": _first(params.take("free_units_per_events"), params.take("free_events")),
    }
    charge |= {name: str(value) for name, value in fields.items() if nonzero(value)}
    bounds = {
        "event_minimum": params.take("per_event_min"),
        "event_maximum": params.take("per_event_max"),
    }
    return charge | {name: str(value) for name, value in bounds.items() if value is not None}


def _first(*values: object) -> object:
    return next((value for value in values if value is not None), None)


def plans(tiers: Iterable[Tree]) -> Tree:
    """The first plan that everything fits; limits that name nothing hold anything."""
    made = []
    for tier in tiers:
        limits = {meter: str(limit) for meter, limit in tier["limits"].items()}
        made.append({"amount": str(tier["amount"])} | ({"up_to": limits} if limits else {}))
    return {"model": "capacity", "tiers": made}


ROUNDINGS = {
    "round": "half_up",
    "half_up": "half_up",
    "nearest": "half_up",
    "ceil": "up",
    "ceiling": "up",
    "up": "up",
    "floor": "down",
    "down": "down",
    "none": "none",
    None: "none",
}


def conversion(params: Params) -> Tree:
    """Units as priced from units as metered."""
    operation, rounding = params.need("operation"), params.take("rounding")
    if operation not in ("divide", "multiply") or rounding not in ROUNDINGS:
        raise NotSayable(f"a conversion that {operation}s and rounds {rounding}")
    convert = {operation: str(params.need("factor")), "round": ROUNDINGS[rounding]}
    digits = params.take("precision")
    return convert | ({} if digits is None else {"digits": str(digits)})
