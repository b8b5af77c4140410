"""OpenAPI path items of the routes the gateways answer themselves.

The worker's document is made from its routes; these have none there. One row a route, kept next
to the handlers it describes.
"""

from __future__ import annotations

from typing import Any

from api.paging import LIMIT_DEFAULT, LIMIT_MAX

_EVENT_TYPES = (
    "application/json",
    "application/x-ndjson",
    "application/cloudevents+json",
    "application/cloudevents-batch+json",
    "application/vnd.apache.arrow.stream",
    "application/vnd.apache.parquet",
)
_JSON = ("application/json",)

# (method, path, tag, summary, content types of the body, query parameters)
_ROUTES: tuple[tuple[str, str, str, str, tuple[str, ...], tuple[str, ...]], ...] = (
    (
        "post",
        "/v1/events",
        "events",
        "Take CloudEvents; 200 means the accepted ones are durable and counted once",
        _EVENT_TYPES,
        ("atomic", "dry_run"),
    ),
    ("post", "/v1/events/void", "events", "Void events: they stop counting", _JSON, ()),
    (
        "post",
        "/v1/customers/{customer}/entitlements/consume",
        "entitlements",
        "Use all of the items now, or none",
        _JSON,
        (),
    ),
    (
        "post",
        "/v1/customers/{customer}/entitlements/reserve",
        "entitlements",
        "Hold all of the items for a while, or none",
        _JSON,
        (),
    ),
    (
        "post",
        "/v1/customers/{customer}/entitlements/settle",
        "entitlements",
        "Record what was used of a reservation; the rest is free again",
        _JSON,
        (),
    ),
    (
        "post",
        "/v1/customers/{customer}/entitlements/release",
        "entitlements",
        "Nothing of a reservation was used",
        _JSON,
        (),
    ),
    ("post", "/v1/entitlements/check", "entitlements", "What would be allowed now", _JSON, ()),
    (
        "get",
        "/v1/customers/{customer}/entitlements",
        "entitlements",
        "Where a customer stands, by feature",
        (),
        ("limit", "cursor"),
    ),
    (
        "get",
        "/v1/customers/{customer}/entitlements/{feature}",
        "entitlements",
        "Where a customer stands with one feature",
        (),
        (),
    ),
    ("get", "/healthz", "operations", "This process lives", (), ()),
    ("get", "/readyz", "operations", "What is not ready", (), ()),
    ("get", "/metrics", "operations", "Prometheus metrics of all processes", (), ()),
)

SECURITY_SCHEMES = {"key": {"type": "http", "scheme": "bearer"}}
_OPEN = frozenset({"/healthz", "/readyz", "/metrics"})


def hot_paths() -> dict[str, Any]:
    """The path items, by path."""
    paths: dict[str, Any] = {}
    for method, path, tag, summary, types, query in _ROUTES:
        operation: dict[str, Any] = {
            "tags": [tag],
            "summary": summary,
            "operationId": f"{method}_{path.strip('/').replace('/', '_')}",
            "parameters": [*_in_path(path), *map(_in_query, query)],
            "responses": _responses(is_open=path in _OPEN),
            "security": [] if path in _OPEN else [{"key": []}],
        }
        if types:
            content: dict[str, Any] = {kind: {"schema": {}} for kind in types}
            operation["requestBody"] = {"required": True, "content": content}
        paths.setdefault(path, {})[method] = operation
    return paths


def _in_path(path: str) -> list[dict[str, Any]]:
    return [
        {"name": part[1:-1], "in": "path", "required": True, "schema": {"type": "string"}}
        for part in path.split("/")
        if part.startswith("{")
    ]


_QUERY: dict[str, dict[str, Any]] = {
    "limit": {"type": "integer", "minimum": 1, "maximum": LIMIT_MAX, "default": LIMIT_DEFAULT},
    "cursor": {"type": "string"},
}


def _in_query(name: str) -> dict[str, Any]:
    schema = _QUERY.get(name, {"type": "boolean", "default": False})
    return {"name": name, "in": "query", "schema": schema}


def _responses(*, is_open: bool) -> dict[str, Any]:
    problem: dict[str, Any] = {"content": {"application/problem+json": {"schema": {}}}}
    answers: dict[str, Any] = {
        "200": {"description": "Done"},
        "503": {"description": "Not now", **problem},
    }
    if not is_open:
        answers["4XX"] = {"description": "Refused", **problem}
    return answers
