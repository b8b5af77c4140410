"""What is put into a data directory that is kept, and what every later version is asked of it."""

from __future__ import annotations

from typing import Any

from tests.e2e.harness import Service

NOW = "2026-02-20T12:00:00Z"
SERVE = ("--sandbox", "--now", NOW)
SETTINGS = {"log__hot_bytes_max": "65536"}
"""Small hot files: a few bodies make sealed segments, and leave a hot one."""

BODIES, EVENTS = 5, 300
CATALOG: dict[str, Any] = {
    "meters": {
        "tokens": {
            "event_type": "llm",
            "aggregation": "sum",
            "value": "data.tokens",
            "dimensions": {"model": "data.model"},
        },
        "calls": {"event_type": "llm", "aggregation": "count"},
        "seats": {"event_type": "seats", "aggregation": "max", "value": "data.n"},
    },
    "features": {"tokens": {"kind": "metered", "meter": "tokens"}},
    "products": {
        "tokens": {"name": "Tokens", "meter": "tokens"},
        "calls": {"name": "Calls", "meter": "calls"},
        "seats": {"name": "Seats", "meter": "seats"},
        "fee": {"name": "Fee"},
    },
    "pricebooks": {
        "standard": {
            "currency": "USD",
            "invoicing": {"timing": "arrears", "every_months": 1},
            "prices": [
                {
                    "product": "tokens",
                    "group_by": ["model"],
                    "charge": {
                        "model": "graduated",
                        "tiers": [{"up_to": "1000", "unit_price": "0.01"}, {"unit_price": "0.003"}],
                    },
                },
                {
                    "product": "calls",
                    "charge": {"model": "package", "size": "100", "package_price": "0.50"},
                },
                {"product": "seats", "charge": {"model": "per_unit", "unit_price": "7.25"}},
                {"product": "fee", "charge": {"model": "flat", "amount": "99"}},
            ],
            "entitlements": [
                {"feature": "tokens", "amount": "100000", "every": "month", "limit": "hard"}
            ],
        }
    },
    "customers": {name: {"name": name.title(), "subjects": [name]} for name in ("acme", "globex")},
    "contracts": {
        name: {"customer": name, "pricebook": "standard", "start": start}
        for name, start in (("acme", "2026-01-01"), ("globex", "2026-01-15"))
    },
}


def events(body: int) -> list[dict[str, Any]]:
    """One body; the same ones each time."""
    return [
        {
            "id": f"{body}-{number}",
            "source": "upgrade",
            "type": "llm" if number % 10 else "seats",
            "subject": ("acme", "globex")[number % 3 == 0],
            "time": f"2026-{1 + number % 2:02d}-{1 + number % 19:02d}T{body:02d}:00:00Z",
            "data": {
                "tokens": f"{number}.{number:09d}",
                "model": ("small", "large")[number % 2],
                "n": number % 17,
                "padding": f"{body * number:060d}",
            },
        }
        for number in range(EVENTS)
    ]


VOIDED = [{"source": "upgrade", "id": f"{body}-11", "reason": "kept"} for body in range(BODIES)]


def fill(service: Service) -> None:
    """Usage in several segments, a retry, voids and a decision."""
    service.post("/v1/catalog", {"document": CATALOG})
    for body in range(BODIES):
        assert service.post("/v1/events", events(body))["accepted"] == EVENTS
    assert service.post("/v1/events", events(0))["duplicates"] == EVENTS
    assert service.post("/v1/events/void", VOIDED)["voided"] == BODIES
    asked = {"items": [{"feature": "tokens", "amount": "12.5"}], "key": "kept"}
    assert service.post("/v1/customers/acme/entitlements/consume", asked)["allowed"]


def answers(service: Service, *, as_of: str | None = None) -> dict[str, Any]:
    """Every number that must stay: lines of two months, usage, balances."""
    moment = {} if as_of is None else {"as_of": as_of}
    months = {
        period: service.get("/v1/totals", period=period, limit=1000, **moment)
        for period in ("2026-01", "2026-02")
    }
    usage = {
        meter: service.get(f"/v1/meters/{meter}/usage", group_by="customer", **moment)["items"]
        for meter in CATALOG["meters"]
    }
    balances = {
        name: service.get(f"/v1/customers/{name}/entitlements/tokens")
        for name in CATALOG["customers"]
    }
    return {
        "months": months,
        "usage": usage,
        "balances": {
            name: {k: each[k] for k in ("used", "balance")} for name, each in balances.items()
        },
    }
