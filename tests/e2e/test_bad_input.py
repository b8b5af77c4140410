"""Hostile input against the running service: a clear problem, never a 500, nothing partly kept."""

from __future__ import annotations

import datetime as dt
import gzip
import io
import json
import socket
from collections.abc import Iterator

import httpx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.e2e.harness import Service, running_service, wait_for

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


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    """A sandbox with a small catalog, for all tests here."""
    with running_service("--sandbox", "--now", NOW) as running:
        running.post("/v1/catalog", {"document": CATALOG})
        yield running
        assert "request_failed" not in running.logs()


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


GOOD = hostile("good")
TABLE = columns(200, data=[{"n": 1}] * 200)
BROKEN_BODIES: dict[str, tuple[bytes, str, int, str]] = {
    "malformed JSON": (b'[{"id": 1', JSON, 400, "unreadable_body"),
    "text after the array": (as_json(GOOD) + b"x", JSON, 400, "unreadable_body"),
    "NaN": (as_json(GOOD).replace(b'"n": 1', b'"n": NaN'), JSON, 400, "unreadable_body"),
    "a leading zero": (as_json(GOOD).replace(b'"n": 1', b'"n": 01'), JSON, 400, "unreadable_body"),
    "a scalar": (b"5", JSON, 400, "unreadable_body"),
    "null": (b"null", JSON, 400, "unreadable_body"),
    "a hundred thousand brackets": (b"[" * 100_000, JSON, 400, "unreadable_body"),
    "nothing": (b"", JSON, 400, "empty_body"),
    "white space": (b" \n ", JSON, 400, "empty_body"),
    "blank lines": (b"\n\n", NDJSON, 400, "empty_body"),
    "an empty Arrow stream": (b"", ARROW, 400, "empty_body"),
    "text/plain": (as_json(GOOD), "text/plain", 415, "unsupported_media_type"),
    "a form": (b"id=1", "application/x-www-form-urlencoded", 415, "unsupported_media_type"),
    "Latin-1": (as_json(GOOD), "application/json; charset=latin-1", 415, "unsupported_media_type"),
    "no type": (as_json(GOOD), "", 415, "unsupported_media_type"),
    "one event as a batch": (
        as_json(GOOD)[1:-1],
        "application/cloudevents-batch+json",
        400,
        "unreadable_body",
    ),
    "a batch as one event": (
        as_json(GOOD),
        "application/cloudevents+json",
        400,
        "unreadable_body",
    ),
    "Arrow cut short": (arrow(TABLE)[:-40], ARROW, 400, "unreadable_body"),
    "half an Arrow stream": (arrow(TABLE)[:3000], ARROW, 400, "unreadable_body"),
    "ten bytes of Arrow": (arrow(TABLE)[:10], ARROW, 400, "unreadable_body"),
    "Arrow and more": (arrow(TABLE) + b"junk", ARROW, 400, "unreadable_body"),
    "Parquet as Arrow": (parquet(TABLE), ARROW, 400, "unreadable_body"),
    "Parquet cut short": (parquet(TABLE)[:-9], PARQUET, 400, "unreadable_body"),
    "Arrow as Parquet": (arrow(TABLE), PARQUET, 400, "unreadable_body"),
    "data twice": (
        arrow(columns(1, **{"data": ["{}"], "data.n": [1]})),
        ARROW,
        400,
        "unreadable_body",
    ),
    "binary ids": (arrow(columns(1, id=[b"\xff"])), ARROW, 400, "unreadable_body"),
    "50,001 events": (b"[" + b"{}," * 50_000 + b"{}]", JSON, 413, "too_many_events"),
    "50,001 lines": (b"{}\n" * 50_001, NDJSON, 413, "too_many_events"),
    "50,001 rows": (arrow(columns(50_001)), ARROW, 413, "too_many_events"),
    "17 MiB": (b" " * (17 * 1024**2), JSON, 413, "body_too_large"),
}


@pytest.mark.parametrize("case", BROKEN_BODIES)
def test_a_broken_body_is_refused_whole(service: Service, case: str) -> None:
    """What cannot be read as what it claims to be is a problem, and none of it is kept."""
    content, kind, status, code = BROKEN_BODIES[case]
    assert_problem(post_events(service, content, content_type=kind), status, code)


COMPRESSED: dict[str, tuple[bytes, str, int, str]] = {
    "not gzip": (b"abc", "gzip", 400, "unreadable_body"),
    "gzip cut short": (gzip.compress(as_json(GOOD))[:-5], "gzip", 400, "unreadable_body"),
    "gzip and more": (gzip.compress(as_json(GOOD)) + b"junk", "gzip", 400, "unreadable_body"),
    "gzip of nothing": (gzip.compress(b""), "gzip", 400, "empty_body"),
    "a gzip bomb": (gzip.compress(b" " * 100_000_000), "gzip", 413, "body_too_large"),
    "over 100:1": (gzip.compress(b"[" + b" " * 9_000_000 + b"]"), "gzip", 413, "body_too_large"),
    "not zstd": (b"abc", "zstd", 400, "unreadable_body"),
    "brotli": (b"abc", "br", 415, "unsupported_media_type"),
    "twice": (gzip.compress(b"[]"), "gzip, gzip", 415, "unsupported_media_type"),
}


@pytest.mark.parametrize("case", COMPRESSED)
def test_a_broken_encoding_is_refused_whole(service: Service, case: str) -> None:
    """Inflating stops at the limits, and errors of the encoding are the caller's."""
    content, encoding, status, code = COMPRESSED[case]
    answer = post_events(service, content, content_type=JSON, content_encoding=encoding)
    assert_problem(answer, status, code)


def with_value(number: str) -> bytes:
    """An array of one event whose metered value is this JSON text."""
    return as_json(hostile("value")).replace(b'"n": 1', b'"n": ' + number.encode())


def nested(levels: int) -> bytes:
    """An array of one event that is nested this deep."""
    inner = "[" * (levels - 2) + "]" * (levels - 2)
    return as_json(hostile("nested")).replace(b'"n": 1', b'"n": 1, "deep": ' + inner.encode())


def with_time(text: object) -> bytes:
    """An array of one event with this time."""
    return as_json(hostile("time", time=text))


REJECTED_EVENTS: dict[str, tuple[bytes, str]] = {
    **{f"no {name}": (as_json(hostile("x") | {name: None}), "missing_field")
       for name in ("id", "source", "type", "subject")},
    **{f"{name} is a number": (as_json(hostile("x") | {name: 5}), "invalid_field")
       for name in ("id", "source", "type", "subject")},
    **{f"{name} is empty": (as_json(hostile("x") | {name: ""}), "invalid_field")
       for name in ("id", "source", "type", "subject")},
    **{f"{name} of 257 bytes": (as_json(hostile("x") | {name: "é" * 128 + "x"}), "invalid_field")
       for name in ("id", "source", "type", "subject")},
    "NUL in the id": (as_json(hostile("a\0b")), "invalid_field"),
    "an element that is no object": (b"[5]", "invalid_field"),
    "data is a list": (as_json(hostile("x", data=[1])), "invalid_field"),
    "data is text": (as_json(hostile("x", data="n")), "invalid_field"),
    "another specversion": (as_json(hostile("x", specversion="0.3")), "invalid_field"),
    "invalid UTF-8": (as_json(hostile("x@")).replace(b"@", b"\xff"), "invalid_json"),
    "half a surrogate pair": (as_json(hostile("x\ud800")), "invalid_json"),
    "a key twice": (as_json(hostile("x"))[:-2] + b', "id": "y"}]', "invalid_json"),
    "a key twice in data": (with_value('1, "n": 2'), "invalid_json"),
    "a key twice, escaped": (with_value('1, "\\u006e": 2'), "invalid_json"),
    "33 levels": (nested(33), "invalid_json"),
    "65 KiB": (as_json(hostile("x", data={"n": 1, "k": "x" * 65 * 1024})), "too_large"),
    "a time without offset": (with_time("2026-03-15T12:00:00"), "invalid_time"),
    "a date": (with_time("2026-03-15"), "invalid_time"),
    "no such day": (with_time("2026-02-30T00:00:00Z"), "invalid_time"),
    "before 2000": (with_time("1999-12-31T23:59:59Z"), "invalid_time"),
    "in 2100": (with_time("2100-01-01T00:00:00Z"), "invalid_time"),
    "the year 9999": (with_time("9999-12-31T23:59:59Z"), "invalid_time"),
    "the year 0": (with_time("0000-01-01T00:00:00Z"), "invalid_time"),
    "over an hour ahead": (with_time("2026-03-15T13:00:00.000001Z"), "invalid_time"),
    "nanoseconds": (with_time("2026-03-15T11:00:00.1234567Z"), "invalid_time"),
    "Unix time": (with_time(1_773_576_000), "invalid_time"),
    "words": (with_time("yesterday"), "invalid_time"),
    "64 digits": (with_value("9" * 64), "out_of_range"),
    "64 digits as text": (with_value('"' + "9" * 64 + '"'), "out_of_range"),
    "5,000 digits": (with_value("9" * 5000), "out_of_range"),
    "10^17": (with_value("100000000000000000"), "out_of_range"),
    "a huge exponent": (with_value("1e999999999"), "out_of_range"),
    "ten decimals": (with_value("0.1234567891"), "too_precise"),
    "a tiny exponent": (with_value("1e-999999999"), "too_precise"),
    "a long fraction": (with_value("12345678.123456789"), "inexact_number"),
    "a word as the value": (with_value('"many"'), "invalid_value"),
    "an empty text as the value": (with_value('""'), "invalid_value"),
    "a boolean as the value": (with_value("true"), "invalid_value"),
    "a list as the value": (with_value("[]"), "invalid_value"),
}  # fmt: skip


@pytest.mark.parametrize("case", REJECTED_EVENTS)
def test_a_bad_event_is_rejected_by_code(service: Service, case: str) -> None:
    """A readable body is 200; the event is named by index, with the code of its mistake."""
    content, code = REJECTED_EVENTS[case]
    answer = post_events(service, content, content_type=JSON)

    assert answer.status_code == 200, answer.text
    assert (answer.json()["accepted"], answer.json()["duplicates"]) == (0, 0)
    [rejected] = answer.json()["rejected"]
    assert rejected.keys() == {"index", "id", "code", "detail"}
    assert (rejected["index"], rejected["code"]) == (0, code), rejected


@pytest.mark.parametrize("case", REJECTED_EVENTS)
def test_a_bad_event_spoils_an_atomic_body(service: Service, case: str) -> None:
    """With ``atomic`` its neighbour is not kept either."""
    content, code = REJECTED_EVENTS[case]
    pair = as_json(GOOD)[:-1] + b"," + content[1:]
    headers = {"content-type": JSON}
    answer = service.client.post("/v1/events?atomic=true", content=pair, headers=headers)

    assert_problem(answer, 422, "events_rejected")
    assert [(each["index"], each["code"]) for each in answer.json()["rejected"]] == [(1, code)]


@pytest.mark.parametrize("form", [arrow, parquet], ids=["Arrow", "Parquet"])
def test_bad_rows_are_rejected_one_by_one(service: Service, form: object) -> None:
    """Columns are checked like JSON: missing fields, values, times and JSON text."""
    assert callable(form)
    media = ARROW if form is arrow else PARQUET
    tables = {
        "missing_field": columns(1, subject=pa.array([None], pa.string())),
        "invalid_field": columns(1, id=[5]),
        "invalid_json": columns(1, data=['{"n": 1, "n": 2}']),
        "invalid_value": columns(1, **{"data.n": [float("nan")]}),
        "out_of_range": columns(1, **{"data.n": pa.array([2**64 - 1], pa.uint64())}),
        "invalid_time": columns(1, time=[dt.datetime(1970, 1, 1)]),  # noqa: DTZ001 - no zone = UTC
        "too_large": columns(1, data=['{"k": "' + "x" * 66_000 + '"}']),
    }
    for code, table in tables.items():
        answer = post_events(service, form(table), content_type=media)
        assert answer.status_code == 200, answer.text
        assert [each["code"] for each in answer.json()["rejected"]] == [code]
    assert kept(service) == []


def test_a_bad_line_is_rejected_alone(service: Service) -> None:
    """NDJSON goes on after a line that cannot be parsed; empty lines have no index."""
    lines = [hostile("n1", subject="fine"), hostile("n2", subject="fine")]
    texts = [json.dumps(line).encode() for line in lines]
    body = b"\n".join([texts[0], b"{bad", b"", b'{"id": "\xff"}', texts[1], b"[]"])
    answer = post_events(service, body, content_type=NDJSON).json()

    assert answer["accepted"] == 2
    assert [(each["index"], each["code"]) for each in answer["rejected"]] == [
        (1, "invalid_json"),
        (2, "invalid_json"),
        (4, "invalid_field"),
    ]


HEADERS = {"ce-id": "bin", "ce-source": "tests", "ce-type": "tokens", "ce-subject": "hostile"}


def test_bad_binary_mode(service: Service) -> None:
    """CloudEvents binary mode is refused or rejected like the rest."""
    refused = post_events(service, b'{"n', content_type=JSON, **HEADERS)
    text = post_events(service, b"n", content_type="text/plain", **HEADERS)
    late = post_events(service, b"{}", content_type=JSON, **(HEADERS | {"ce-time": "soon"}))
    nameless = post_events(service, b"{}", content_type=JSON, **(HEADERS | {"ce-subject": ""}))

    assert_problem(refused, 400, "unreadable_body")
    assert_problem(text, 415, "unsupported_media_type")
    assert late.json()["rejected"][0]["code"] == "invalid_time"
    assert nameless.json()["accepted"] == 0
    assert kept(service) == []


VOID_BODIES = [
    (b"", 400, "empty_body"),
    (b"[{", 400, "unreadable_body"),
    (b'[{"source": "\xff", "id": "x"}]', 400, "unreadable_body"),
    (b'[{"source": "a", "source": "b", "id": "x"}]', 400, "unreadable_body"),
    (b"[" * 5_000, 400, "unreadable_body"),
    (b"{}", 422, "invalid_request"),
    (b"[null]", 422, "invalid_request"),
    (b'[{"source": "a"}]', 422, "invalid_request"),
    (b'[{"source": 5, "id": "x"}]', 422, "invalid_request"),
    (b'[{"source": "a", "id": "x", "colour": "red"}]', 422, "invalid_request"),
]


@pytest.mark.parametrize(("content", "status", "code"), VOID_BODIES)
def test_a_bad_void_voids_nothing(service: Service, content: bytes, status: int, code: str) -> None:
    """Voids are read as strictly as events."""
    headers = {"content-type": JSON}
    answer = service.client.post("/v1/events/void", content=content, headers=headers)
    assert_problem(answer, status, code)


JSON_ROUTES = [
    ("POST", "/v1/catalog"),
    ("PUT", "/v1/customers/other"),
    ("POST", "/v1/keys"),
    ("POST", "/v1/admin/clock"),
    ("POST", "/v1/admin/rebuild"),
    ("POST", "/v1/entitlements/check"),
    ("POST", "/v1/customers/acme/entitlements/consume"),
]
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
    for query in ("limit=0", "limit=1001", "limit=x", "limit=-1", "limit=1e2", "limit=1&limit=2"):
        assert_problem(service.client.get(path + query), 422, "invalid_request")
    for cursor in ("x", "%2F%2F%2F", "_w", "%00", "a" * 3000):
        assert_problem(service.client.get(f"{path}cursor={cursor}"), 422, "invalid_request")
    unknown = service.client.get(f"{path}colour=red")
    assert_problem(unknown, 422, "unknown_parameter")
    assert unknown.json()["errors"][0]["pointer"] == "?colour"


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
