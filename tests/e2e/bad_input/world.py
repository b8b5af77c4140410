"""What hostile input is made of, and what every problem looks like."""

from __future__ import annotations

import io
import json

import httpx
import pyarrow as pa
import pyarrow.parquet as pq

from tests.e2e.harness import Service

ARROW = "application/vnd.apache.arrow.stream"
PARQUET = "application/vnd.apache.parquet"
NDJSON = "application/x-ndjson"
JSON = "application/json"
NOW = "2026-03-15T12:00:00Z"
PROBLEM_MEMBERS = {"type", "title", "status", "code", "detail", "instance"}
CATALOG = {
    "meters": {
        "tokens": {
            "event_type": "tokens",
            "aggregation": "sum",
            "value": "data.n",
            "dimensions": {"model": "data.model"},
        }
    },
    "features": {
        "tokens": {"kind": "metered", "meter": "tokens"},
        "sso": {"kind": "boolean"},
    },
    "products": {"tokens": {"name": "Tokens", "meter": "tokens"}, "fee": {"name": "Fee"}},
    "pricebooks": {
        "list": {
            "currency": "USD",
            "invoicing": {"timing": "arrears", "every_months": 1},
            "prices": [
                {"product": "tokens", "charge": {"model": "per_unit", "unit_price": "0.01"}},
                {"product": "fee", "charge": {"model": "flat", "amount": "5"}},
            ],
            "entitlements": [
                {"feature": "tokens", "amount": "100", "limit": "hard"},
                {"feature": "sso", "value": True},
            ],
        }
    },
    "customers": {"acme": {"name": "Acme", "subjects": ["acme-1"]}},
    "contracts": {"acme": {"customer": "acme", "pricebook": "list", "start": "2026-01-01"}},
}


def hostile(name: str, **changes: object) -> dict[str, object]:
    """An event that must never be kept; what is None is left out."""
    event: dict[str, object] = {
        "specversion": "1.0",
        "id": name,
        "source": "tests",
        "type": "tokens",
        "subject": "hostile",
        "data": {"n": 1},
    }
    return {key: value for key, value in (event | changes).items() if value is not None}


def assert_problem(answer: httpx.Response, status: int, code: str) -> None:
    """It is RFC 9457 with this status and code, and explains itself."""
    shown = answer.text[:300]
    assert answer.status_code == status, shown
    assert answer.headers["content-type"] == "application/problem+json", shown
    problem = answer.json()
    assert problem.keys() >= PROBLEM_MEMBERS, shown
    assert (problem["status"], problem["code"]) == (status, code), shown
    assert problem["type"] == f"/problems/{code}", shown
    assert len(problem["detail"]) > 3, shown


def post_events(service: Service, content: bytes, **headers: str) -> httpx.Response:
    """POST /v1/events with these bytes."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return service.client.post("/v1/events", content=content, headers=named)


def kept(service: Service) -> list[str]:
    """The ids of the hostile events that were kept. The last test asks for all of them."""
    found = service.get("/v1/events", subject="hostile", limit=1000)["items"]
    return [event["id"] for event in found]


def as_json(*events: dict[str, object]) -> bytes:
    """A JSON array."""
    return json.dumps(events).encode()


def arrow(table: pa.Table) -> bytes:
    """An Arrow stream."""
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue()


def parquet(table: pa.Table) -> bytes:
    """A Parquet file."""
    sink = io.BytesIO()
    pq.write_table(table, sink)
    return sink.getvalue()


def columns(count: int, **more: object) -> pa.Table:
    """``count`` hostile events as columns."""
    given: dict[str, object] = {
        "id": [f"column-{index}" for index in range(count)],
        "source": ["tests"] * count,
        "type": ["tokens"] * count,
        "subject": ["hostile"] * count,
    }
    return pa.table(given | more)


JSON_ROUTES = [
    ("POST", "/v1/catalog"),
    ("PUT", "/v1/customers/other"),
    ("POST", "/v1/keys"),
    ("POST", "/v1/admin/clock"),
    ("POST", "/v1/admin/rebuild"),
    ("POST", "/v1/entitlements/check"),
    ("POST", "/v1/customers/acme/entitlements/consume"),
]
