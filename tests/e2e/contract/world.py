"""The catalog and the usage that the contract is checked with."""

from __future__ import annotations

from typing import Any

from tests.e2e.harness import Service

NOW = "2026-03-15T12:00:00Z"
MONTHLY = {"timing": "arrears", "every_months": 1}
TIERS = [{"up_to": "100", "unit_price": "0.1"}, {"unit_price": "0.05"}]
BOOK: dict[str, Any] = {
    "currency": "USD",
    "invoicing": MONTHLY,
    "prices": [
        {"product": "calls", "charge": {"model": "per_unit", "unit_price": "0.005"}},
        {
            "product": "tokens",
            "group_by": ["model"],
            "charge": {"model": "graduated", "tiers": TIERS},
        },
        {"product": "peak", "charge": {"model": "per_unit", "unit_price": "1"}},
        {
            "product": "fee",
            "invoicing": {"timing": "advance", "every_months": 1},
            "charge": {"model": "flat", "amount": "20"},
        },
        {
            "product": "setup",
            "invoicing": {"timing": "once"},
            "charge": {"model": "flat", "amount": "99"},
        },
    ],
    "entitlements": [
        {"feature": "tokens", "amount": "1000", "every": "month", "limit": "hard"},
        {"feature": "calls", "amount": "3", "every": "month", "limit": "soft"},
        {"feature": "sso", "value": True},
        {"feature": "plan", "value": "gold"},
    ],
}
CATALOG: dict[str, Any] = {
    "meters": {
        "calls": {"event_type": "call", "aggregation": "count"},
        "tokens": {
            "event_type": ["completion", "embedding"],
            "aggregation": "sum",
            "value": "data.n",
            "dimensions": {"model": "data.model"},
        },
        "peak": {"event_type": "completion", "aggregation": "max", "value": "data.n"},
        "idle": {"event_type": "idle", "aggregation": "count"},
    },
    "features": {
        "tokens": {"kind": "metered", "meter": "tokens"},
        "calls": {"kind": "metered", "meter": "calls"},
        "peak": {"kind": "metered", "meter": "peak"},
        "sso": {"kind": "boolean"},
        "plan": {"kind": "static"},
    },
    "products": {
        "calls": {"name": "Calls", "meter": "calls"},
        "tokens": {"name": "Tokens", "meter": "tokens"},
        "peak": {"name": "Peak", "meter": "peak"},
        "fee": {"name": "Platform"},
        "setup": {"name": "Setup"},
        "idle": {"name": "Idle", "meter": "idle"},
    },
    "pricebooks": {"list": BOOK},
    "customers": {
        "acme": {"name": "Acme", "subjects": ["acme-1", "acme-2"]},
        "beta": {"name": "Beta", "subjects": ["beta-1"]},
        "cafe": {"name": "Café", "subjects": ["cafe-1"]},
        "dora": {"name": "Dora has no contract", "subjects": ["dora-1"]},
    },
    "contracts": {
        # 15 January to 15 February, as in the design's example of an accounting date
        "acme": {
            "customer": "acme",
            "pricebook": "list",
            "start": "2026-01-15",
            "timezone": "Europe/Berlin",
        },
        "beta": {"customer": "beta", "pricebook": "list", "start": "2026-01-01"},
        "cafe": {"customer": "cafe", "pricebook": "list", "start": "2026-03-01"},
    },
}
SUBJECTS = ("acme-1", "acme-2", "beta-1")
ROW = {
    "line_id", "customer", "contract", "product", "meter", "dimensions", "timing", "period_start",
    "period_end", "currency", "quantity", "amount", "kind", "status", "adjusts", "cause",
    "event_count", "price_version",
}  # fmt: skip


def event(name: str, **changes: object) -> dict[str, object]:
    """An event; what is None is left out."""
    made: dict[str, object] = {
        "specversion": "1.0",
        "id": name,
        "source": "tests",
        "type": "completion",
        "subject": "acme-1",
        "data": {"n": 1},
    }
    return {key: value for key, value in (made | changes).items() if value is not None}


def usage() -> list[dict[str, object]]:
    """A quarter's usage, in two models, with fractions."""
    return [
        event(
            f"u{index}",
            type=("call", "completion", "embedding")[index % 3],
            subject=SUBJECTS[(index // 3) % 3],
            time=f"2026-{1 + index % 3:02d}-{1 + index * 7 % 14:02d}T{index % 24:02d}:00:00Z",
            data={
                "n": f"{index}.{index % 7}" if index % 5 else index,
                "model": "gpt" if index % 2 else "claude",
            },
        )
        for index in range(300)
    ]


def totals(service: Service, **params: str | int | bool) -> dict[str, Any]:
    """All lines of the year so far, unless asked otherwise."""
    usual: dict[str, str | int | bool] = {"period": "2026", "limit": 1000}
    answer = service.get("/v1/totals", **(usual | params))
    assert isinstance(answer, dict)
    return answer


def pages(service: Service, path: str, **params: str | int) -> list[dict[str, Any]]:
    """Every item of a list, page by page."""
    items: list[dict[str, Any]] = []
    while True:
        page = service.get(path, **params)
        assert page.keys() >= {"items", "next_cursor"}
        items += page["items"]
        if page["next_cursor"] is None:
            return items
        params["cursor"] = page["next_cursor"]


def put(service: Service, path: str, body: object, *, status: int = 200) -> dict[str, Any]:
    """PUT that must answer ``status``."""
    answer = service.client.put(path, json=body)
    assert answer.status_code == status, answer.text
    return dict(answer.json())
