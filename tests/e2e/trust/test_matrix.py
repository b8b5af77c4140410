"""Every route × every kind of key. A route without a row in routes.py fails."""

from __future__ import annotations

import json
import time
from statistics import median
from typing import Any

import httpx
import pytest

from tests.e2e.harness import Service
from tests.e2e.pipelined import Answer, Pipelined, written
from tests.e2e.trust.keys import KeyChain
from tests.e2e.trust.routes import Row, all_rows

ROWS = all_rows()
CLOSED = [row for row in ROWS if not row.open]
ASKED_TIMES = 60
SLOWER_MAX = 3.0  # gross: another path through the stores would be ten times


def ask(keys: KeyChain, row: Row, authorization: str | None, named: str = "acme") -> httpx.Response:
    """The row's request, about ``named``."""
    body = row.body(named) if row.has_body else None
    return keys.ask(row.method, row.url(named), authorization, body)


def bearer(key: str) -> str:
    """The header of a key."""
    return f"Bearer {key}"


def refused(answer: httpx.Response) -> tuple[int, dict[str, Any]]:
    """The status and the problem but for what is the request's own."""
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert problem.pop("instance") == answer.headers["x-request-id"]
    return answer.status_code, problem


def test_no_route_is_forgotten(service: Service) -> None:
    """The table is the OpenAPI document, and that names what the gateways answer themselves."""
    from api.opening import ROUTES

    paths = service.get("/openapi.json")["paths"]
    documented = {f"{method.upper()} {path}" for path, item in paths.items() for method in item}
    assert {row.name for row in ROWS} == documented
    assert {f"{method} {path}" for method, path in ROUTES} <= documented


@pytest.mark.parametrize("row", CLOSED, ids=lambda row: row.name)
def test_what_opens_nothing(keys: KeyChain, row: Row) -> None:
    """No key and no live key: 401, and nothing tells one dead key from another."""
    missing = [refused(ask(keys, row, header)) for header in (None, "Bearer a b", "Basic eA==")]
    dead = {why: refused(ask(keys, row, bearer(key))) for why, key in keys.dead.items()}
    assert [(status, problem["code"]) for status, problem in (*missing, *dead.values())] == [
        (401, "unauthenticated")
    ] * (3 + len(dead))
    assert all(problem == missing[0] for problem in missing)
    assert all(problem == dead["unknown"] for problem in dead.values())


@pytest.mark.parametrize("row", CLOSED, ids=lambda row: row.name)
def test_scopes(keys: KeyChain, row: Row) -> None:
    """Each scope that is named passes the door, no other one does; admin always."""
    for scope, key in keys.scoped.items():
        answer = ask(keys, row, bearer(key), named="nothing-by-this-name")
        if scope in row.scopes or scope == "admin":
            assert answer.status_code not in {401, 403}, (scope, answer.text)
            assert answer.status_code < 500, (scope, answer.text)
        else:
            status, problem = refused(answer)
            assert (status, problem["code"]) == (403, "forbidden"), scope


@pytest.mark.parametrize("row", CLOSED, ids=lambda row: row.name)
def test_limited_keys(keys: KeyChain, row: Row) -> None:
    """They pass where the route names what is theirs; else one 403, whether it exists or not."""
    for kind, key, mine, theirs in (
        ("customer", keys.of_customer, "acme", ("other", "missing")),
        ("source", keys.of_source, "tests", ("other", "missing")),
    ):
        may = bool(row.scopes & set(keys_scopes(kind)))
        answers = [refused(ask(keys, row, bearer(key), named=name)) for name in theirs]
        assert [status for status, _ in answers] == [403, 403]
        assert answers[0] == answers[1]
        passed = ask(keys, row, bearer(key), named=mine)
        if may and row.limited.startswith(kind):
            assert passed.status_code not in {401, 403}, passed.text
        else:
            assert refused(passed)[0] == 403


def keys_scopes(kind: str) -> list[str]:
    """What limited keys of a kind have."""
    return ["entitlements", "finance", "read"] if kind == "customer" else ["ingest", "read"]


@pytest.mark.parametrize(
    "target",
    [
        "/v1/customers/acme%2F..%2Fother/grants",
        "/v1/customers/acme/../other/grants",
        "/v1/customers/other/grants?customer=acme",
        "/v1/customers/acme%2Fgrants",
        "/v1/customers//grants",
        "/v1/totals?period=2026-01",
        "/v1/totals?period=2026-01&customer=acme&customer=other",
        "/v1/totals?period=2026-01&customer=",
        "/v1/invoices?period=2026-01&Customer=acme",
        "/v1/contracts?customer=acme",
        "/v1/customers",
        "/openapi.json/x",
        "/internal/ready",
        "/v1/customers/acme/grants/../../other/grants",
        "/v1/customers/acme/grants/./../../other",
        "/v1/customers/acme/grants/../../../customers",
        "/v1/customers/acme/grants/..%2F..%2Fother",
        "/v1/customers/acme/grants/%2e%2e/%2e%2e/other/grants",
        "/v1/customers/acme/entitlements/../../../contracts",
        "/v1/customers/acme/current/../../../../internal/metrics",
        "/v1/customers/acme/grants/..\\..\\other",
        "http://x/v1/customers",
    ],
)
def test_no_way_around_a_limit(service: Service, keys: KeyChain, target: str) -> None:
    """Tricks with the path and the query end at the same door."""
    told = by_hand(service, "GET", target, keys.of_customer)
    assert told.status in {403, 404}, told
    assert b"Other" not in told.body


@pytest.mark.parametrize(
    ("scope", "method", "target"),
    [
        ("entitlements", "POST", "/v1/entitlements/../catalog"),
        ("entitlements", "POST", "/v1/customers/acme/entitlements/../../../keys"),
        ("read", "GET", "/v1/events/../keys"),
        ("read", "GET", "/v1/events/../audit"),
        ("read", "GET", "/v1/events/../../internal/metrics"),
        ("finance", "POST", "/v1/invoices/../admin/rebuild"),
        ("catalog", "PUT", "/v1/customers/../keys/x"),
    ],
)
def test_no_way_around_a_scope(
    service: Service, keys: KeyChain, scope: str, method: str, target: str
) -> None:
    """What is admitted under one path is not answered under another."""
    told = by_hand(service, method, target, keys.scoped[scope])
    assert told.status in {403, 404, 405}, told
    assert json.loads(told.body)["code"] in {"forbidden", "not_found", "method_not_allowed"}


@pytest.mark.parametrize("target", ["*", "*/v1/keys", "http://x", "/?", "//", "/%00"])
def test_odd_targets_are_refused(service: Service, target: str) -> None:
    """What is no path of ours is a 4xx, to an administrator too."""
    for method in ("OPTIONS", "GET", "POST"):
        told = by_hand(service, method, target, service.key)
        assert 400 <= told.status < 500, (method, told)
        assert b'"code"' in told.body


def by_hand(service: Service, method: str, target: str, key: str) -> Answer:
    """The answer to a target as it is: HTTP clients tidy them up."""
    request = written(method, target, {"authorization": bearer(key)}, b"")
    connection = Pipelined(service.url.removeprefix("http://"))
    try:
        return connection.ask([request])[0]
    finally:
        connection.close()


def test_a_mixed_body_keeps_nothing(service: Service, keys: KeyChain) -> None:
    """One event of another source refuses all of them; checks likewise answer nothing."""
    [mine] = Row.body(next(r for r in ROWS if r.name == "POST /v1/events"), "tests")  # type: ignore[misc]
    theirs = mine | {"source": "other", "id": "mixed"}
    mixed = [mine | {"id": "mixed-mine"}, theirs]
    answer = keys.ask("POST", "/v1/events", bearer(keys.of_source), mixed)
    assert refused(answer)[0] == 403
    single = keys.ask("POST", "/v1/events", bearer(keys.of_source), theirs)
    assert refused(single)[0] == 403
    dry = service.post("/v1/events", mixed, dry_run=True)
    assert (dry["accepted"], dry["duplicates"]) == (2, 0)
    checks = [{"customer": name, "items": [{"feature": "tokens"}]} for name in ("acme", "other")]
    asked = keys.ask("POST", "/v1/entitlements/check", bearer(keys.of_customer), {"checks": checks})
    assert refused(asked)[0] == 403


def test_time_tells_nothing(keys: KeyChain) -> None:
    """To a key limited to others an existing customer takes as long as a missing one."""
    url = "/v1/customers/{}/entitlements"
    spent: dict[str, list[float]] = {"other": [], "missing": []}
    for _ in range(ASKED_TIMES):
        for name, seconds in spent.items():
            began = time.perf_counter()
            keys.ask("GET", url.format(name), bearer(keys.of_customer), None)
            seconds.append(time.perf_counter() - began)
    typical = sorted(median(seconds) for seconds in spent.values())
    assert typical[1] < SLOWER_MAX * typical[0], typical
