"""Hostile parameters, paths, methods, keys and HTTP."""

from __future__ import annotations

import socket

import httpx
import pytest

from tests.e2e.bad_input.world import (
    assert_problem,
    kept,
)
from tests.e2e.harness import Service, wait_for

LISTS = [
    "/v1/meters",
    "/v1/contracts",
    "/v1/customers/acme/entitlements",
    "/v1/events",
    "/v1/events/unmatched",
    "/v1/events/conflicts",
    "/v1/keys",
    "/v1/meters/tokens/usage",
    "/v1/totals?period=2026-03",
    "/v1/invoices?period=2026-03",
    "/v1/pricebooks/list/versions",
]


@pytest.mark.parametrize("path", LISTS)
def test_lists_check_their_parameters(service: Service, path: str) -> None:
    """Limits, cursors and names of parameters are checked on every list."""
    path += "&" if "?" in path else "?"
    for query in ("limit=0", "limit=1001", "limit=x", "limit=-1", "limit=1e2", "limit=1&limit=2",
                  "limit=1.0", "limit=1_0", "limit=%2B1", "limit=%201"):  # fmt: skip
        assert_problem(service.client.get(path + query), 422, "invalid_request")
    for cursor in ("x", "%2F%2F%2F", "_w", "%00", "a" * 3000):
        assert_problem(service.client.get(f"{path}cursor={cursor}"), 422, "invalid_request")
    unknown = service.client.get(f"{path}colour=red")
    assert_problem(unknown, 422, "unknown_parameter")
    assert unknown.json()["errors"][0]["pointer"] == "?colour"


@pytest.mark.parametrize("text", ["1", "0", "on", "yes", "TRUE", ""])
def test_flags_are_true_or_false(service: Service, text: str) -> None:
    """And nothing that a program may take for it."""
    answer = service.client.get(f"/v1/totals?period=2026-03&zeros={text}")
    assert_problem(answer, 422, "invalid_request")


INSTANTS = [
    ("/v1/totals?period=2026-03&as_of=", 422),
    ("/v1/totals/x~20260101~1/explain?as_of=", 422),
    ("/v1/meters?as_of=", 422),
    ("/v1/meters/tokens/usage?as_of=", 422),
    ("/v1/meters/tokens/usage?from=", 422),
    ("/v1/events?from=", 422),
    ("/v1/events/unmatched?to=", 422),
]


@pytest.mark.parametrize(("path", "status"), INSTANTS)
def test_instants_are_rfc_3339(service: Service, path: str, status: int) -> None:
    """No offset, no time, a number or a moment outside of the calendar: 422, never a guess."""
    for text in ("x", "", "2026-03-01", "2026-03-01T00:00:00", "1773576000", "2026-02-30T00:00:00Z",
                 "0001-01-01T00:00:00%2B14:00", "9999-12-31T23:59:59-14:00"):  # fmt: skip
        answer = service.client.get(path + text)
        assert_problem(answer, status, "invalid_request")


@pytest.mark.parametrize(
    "period",
    ["", "x", "2026-13", "2026-00", "26-01", "2026-Q0", "2026-Q5", "2026-02-29", "2026-3",
     "2026-03%20", "0000", "2026-03&period=2026-04"],
)  # fmt: skip
def test_bad_periods(service: Service, period: str) -> None:
    """A period is one of four forms and exists; two of them are not one."""
    for path in ("/v1/totals", "/v1/invoices"):
        assert_problem(service.client.get(f"{path}?period={period}"), 422, "invalid_request")


def test_totals_of_what_does_not_exist(service: Service) -> None:
    """A wrong name is 404, also the empty one: it never means everybody."""
    for path in ("/v1/totals", "/v1/invoices"):
        for name in ("customer=nobody", "contract=nothing", "customer=", "contract="):
            answer = service.client.get(f"{path}?period=2026-03&{name}")
            assert_problem(answer, 404, "not_found")
    future = service.client.get("/v1/totals?period=2026-03&as_of=2026-03-16T00:00:00Z")
    assert_problem(future, 422, "as_of_in_future")
    html = service.client.get("/v1/totals?period=2026-03", headers={"accept": "text/html"})
    assert_problem(html, 406, "not_acceptable")


IDS = ["nope", "a%2Fb", "%00", "%C3%A9", "a%20b", "x" * 5_000, "%ff", "%2e%2e",
       "a%0d%0ax-injected:1", "';--", "%25"]  # fmt: skip


@pytest.mark.parametrize("name", IDS)
def test_strange_ids_are_not_found(service: Service, name: str) -> None:
    """Whatever is asked for by a strange name is not there; no header comes out of it."""
    for path in ("/v1/customers/{}", "/v1/meters/{}/versions", "/v1/meters/{}/usage",
                 "/v1/events/tests/{}", "/v1/totals/{}/explain", "/v1/totals/{}/events",
                 "/v1/customers/{}/entitlements", "/v1/customers/acme/entitlements/{}",
                 "/v1/keys/{}"):  # fmt: skip
        answer = service.client.get(path.format(name))
        assert_problem(answer, 404, "not_found")
        assert "x-injected" not in answer.headers


METHODS = [
    ("POST", "/healthz", {"GET"}),
    ("DELETE", "/v1/events", {"GET", "POST"}),
    ("PUT", "/v1/events/void", {"POST"}),
    ("GET", "/v1/entitlements/check", {"POST"}),
    ("PATCH", "/v1/meters/tokens", {"DELETE", "GET", "PUT"}),
    ("DELETE", "/v1/meters", {"GET"}),
    ("POST", "/v1/totals", {"GET"}),
    ("PUT", "/v1/catalog", {"POST"}),
]


@pytest.mark.parametrize(("method", "path", "allowed"), METHODS)
def test_wrong_methods_name_the_right_ones(
    service: Service, method: str, path: str, allowed: set[str]
) -> None:
    """405 with ``Allow``, whichever process answers."""
    answer = service.client.request(method, path)
    assert_problem(answer, 405, "method_not_allowed")
    assert set(answer.headers["allow"].split(", ")) == allowed


@pytest.mark.parametrize("path", ["/", "/v1", "/v1/nothing", "/v1/meters/", "//v1/meters",
                                  "/internal/ready", "/internal/metrics", "/docs"])  # fmt: skip
def test_unknown_paths(service: Service, path: str) -> None:
    """What is not there, or not for outsiders, is 404."""
    assert_problem(service.client.get(path), 404, "not_found")


def test_who_may_ask_what(service: Service) -> None:
    """No key, a wrong one, one without the scope, one that was revoked."""
    made = service.post("/v1/keys", {"name": "ingest", "scopes": ["ingest"]})
    mine = {"authorization": f"Bearer {made['key']}"}
    asked = [
        ("GET", "/v1/meters"), ("PUT", "/v1/meters/x"), ("POST", "/v1/catalog"),
        ("GET", "/v1/totals?period=2026"), ("GET", "/v1/invoices?period=2026"),
        ("GET", "/v1/events"), ("POST", "/v1/entitlements/check"), ("GET", "/v1/keys"),
        ("POST", "/v1/admin/verify"), ("POST", "/v1/admin/clock"), ("GET", "/v1/nothing"),
    ]  # fmt: skip
    with httpx.Client(base_url=service.url) as anybody:
        for method, path in [*asked, ("POST", "/v1/events")]:
            for headers in ({}, {"authorization": "Basic abc"}, {"authorization": "Bearer no"},
                            {"authorization": "Bearer " + "x" * 5_000},
                            {"x-tallyman-scopes": "admin", "x-tallyman-key-id": "x"}):  # fmt: skip
                answer = anybody.request(method, path, headers=headers)
                assert_problem(answer, 401, "unauthenticated")
                assert answer.headers["www-authenticate"] == "Bearer"
        for method, path in asked:
            answer = anybody.request(method, path, headers=mine)
            assert_problem(answer, 403, "forbidden")
        assert anybody.post("/v1/events", json=[], headers=mine).status_code == 200
        assert service.client.delete(f"/v1/keys/{made['id']}").status_code == 204
        assert_problem(anybody.post("/v1/events", json=[], headers=mine), 401, "unauthenticated")


def raw(service: Service, request: bytes) -> bytes:
    """What the service answers to these bytes."""
    host, _, port = service.url.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        connection.sendall(request)
        answer = b""
        while b"}" not in answer and (part := connection.recv(65_536)):
            answer += part
    return answer


def head(service: Service, line: bytes, *headers: bytes) -> bytes:
    """A request's head with the key."""
    key = b"authorization: Bearer " + service.key.encode()
    return b"\r\n".join([line, b"host: x", key, b"content-type: application/json", *headers]) + (
        b"\r\n\r\n"
    )


def test_lies_about_lengths_and_oversized_heads(service: Service) -> None:
    """Wrong lengths and heads over 16 KiB are refused at once, before a body is waited for."""
    post, put = b"POST /v1/events HTTP/1.1", b"PUT /v1/meters/m HTTP/1.1"
    cases = [
        (head(service, post, b"content-length: 1000000000") + b"[]", 413),
        (head(service, put, b"content-length: 1000000000") + b"{}", 413),
        (head(service, post, b"content-length: -5"), 400),
        (head(service, post, b"content-length: 2", b"content-length: 3") + b"[] ", 400),
        (head(service, post, b"content-length: 2", b"transfer-encoding: chunked") + b"[]", 400),
        (head(service, post, b"transfer-encoding: chunked") + b"zz\r\n[]\r\n", 400),
        (head(service, post, b"content-length: 99999999999999999999") + b"[]", 400),
        (head(service, b"GET /healthz HTTP/1.1", b"x-long: " + b"a" * 17_000), 431),
        (head(service, b"GET /healthz?" + b"a" * 17_000 + b" HTTP/1.1"), 431),
        (b"\x16\x03\x01\x00garbage\r\n\r\n", 400),
        (head(service, b"GET /v1/\x00 HTTP/1.1"), 400),
    ]
    for request, status in cases:
        answer = raw(service, request)
        assert answer.startswith(b"HTTP/1.1 %d " % status), (request[:300], answer[:300])
        assert b"application/problem+json" in answer
    assert service.client.get("/readyz").status_code == 200


def test_request_ids_are_not_echoed_blindly(service: Service) -> None:
    """A sane id comes back; anything else is replaced."""
    for given, echoed in (("abc-1", True), ("a b", False), ("<script>", False), ("x" * 65, False)):
        answer = service.client.get("/v1/nothing", headers={"x-request-id": given})
        assert (answer.headers["x-request-id"] == given) == echoed
        assert answer.json()["instance"] == answer.headers["x-request-id"]


def test_nothing_hostile_was_kept(service: Service) -> None:
    """After all of it: no event, the catalog as it was, and every store agrees with the log."""
    assert kept(service) == []
    path = "/v1/customers/acme/entitlements/tokens"
    wait_for(lambda: service.client.get(path).status_code == 200, what="balance", within_s=10)
    balance = service.get(path)
    assert (balance["used"], balance["held"]) == ("0", "0")
    assert [each["id"] for each in service.get("/v1/products")["items"]] == ["fee", "tokens"]
    report = service.post("/v1/admin/verify", None)
    assert report["ok"] is True, report
