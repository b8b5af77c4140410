"""A seller whose customers are those of the events: what the readers work against."""

from __future__ import annotations

from typing import Any

from bench.load.events import CATALOG

CUSTOMERS_SERVED = 1_000
"""The most frequent subjects are customers with a contract; the others are nobody's."""


def business(*extra: str, customers: int = CUSTOMERS_SERVED) -> dict[str, Any]:
    """The meters, and a customer with a contract and an entitlement for each of many subjects.

    ``extra`` names further customers.
    """
    names = [*(f"cust-{number}" for number in range(customers)), *extra]
    return {
        **CATALOG,
        "features": {"tokens": {"kind": "metered", "meter": "tokens"}},
        "products": {"tokens": {"name": "Tokens", "meter": "tokens"}},
        "pricebooks": {
            "standard": {
                "currency": "USD",
                "invoicing": {"timing": "arrears", "every_months": 1, "anchor": "calendar"},
                "prices": [
                    {
                        "product": "tokens",
                        "charge": {"model": "per_unit", "unit_price": "0.000002"},
                    }
                ],
                "entitlements": [
                    {
                        "feature": "tokens",
                        "amount": "1000000000000",
                        "every": "month",
                        "limit": "hard",
                    }
                ],
            }
        },
        "customers": {name: {"name": name, "subjects": [name]} for name in names},
        "contracts": {
            f"contract-{name}": {
                "customer": name,
                "pricebook": "standard",
                "start": "2020-01-01",
            }
            for name in names
        },
    }
