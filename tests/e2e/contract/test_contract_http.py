"""Section 13: health, and the OpenAPI document."""

from __future__ import annotations

import json
import re
from typing import Any

from tests.e2e.contract.world import (
    CATALOG,
)
from tests.e2e.harness import Service


def test_health_and_metrics(service: Service) -> None:
    """They need no key; all say it is a sandbox."""
    for path in ("/healthz", "/readyz", "/metrics", "/openapi.json"):
        answer = service.client.get(path, headers={"authorization": ""})
        assert answer.status_code == 200, path
        assert answer.headers["tallyman-sandbox"] == "true"
    assert service.get("/readyz")["not_ready"] == {}
    assert service.client.head("/healthz").status_code == 200


ROUTES = {
    "/v1/events": {"get", "post"},
    "/v1/events/void": {"post"},
    "/v1/events/unmatched": {"get"},
    "/v1/events/conflicts": {"get"},
    "/v1/meters/{}/usage": {"get"},
    **{f"/v1/{kind}": {"get"} for kind in CATALOG},
    **{f"/v1/{kind}/{{}}": {"get", "put", "delete"} for kind in CATALOG},
    **{f"/v1/{kind}/{{}}/versions": {"get"} for kind in CATALOG},
    "/v1/totals": {"get"},
    "/v1/totals/{}/explain": {"get"},
    "/v1/totals/{}/events": {"get"},
    "/v1/customers/{}/entitlements": {"get"},
    "/v1/customers/{}/entitlements/{}": {"get"},
    "/v1/customers/{}/entitlements/consume": {"post"},
    "/v1/entitlements/check": {"post"},
    "/v1/invoices": {"get"},
    "/v1/invoices/{}": {"get"},
    "/v1/invoices/{}/issue": {"post"},
    "/v1/invoices/{}/void": {"post"},
    "/v1/periods/{}": {"get"},
    "/v1/periods/{}/close": {"post"},
    "/v1/customers/{}/current": {"get"},
    "/v1/keys": {"get", "post"},
    "/v1/admin/verify": {"post"},
    "/v1/admin/rebuild": {"post"},
    "/v1/admin/clock": {"post"},
    "/healthz": {"get"},
    "/readyz": {"get"},
    "/metrics": {"get"},
}


def test_openapi_is_whole(service: Service) -> None:
    """It names the design's routes; references resolve, parameters fit, operations are unique."""
    document = service.get("/openapi.json")
    text = json.dumps(document)
    paths = {re.sub(r"\{[^}]*\}", "{}", path): item for path, item in document["paths"].items()}
    for path, methods in ROUTES.items():
        assert paths.get(path, {}).keys() >= methods, path
    for reference in set(re.findall(r'"\$ref": "#/([^"]+)"', text)):
        held: Any = document
        for step in reference.split("/"):
            held = held[step]
    names = []
    for path, item in document["paths"].items():
        for operation in item.values():
            names.append(operation["operationId"])
            declared = {each["name"] for each in operation.get("parameters", ())
                        if each["in"] == "path"}  # fmt: skip
            assert declared == {each.partition(":")[0] for each in re.findall(r"\{([^}]*)\}", path)}
    assert len(set(names)) == len(names)


def test_every_documented_route_is_there(service: Service) -> None:
    """Nothing in OpenAPI is an unknown path or a wrong method."""
    for path, item in service.get("/openapi.json")["paths"].items():
        for method in item:
            if path == "/v1/admin/rebuild" and method == "post":
                continue
            name = re.sub(r"\{[^}]*\}", "x-y", path)
            answer = service.client.request(method.upper(), name)
            problem = answer.json() if answer.status_code >= 400 else {}
            assert problem.get("detail") != "Not found", (method, path)
            assert answer.status_code not in {405, 500, 501}, (method, path, answer.text)
