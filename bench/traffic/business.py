"""What the load needs in the catalog. Every object is named ``load-…``: it may be anyone's service.

Each run counts apart: ``run`` is a dimension of both meters, so that what was acknowledged can be
compared with what is counted, whatever else the deployment does meanwhile.
"""

from __future__ import annotations

from typing import Any

METER_EVENTS = "load-requests"
METER_CALLS = "load-calls"
FEATURE_CALLS = "load-calls"
PRICEBOOK = "load-standard"
EVENT_TYPE = "load.completion"
MODELS = ("gpt-4", "gpt-4-mini", "claude-x", "llama-3-70b", "mistral-l")
PRICES = ("0.000002", "0.0000025")
"""Between these two the operator goes back and forth."""

SMALL_PLAN_EVERY = 4
SMALL_PLAN_CALLS = 20
LARGE_PLAN_CALLS = 1_000_000_000
"""Every fourth customer has a plan that is used up soon: denials are part of the traffic."""


def customer(number: int) -> str:
    """The id of a customer, which is its subject too."""
    return f"load-{number}"


def document(customers: int) -> dict[str, Any]:
    """The catalog: meters, a feature with a hard limit, prices, ``customers`` with contracts."""
    names = [customer(number) for number in range(customers)]
    return {
        "meters": _meters(),
        "features": {FEATURE_CALLS: {"kind": "metered", "meter": METER_CALLS}},
        "products": {
            "load-tokens": {"name": "Tokens (load test)", "meter": "load-tokens"},
            "load-calls": {"name": "Calls (load test)", "meter": METER_CALLS},
        },
        "pricebooks": {PRICEBOOK: pricebook(PRICES[0])},
        "customers": {name: {"name": name, "subjects": [name]} for name in names},
        "contracts": {
            name: {
                "customer": name,
                "pricebook": PRICEBOOK,
                "start": "2020-01-01",
                "entitlements": [_calls(SMALL_PLAN_CALLS)],
            }
            if number % SMALL_PLAN_EVERY == 0
            else {"customer": name, "pricebook": PRICEBOOK, "start": "2020-01-01"}
            for number, name in enumerate(names)
        },
    }


def pricebook(token_price: str) -> dict[str, Any]:
    """The one pricebook, with this price of a token."""
    prices = {"load-tokens": token_price, "load-calls": "0.01"}
    return {
        "currency": "USD",
        "invoicing": {"timing": "arrears", "every_months": 1, "anchor": "calendar"},
        "prices": [
            {"product": product, "charge": {"model": "per_unit", "unit_price": price}}
            for product, price in prices.items()
        ],
        "entitlements": [_calls(LARGE_PLAN_CALLS)],
    }


def _meters() -> dict[str, Any]:
    run = {"run": "data.run"}
    return {
        METER_EVENTS: {"event_type": EVENT_TYPE, "aggregation": "count", "dimensions": run},
        "load-tokens": {
            "event_type": EVENT_TYPE,
            "aggregation": "sum",
            "value": "data.tokens",
            "dimensions": {"model": "data.model"},
        },
        METER_CALLS: {
            "event_type": "load.call",
            "aggregation": "sum",
            "value": "data.calls",
            "dimensions": run,
        },
    }


def _calls(amount: int) -> dict[str, Any]:
    return {"feature": FEATURE_CALLS, "amount": str(amount), "every": "month", "limit": "hard"}
