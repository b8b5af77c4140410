"""Section 9: events, as a stranger would check them who has only the design."""

from __future__ import annotations

import gzip
import io
import json
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.e2e.contract.world import (
    MONTHLY,
    event,
    pages,
    put,
    totals,
)
from tests.e2e.harness import Service


def columns(events: list[dict[str, Any]]) -> pa.Table:
    """Events as columns, data as a struct."""
    names = ("id", "source", "type", "subject", "data")
    return pa.table({name: [each[name] for each in events] for name in names})


def arrow(events: list[dict[str, Any]]) -> bytes:
    """An Arrow stream of events."""
    sink, table = io.BytesIO(), columns(events)
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue()


def parquet(events: list[dict[str, Any]]) -> bytes:
    """A Parquet file of events."""
    sink = io.BytesIO()
    pq.write_table(columns(events), sink)
    return sink.getvalue()


FORMS = {
    "application/json": lambda events: json.dumps(events).encode(),
    "application/cloudevents-batch+json": lambda events: json.dumps(events).encode(),
    "application/x-ndjson": lambda events: "\n".join(map(json.dumps, events)).encode(),
    "application/vnd.apache.arrow.stream": arrow,
    "application/vnd.apache.parquet": parquet,
}


@pytest.mark.parametrize("kind", FORMS)
def test_every_form_is_the_same_events(service: Service, kind: str) -> None:
    """What one form brought is a duplicate in every other: accepted + duplicates + rejected."""
    events = [event(f"{kind}-{index}", subject="nobody") for index in range(3)]
    mixed = [*events, events[0], event("bad", subject="")]

    def post(content: bytes, **headers: str) -> dict[str, Any]:
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        answer = service.client.post("/v1/events", content=content, headers=sent)
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    first = post(FORMS[kind](mixed), content_type=kind)
    packed = post(gzip.compress(FORMS[kind](mixed)), content_type=kind, content_encoding="gzip")
    others = [post(make(events), content_type=other) for other, make in FORMS.items()]

    assert (first["accepted"], first["duplicates"]) == (3, 1)
    assert [(each["index"], each["code"]) for each in first["rejected"]] == [(4, "invalid_field")]
    assert (packed["accepted"], packed["duplicates"], len(packed["rejected"])) == (0, 4, 1)
    assert others == [{"accepted": 0, "duplicates": 3, "rejected": []}] * len(FORMS)


def test_one_event_and_binary_mode(service: Service) -> None:
    """A single object, structured mode and binary mode are one event each, and the same one."""
    single = event("single", subject="nobody")
    headers = {
        "content-type": "application/json",
        "ce-specversion": "1.0",
        "ce-id": "single",
        "ce-source": "tests",
        "ce-type": "completion",
        "ce-subject": "nobody",
    }
    cloud = {"content-type": "application/cloudevents+json"}
    answers = [
        service.client.post("/v1/events", json=single),
        service.client.post("/v1/events", content=json.dumps(single).encode(), headers=cloud),
        service.client.post("/v1/events", content=b'{"n": 1}', headers=headers),
        service.client.post("/v1/events", json=[]),
    ]
    assert [answer.json() for answer in answers] == [
        {"accepted": 1, "duplicates": 0, "rejected": []},
        {"accepted": 0, "duplicates": 1, "rejected": []},
        {"accepted": 0, "duplicates": 1, "rejected": []},
        {"accepted": 0, "duplicates": 0, "rejected": []},
    ]


def test_conflicts_and_copies(service: Service) -> None:
    """The same identity is a duplicate with equal content, a conflict with other content."""
    first = event("same", subject="nobody", time="2026-03-01T00:00:00Z")
    assert service.post("/v1/events", [first])["accepted"] == 1
    equal = [
        first | {"time": "2026-03-01T01:00:00+01:00"},
        first | {"data": {"n": 1.0}},
        first | {"traceparent": "another"},
    ]
    other = [
        first | {"type": "embedding"},
        first | {"subject": "acme-1"},
        first | {"time": "2026-03-01T00:00:01Z"},
        first | {"data": {"n": 2}},
    ]
    for copy in equal:
        assert service.post("/v1/events", [copy])["duplicates"] == 1, copy
    for copy in other:
        [rejected] = service.post("/v1/events", [copy])["rejected"]
        assert (rejected["id"], rejected["code"]) == ("same", "conflict"), copy
    inside = [event("inside", subject="nobody"), event("inside", subject="nobody", data={"n": 2})]
    answer = service.post("/v1/events", inside)
    assert answer["accepted"] == 1, "inside one body the first copy wins"
    assert answer["rejected"][0]["code"] == "conflict"


def test_atomic_and_dry_run_keep_nothing(service: Service) -> None:
    """``atomic`` is all or nothing; ``dry_run`` answers the same and keeps nothing."""
    new, bad = event("atomic", subject="nobody"), event("", subject="nobody")
    refused = service.client.post("/v1/events?atomic=true", json=[new, bad])
    tried = service.client.post("/v1/events?dry_run=true", json=[new, new, bad])
    kept = service.post("/v1/events", [new], atomic="true")

    assert (refused.status_code, refused.json()["code"]) == (422, "events_rejected")
    assert [each["index"] for each in refused.json()["rejected"]] == [1]
    assert (tried.json()["accepted"], tried.json()["duplicates"]) == (1, 1)
    assert kept == {"accepted": 1, "duplicates": 0, "rejected": []}


def test_a_void_event_counts_no_more(service: Service) -> None:
    """It can be voided once, is shown as void, its resend stays void, earlier as_of has it."""
    at = "2026-02-10T00:00:00Z"
    made = event("to-void", subject="beta-1", type="call", time=at, data=None)
    service.post("/v1/events", [made])
    before = totals(service, customer="beta", period="2026-02")
    items = [{"source": "tests", "id": name, "reason": "by mistake"}
             for name in ("to-void", "nothing", "to-void")]  # fmt: skip
    first, again = service.post("/v1/events/void", items), service.post("/v1/events/void", items)
    resent = service.post("/v1/events", [made])
    after = totals(service, customer="beta", period="2026-02")
    earlier = totals(service, customer="beta", period="2026-02", as_of=before["as_of"])

    assert (first["voided"], first["already_void"]) == (1, 1)
    assert [(each["index"], each["id"], each["code"]) for each in first["rejected"]] == [
        (1, "nothing", "unknown_event")
    ]
    assert (again["voided"], again["already_void"]) == (0, 2)
    assert resent == {"accepted": 0, "duplicates": 1, "rejected": []}
    assert service.get("/v1/events/tests/to-void")["status"] == "void"
    calls = [[line["event_count"] for line in each["items"] if line["product"] == "calls"]
             for each in (before, after, earlier)]  # fmt: skip
    assert calls == [[1], [], [1]]


def test_unmatched_events_say_why(service: Service) -> None:
    """All five reasons; a missing value is accepted."""
    put(service, "/v1/customers/poor", {"name": "Poor", "subjects": ["poor-1"]}, status=201)
    bare = {"customer": "poor", "currency": "USD", "invoicing": MONTHLY, "start": "2026-02-01"}
    priced = bare | {"prices": [{"product": "fee", "charge": {"model": "flat", "amount": "1"}}]}
    put(service, "/v1/contracts/poor", priced, status=201)
    events = {
        "no_meter": event("r1", type="unheard-of"),
        "no_customer": event("r2", subject="who"),
        "no_contract": event("r3", subject="poor-1", time="2026-01-31T23:59:59Z"),
        "no_price": event("r4", subject="poor-1"),
        "missing_value": event("r5", type="embedding", data={"m": 1}),
    }
    assert service.post("/v1/events", list(events.values()))["accepted"] == 5
    for reason, made in events.items():
        listed = pages(service, "/v1/events/unmatched", reason=reason, limit=500)
        [mine] = [each for each in listed if each["id"] == made["id"]]
        assert (mine["status"], mine["reason"]) == ("unmatched", reason)
        assert {each["reason"] for each in listed} == {reason}
    counted = service.get("/v1/events/tests/u1")
    assert (counted["status"], counted["reason"]) in {("counted", None),
                                                      ("unmatched", "no_contract")}  # fmt: skip


def test_an_event_without_its_value_is_in_no_line(service: Service) -> None:
    """Unmatched or in a line, never both: it is not in the count, and no fee is asked for it."""
    put(service, "/v1/customers/odd", {"name": "Odd", "subjects": ["odd-1"]}, status=201)
    put(service, "/v1/products/per-call", {"name": "Per call", "meter": "tokens"}, status=201)
    charge = {"model": "percentage", "percent": "10", "fixed": "2"}
    contract = {"customer": "odd", "currency": "USD", "invoicing": MONTHLY, "start": "2026-02-01",
                "prices": [{"product": "per-call", "charge": charge}]}  # fmt: skip
    put(service, "/v1/contracts/odd", contract, status=201)
    at = "2026-02-03T00:00:00Z"
    made = [event(f"odd-{n}", type="embedding", subject="odd-1", data=data, time=at)
            for n, data in enumerate([{"n": 5}, {"n": 7}, {"m": 1}])]  # fmt: skip
    assert service.post("/v1/events", made)["accepted"] == 3
    [line] = totals(service, customer="odd", period="2026-02")["items"]
    unmatched = pages(service, "/v1/events/unmatched", reason="missing_value", limit=500)

    assert (line["quantity"], line["event_count"], line["amount"]) == ("12", 2, "5.20")
    assert [each["id"] for each in unmatched if each["subject"] == "odd-1"] == ["odd-2"]


def test_events_are_found(service: Service) -> None:
    """By subject, type and time, newest first, page by page, and by an identity with slashes."""
    odd = event("a/b %é", source="https://x/y?z", subject="finder", time="2026-03-02T00:00:00Z")
    more = [event(f"f{day}", subject="finder", time=f"2026-03-{day:02d}T00:00:00Z")
            for day in range(3, 9)]  # fmt: skip
    service.post("/v1/events", [odd, *more])
    found = pages(service, "/v1/events", subject="finder", limit=2)
    window: dict[str, str | int | bool] = {
        "subject": "finder",
        "from": "2026-03-03T00:00:00Z",
        "to": "2026-03-05T00:00:00Z",
    }
    path = "/v1/events/https%3A%2F%2Fx%2Fy%3Fz/a%2Fb%20%25%C3%A9"

    assert [each["id"] for each in found] == ["f8", "f7", "f6", "f5", "f4", "f3", "a/b %é"]
    assert [each["id"] for each in service.get("/v1/events", **window)["items"]] == ["f4", "f3"]
    assert service.get(path)["source"] == "https://x/y?z"


def test_limits_of_values_are_inclusive(service: Service) -> None:
    """The largest, the smallest and the longest numbers that are promised are taken exactly."""
    numbers = ['"99999999999999999.999999999"', "99999999999999999", "-99999999999999999",
               "0.000000001", "1e-9", "0.1234567890", "9007199254740993", "-0"]  # fmt: skip
    texts = [json.dumps(event(f"n{index}", type="embedding", subject="exact", data={"n": "@"}))
             for index in range(len(numbers))]  # fmt: skip
    body = ",".join(text.replace('"@"', number)
                    for text, number in zip(texts, numbers, strict=True))  # fmt: skip
    headers = {"content-type": "application/json"}
    answer = service.client.post("/v1/events", content=f"[{body}]".encode(), headers=headers)
    rows = service.get("/v1/meters/tokens/usage", group_by="subject")["items"]

    assert answer.json() == {"accepted": len(numbers), "duplicates": 0, "rejected": []}
    exact = sum((Decimal(number.strip('"')) for number in numbers), Decimal(0))
    assert [row["value"] for row in rows if row["subject"] == "exact"] == [f"{exact.normalize():f}"]
