"""Hostile bodies of the other routes: refused with the field, and nothing is applied."""

from __future__ import annotations

import pytest

from tests.e2e.bad_input.world import (
    CATALOG,
    JSON,
    JSON_ROUTES,
    assert_problem,
)
from tests.e2e.harness import Service

NOT_JSON = {
    "malformed": b'{"name": ',
    "invalid UTF-8": b'{"key": "\xff"}',
    "nested without end": b'{"a":' * 50_000,
    "an endless number": b'{"now": ' + b"9" * 10_000 + b"}",
    "a key twice": b'{"key": "a", "key": "b", "items": [{"feature": "tokens", "amount": "1"}]}',
    "half a surrogate pair": b'{"key": "\\ud800", "name": "\\ud800", "scopes": ["read"]}',
    "a list": b"[]",
    "null": b"null",
    "nothing": b"",
}


@pytest.mark.parametrize("case", NOT_JSON)
@pytest.mark.parametrize(("method", "path"), JSON_ROUTES)
def test_every_json_route_refuses_bad_json(
    service: Service, method: str, path: str, case: str
) -> None:
    """400 where it is not one unambiguous JSON text, 422 where it is another value."""
    before = service.get("/v1/keys")["items"]
    headers = {"content-type": JSON}
    answer = service.client.request(method, path, content=NOT_JSON[case], headers=headers)

    assert answer.status_code in {400, 422}, answer.text
    assert_problem(answer, answer.status_code, answer.json()["code"])
    assert answer.json()["code"] != "bad_request", "the HTTP was fine, the body was not"
    assert service.get("/v1/keys")["items"] == before


@pytest.mark.parametrize(
    "expires_at",
    ["9999-12-31T23:59:59-14:00", "0001-01-01T00:00:00+14:00", "1893456000", "2030-01-01", ""],
)
def test_a_key_that_cannot_be_shown_is_not_kept(service: Service, expires_at: str) -> None:
    """An instant outside of the calendar once made the list of keys unreadable for good."""
    body = {"name": "k", "scopes": ["read"], "expires_at": expires_at}
    assert_problem(service.client.post("/v1/keys", json=body), 422, "invalid_request")
    assert service.client.get("/v1/keys").status_code == 200


@pytest.mark.parametrize(
    "changes", [{"name": ""}, {"name": "a\0b"}, {"name": "x" * 201}, {"scopes": []},
                {"scopes": ["root"]}, {"colour": "red"}],
)  # fmt: skip
def test_a_bad_key_is_not_made(service: Service, changes: dict[str, object]) -> None:
    """Names are one line of text, scopes are known, and there are no other fields."""
    body = {"name": "k", "scopes": ["read"]} | changes
    assert_problem(service.client.post("/v1/keys", json=body), 422, "invalid_request")


PRICE = {"product": "fee", "charge": {"model": "flat", "amount": "1"}}
BOOK = CATALOG["pricebooks"]["list"]  # type: ignore[index]


def book(**changes: object) -> dict[str, object]:
    """A document with a pricebook of one price, changed."""
    return {"pricebooks": {"other": BOOK | {"prices": [PRICE | changes]}}}


def contract(**changes: object) -> dict[str, object]:
    """A document with one contract, changed."""
    stated = {"customer": "acme", "pricebook": "list", "start": "2026-01-01"}
    return {"contracts": {"other": stated | changes}}


BAD_DOCUMENTS: dict[str, tuple[object, str]] = {
    "an unknown product": (book(product="nothing"), "/pricebooks/other/prices/0/product"),
    "an unknown customer": (contract(customer="nobody"), "/contracts/other/customer"),
    "an unknown pricebook": (contract(pricebook="none"), "/contracts/other/pricebook"),
    "an unknown meter": ({"products": {"p": {"name": "P", "meter": "m"}}}, "/products/p/meter"),
    "an unknown parent": (
        {"customers": {"c": {"name": "C", "subjects": [], "parent": "nobody"}}},
        "/customers/c/parent",
    ),
    "an unknown dimension": (
        book(product="tokens", group_by=["region"]),
        "/pricebooks/other/prices/0/group_by",
    ),
    "a feature of an unknown meter": (
        {"features": {"f": {"kind": "metered", "meter": "m"}}},
        "/features/f/meter",
    ),
    "an override of nothing": (
        contract(prices=[PRICE | {"overrides": "none"}]),
        "/contracts/other/prices/0",
    ),
    "a decimal as a number": (
        book(charge={"model": "flat", "amount": 1.5}),
        "/pricebooks/other/prices/0/charge/amount",
    ),
    "an integer as a number": (
        book(charge={"model": "flat", "amount": 1}),
        "/pricebooks/other/prices/0/charge/amount",
    ),
    "13 decimals": (
        book(charge={"model": "flat", "amount": "0.0000000000001"}),
        "/pricebooks/other/prices/0/charge/amount",
    ),
    "a price of 10^14": (
        book(charge={"model": "flat", "amount": "1" + "0" * 14}),
        "/pricebooks/other/prices/0/charge/amount",
    ),
    "a million digits": (
        book(charge={"model": "flat", "amount": "9" * 1_000_000}),
        "/pricebooks/other/prices/0/charge/amount",
    ),
    "an unknown key": (book(colour="red"), "/pricebooks/other/prices/0/colour"),
    "an unknown model": (
        book(charge={"model": "lottery"}),
        "/pricebooks/other/prices/0/charge/model",
    ),
    "an unknown section": ({"shoes": {}}, "/shoes"),
    "a document that is a list": ([], ""),
    "an id with a slash": ({"products": {"a/b": {"name": "P"}}}, "/products/a~1b"),
    "an id with a line break": ({"products": {"a\n": {"name": "P"}}}, "/products/a\n"),
    "an id of 129": ({"products": {"a" * 129: {"name": "P"}}}, "/products/" + "a" * 129),
    "a name with NUL": (
        {"customers": {"c": {"name": "a\0b", "subjects": []}}},
        "/customers/c/name",
    ),
    "a day that is none": (contract(start="2026-02-30"), "/contracts/other/start"),
    "an end before the start": (contract(end="2025-01-01"), "/contracts/other/end"),
    "the year 9999": (contract(end="9999-12-31"), "/contracts/other/end"),
    "a zone on Mars": (contract(timezone="Mars/Olympus"), "/contracts/other/timezone"),
    "a zone as a path": (contract(timezone="../../etc/passwd"), "/contracts/other/timezone"),
    "two customers with one subject": (
        {"customers": {"c": {"name": "C", "subjects": ["acme-1"]}}},
        "/customers/c/subjects/0",
    ),
}


@pytest.mark.parametrize("case", BAD_DOCUMENTS)
def test_a_wrong_document_is_refused_whole(service: Service, case: str) -> None:
    """The field is pointed at, and what was right in the document is not applied either."""
    document, pointer = BAD_DOCUMENTS[case]
    right = {"products": {"innocent": {"name": "Fine"}}}
    if isinstance(document, dict):
        document = {kind: document.get(kind, {}) | right.get(kind, {})
                    for kind in {**document, **right}}  # fmt: skip
    answer = service.client.post("/v1/catalog", json={"document": document})

    assert_problem(answer, 422, "invalid_document")
    pointers = [error["pointer"] for error in answer.json()["errors"]]
    assert pointers == ["/document" + pointer]
    assert service.client.get("/v1/products/innocent").status_code == 404


def test_other_types_of_bodies_are_415(service: Service) -> None:
    """JSON routes do not guess at what says it is something else."""
    for method, path in JSON_ROUTES[:5]:
        headers = {"content-type": "application/yaml"}
        answer = service.client.request(method, path, content=b"{}", headers=headers)
        assert_problem(answer, 415, "unsupported_media_type")


CONSUMES: dict[str, tuple[dict[str, object], int, str]] = {
    "no key": ({"items": [{"feature": "tokens", "amount": "1"}]}, 422, "invalid_request"),
    "an empty key": ({"key": ""}, 422, "invalid_request"),
    "a key of 256": ({"key": "x" * 256}, 422, "invalid_request"),
    "no items": ({"key": "k", "items": []}, 422, "invalid_request"),
    "101 items": (
        {"key": "k", "items": [{"feature": "tokens", "amount": "1"}] * 101},
        422,
        "invalid_request",
    ),
    "an unknown field": ({"key": "k", "colour": "red"}, 422, "invalid_request"),
    "someone else's subject": ({"key": "k", "subject": "beta-1"}, 422, "invalid_request"),
    "an unknown feature": ({"key": "k", "items": [{"feature": "x", "amount": "1"}]}, 404,
                           "not_found"),
    "a boolean feature": ({"key": "k", "items": [{"feature": "sso", "amount": "1"}]}, 422,
                          "not_consumable"),
    **{f"an amount of {amount!r}": (
        {"key": "k", "items": [{"feature": "tokens", "amount": amount}]}, 422, code)
       for amount, code in [
           ("-1", "invalid_request"), ("0", "invalid_request"), ("", "invalid_request"),
           (" 1", "invalid_request"), ("NaN", "invalid_request"), ("1e2", "invalid_request"),
           ("0.1234567891", "invalid_request"), (1.5, "invalid_request"),
           (True, "invalid_request"), (None, "invalid_request"), ([], "invalid_request"),
           ("9" * 64, "invalid_request"), (10**17, "out_of_range"),
       ]},
}  # fmt: skip


@pytest.mark.parametrize("case", CONSUMES)
def test_a_bad_consume_uses_nothing(service: Service, case: str) -> None:
    """Bad input is a problem, not a denial; the last test sees that the balance is untouched."""
    changes, status, code = CONSUMES[case]
    body = {"items": [{"feature": "tokens", "amount": "1"}]} | changes
    answer = service.client.post("/v1/customers/acme/entitlements/consume", json=body)

    assert_problem(answer, status, code)
