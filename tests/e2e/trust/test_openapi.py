"""The OpenAPI document reads like documentation, and every example on it is true."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import jsonschema_rs
import pytest
from prometheus_client.parser import text_string_to_metric_families

from api.documenting.overlay import operations
from tests.docs.metrics_page import described
from tests.e2e.harness import Service

WORDS_MIN = 4


@pytest.fixture(scope="module")
def document(fresh: Service) -> dict[str, Any]:
    """What it says of itself."""
    found: dict[str, Any] = fresh.get("/openapi.json")
    return found


def each_operation(document: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every operation by ``METHOD path``."""
    for path, item in document["paths"].items():
        for method, operation in item.items():
            yield f"{method.upper()} {path}", operation


def test_every_operation_is_described(document: dict[str, Any]) -> None:
    """The overlay has each of them and no other; each has words and says how it refuses."""
    found = dict(each_operation(document))
    assert set(found) == set(operations())
    for name, operation in found.items():
        assert operation["tags"], name
        assert 1 < len(operation["summary"]) < 80, name
        assert not operation["summary"].endswith("."), name
        assert len(operation["description"].split()) >= WORDS_MIN, name
        assert operation["operationId"], name
        refusals = [status for status in operation["responses"] if status[0] in "45"]
        assert {"401", "403", "422"} <= set(refusals) or operation["security"] == [], name
        assert all(re.search(r"`\w+`", operation["responses"][s]["description"]) for s in refusals)
    ids = [operation["operationId"] for operation in found.values()]
    assert len(set(ids)) == len(ids)


def test_every_example_is_valid(document: dict[str, Any]) -> None:
    """Against its own schema; what must be given has an example."""
    for name, operation in each_operation(document):
        for parameter in operation.get("parameters", ()):
            if parameter.get("required"):
                assert "example" in parameter, f"{name}: {parameter['name']}"
            if "example" in parameter:
                check(document, parameter["schema"], parameter["example"], name)
        body = operation.get("requestBody", {}).get("content", {}).get("application/json")
        if body is not None:
            assert body["example"], name
            check(document, body["schema"], body["example"], name)


def check(document: dict[str, Any], schema: Any, example: Any, name: str) -> None:
    """``example`` is what ``schema`` allows."""
    whole = {"components": document["components"], "allOf": [schema]}
    errors = [error.message for error in jsonschema_rs.validator_for(whole).iter_errors(example)]
    assert errors == [], name


def test_every_example_succeeds(fresh: Service, document: dict[str, Any]) -> None:
    """Sent in the order of operations.yaml; what the service makes up is filled in."""
    found = dict(each_operation(document))
    wrong = []
    for name in operations():
        method, template = name.split(" ")
        operation = found[name]
        path, query = given(operation, "path"), given(operation, "query")
        body = operation.get("requestBody", {}).get("content", {}).get("application/json", {})
        sent = body.get("example")
        for live, make in LIVE.items():
            if live in path:
                path[live] = make(fresh)
            if isinstance(sent, dict) and live in sent:
                sent = sent | {live: make(fresh)}
        answer = fresh.client.request(method, template.format(**path), params=query, json=sent)
        expected = {int(status) for status in operation["responses"] if status[0] == "2"}
        if answer.status_code not in expected:
            wrong.append(f"{name}: {answer.status_code}, not {expected}: {answer.text[:300]}")
    assert wrong == []


def test_every_metric_is_served(fresh: Service) -> None:
    """What docs/metrics.md lists is what a scrape finds, and the examples were counted."""
    values: dict[str, dict[tuple[str, ...], float]] = {}
    for family in text_string_to_metric_families(fresh.client.get("/metrics").text):
        for sample in family.samples:
            labels = {k: v for k, v in sample.labels.items() if k not in {"process", "le"}}
            mine = values.setdefault(sample.name, {})
            key = tuple(labels.values())
            mine[key] = mine.get(key, 0) + sample.value
    for each in described():
        name = each.name + ("_count" if each.type == "histogram" else "")
        assert name in values or each.name in NOT_YET, name
    assert values["tallyman_events_total"]["accepted",] == 2
    assert values["tallyman_decisions_total"]["consume", "allowed"] == 1
    assert values["tallyman_log_fsync_seconds_count"][()] > 0


NOT_YET = {
    "tallyman_decision_denials_total",
    "tallyman_events_rejected_total",
    "tallyman_reader_failures_total",
}
"""What has no sample before something went wrong."""


def given(operation: dict[str, Any], place: str) -> dict[str, Any]:
    """The example's parameters in the path or in the query."""
    return {
        parameter["name"]: parameter["example"]
        for parameter in operation.get("parameters", ())
        if parameter["in"] == place and "example" in parameter
    }


def _key(service: Service) -> str:
    made = service.post("/v1/keys", {"name": "a key to look at", "scopes": ["read"]})
    return str(made["id"])


def _line(service: Service) -> str:
    items = service.get("/v1/totals", period="2026-01")["items"]
    return str(next(line["line_id"] for line in items if line["product"] == "tokens"))


def _invoice(service: Service) -> str:
    [invoice] = service.get("/v1/invoices", period="2026-01")["items"]
    return str(invoice["id"])


def _reservation(service: Service) -> str:
    _reservation.count += 1  # type: ignore[attr-defined]
    body = {
        "key": f"held-{_reservation.count}",  # type: ignore[attr-defined]
        "ttl_s": 60,
        "items": [{"feature": "tokens", "amount": "2000"}],
    }
    return str(service.post("/v1/customers/acme/entitlements/reserve", body)["reservation"])


_reservation.count = 0  # type: ignore[attr-defined]
LIVE: dict[str, Callable[[Service], str]] = {
    "key_id": _key,
    "line_id": _line,
    "invoice": _invoice,
    "reservation": _reservation,
}
