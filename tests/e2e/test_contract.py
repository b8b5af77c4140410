"""The HTTP contract, as a stranger would check it who has only the design and one service."""

from __future__ import annotations

import datetime as dt
import gzip
import hashlib
import io
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

from tests.e2e.harness import Service, cli, environment, running_service, wait_for

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


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    """A sandbox with the catalog above and its usage."""
    with running_service("--sandbox", "--now", NOW) as running:
        running.post("/v1/catalog", {"document": CATALOG})
        assert running.post("/v1/events", usage())["accepted"] == 300
        yield running
        assert "request_failed" not in running.logs()


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


# Section 9: events


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
    made = event("to-void", subject="cafe-1", type="call", data=None)
    service.post("/v1/events", [made])
    before = totals(service, customer="cafe", period="2026-03")
    items = [{"source": "tests", "id": name, "reason": "by mistake"}
             for name in ("to-void", "nothing", "to-void")]  # fmt: skip
    first, again = service.post("/v1/events/void", items), service.post("/v1/events/void", items)
    resent = service.post("/v1/events", [made])
    after = totals(service, customer="cafe", period="2026-03")
    earlier = totals(service, customer="cafe", period="2026-03", as_of=before["as_of"])

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


# Section 8: catalog

GRAMMAR = """
meters:
  c: {event_type: t, aggregation: count}
  s: {event_type: [t, u], aggregation: sum, value: data.x, billable: true,
      dimensions: {d: data.d, region: data.region, model: data.model},
      filter: {data.k: {in: [a, b]}, data.j: {not_in: [x], optional: true}, data.e: {exists: true}}}
  mn: {event_type: t, aggregation: min, value: data.x}
  mx: {event_type: t, aggregation: max, value: data.x}
  av: {event_type: t, aggregation: average, value: data.x}
  la: {event_type: t, aggregation: latest, value: data.x}
  uc: {event_type: t, aggregation: unique_count, value: data.user}
  pc: {event_type: t, aggregation: percentile, percentile: 95, value: data.x, window: 5m}
  ws: {event_type: t, aggregation: weighted_sum, value: data.x}
  cost: {event_type: t, aggregation: sum, value: data.cost, billable: false}
features: {f: {kind: metered, meter: s}, b: {kind: boolean}, st: {kind: static}}
products:
  1: {name: One, meter: s, filter: {region: {in: [eu, us]}}}
  2: {name: Two, meter: c}
  3: {name: Fee}
  4: {name: Four, meter: s, filter: {d: {not_in: [z], optional: true}}}
  5: {name: Five, meter: mx}
pricebooks:
  g:
    currency: USD
    invoicing: {timing: arrears, every_months: 1, anchor: contract, after_months: 0}
    prorate: days
    effective_from: 2026-01-01
    prices:
      - {product: 1, id: one, name: n, group_by: [d], included: 5, minimum: 1, maximum: 100,
         discount_percent: 10, charge: {model: per_unit, unit_price: 0.00003},
         convert: {divide: 1000, round: up, digits: 0}}
      - {product: 2, charge: {model: graduated, flat_fee_when_unused: false, beyond: refuse,
         tiers: [{up_to: 10, unit_price: 1, flat_fee: 2}, {unit_price: 0.5}]}}
      - {product: 3, quantity: 2.5, prorate: seconds, charge: {model: flat, amount: 10},
         invoicing: {timing: advance, every_months: 1}, from_period: 1, to_period: 12}
      - {product: 4, charge: {model: volume, beyond: free,
         tiers: [{up_to: 10, unit_price: 1}, {up_to: 20, unit_price: 0.5, flat_fee: 1}]}}
      - {product: 5, charge: {model: package, size: 10, package_price: 3, free_units: 5}}
    entitlements:
      - {feature: f, amount: 100, every: month, limit: hard, rollover_max: 10, priority: 1}
      - {feature: b, value: true}
      - {feature: st, value: gold}
customers:
  p: {name: P, subjects: [s1, {subject: s2, from: 2026-01-01, until: 2026-06-01}], entity: e,
      external_ids: {salesforce: x}, metadata: {a: b}}
  k: {name: K, subjects: [s9], parent: p}
contracts:
  x:
    {customer: p, pricebook: g, start: 2026-01-01, end: 2027-01-01, timezone: Europe/Berlin,
     pin: false, external_ids: {a: b}, metadata: {x: y},
     prices: [{product: 1, multiply: "0.9"}, {product: 2, remove: true},
              {product: 4, charge: {model: per_unit, unit_price: 2}},
              {product: 5, additional: true, charge: {model: per_unit, unit_price: 2}}],
     entitlements: [{feature: f, amount: 5, limit: soft, every: {every_months: 3}}],
     amendments: [{effective_from: 2026-03-01, end: 2026-12-01,
                   prices: [{product: 4, charge: {model: per_unit, unit_price: 3}}]}]}
"""


def test_the_grammar_is_read(service: Service, tmp_path: Path) -> None:
    """A file with what rating can do: a dry run creates nothing, apply creates it, once."""
    path = tmp_path / "catalog.yaml"
    path.write_text(GRAMMAR)
    assert "nothing was changed" in cli(service, "apply", str(path), "--dry-run")
    assert service.client.get("/v1/pricebooks/g").status_code == 404
    assert "22 created" in cli(service, "apply", str(path))
    assert "22 unchanged" in cli(service, "apply", str(path))
    book = service.get("/v1/pricebooks/g")
    assert book["prices"][0]["charge"]["unit_price"] == "0.00003", "digits are kept"
    assert book["prices"][0]["product"] == "1", "1: is the id '1'"


PRICE_TERMS: dict[str, dict[str, Any]] = {
    "stairstep": {"charge": {"model": "stairstep", "cumulative": False,
                             "tiers": [{"up_to": "10", "flat_fee": "5"}, {"flat_fee": "9"}]}},
    "graduated_percentage": {"charge": {"model": "graduated_percentage", "tiers": [
        {"up_to": "10", "percent": "5", "flat_fee": "1"}, {"percent": "9"}]}},
    "percentage": {"charge": {"model": "percentage", "percent": "2.9", "fixed": "0.3",
                              "free_units": "1", "free_events": "5", "event_minimum": "1",
                              "event_maximum": "2"}},
    "matrix": {"charge": {"model": "matrix", "otherwise": "refuse", "rows": [
        {"when": {"model": "gpt"}, "unit_price": "1"},
        {"when": {"model": "*"}, "charge": {"model": "per_unit", "unit_price": "2"}}]}},
    "dynamic": {"charge": {"model": "dynamic", "amount": "data.cost", "multiplier": "1.2"}},
    "capacity": {"charge": {"model": "capacity", "tiers": [
        {"up_to": {"tokens": "10"}, "amount": "5"}, {"amount": "10"}]}},
    "bucket": {"bucket": "1h"},
    "hours": {"hours": ["00:00-06:00"]},
    "tiers_span": {"tiers_span": {"every_months": 12}},
    "commitment": {"commitment": {"quantity": "5", "overage_multiplier": "1.5", "true_up": True}},
}  # fmt: skip
CONTRACT_TERMS: dict[str, dict[str, Any]] = {
    "discounts": {"discounts": [{"percent": "10", "products": ["fee"], "from": "2026-02-01"}]},
    "minimum": {"minimum": {"amount": "5", "every_months": 1}},
    "commitments": {"commitments": [{"amount": "5", "every_months": 12, "true_up": True,
                                     "overage_multiplier": "1.2", "products": ["fee"]}]},
    "credits": {"credits": [{"id": "c", "amount": "5", "priority": 1, "products": ["fee"],
                             "effective_at": "2026-02-01", "expires_at": "2026-05-01"}]},
    "trial": {"trial": {"days": 14}},
    "amendments.discounts": {"amendments": [{"effective_from": "2026-02-01",
                                             "discounts": [{"amount": "3"}]}]},
}  # fmt: skip


@pytest.mark.parametrize("term", [*PRICE_TERMS, *CONTRACT_TERMS])
def test_a_term_is_rated_or_refused_by_name(service: Service, term: str) -> None:
    """Every construct of the grammar is read; what rating cannot do yet is named, not ignored."""
    price = {"product": "tokens", "charge": {"model": "per_unit", "unit_price": "1"}}
    document: dict[str, Any] = {
        "pricebooks": {"terms": BOOK | {"prices": [price | PRICE_TERMS.get(term, {})]}},
        "contracts": {
            "terms": {"customer": "beta", "pricebook": "terms", "start": "2026-01-01"}
            | CONTRACT_TERMS.get(term, {})
        },
    }
    request = {"document": document, "dry_run": True}
    answer = service.client.post("/v1/catalog", json=request)
    if answer.status_code != 200:
        assert answer.status_code == 422, answer.text
        [error] = answer.json()["errors"]
        assert term in error["detail"], error
        assert "cannot be rated yet" in error["detail"], error


def test_an_object_has_a_life(service: Service) -> None:
    """Created, read, listed, stated anew, retired, made again; as_of sees each as it was."""
    path = "/v1/products/life"
    made = put(service, path, {"name": "One"}, status=201)
    again = put(service, path, {"name": "Two"})
    assert [each["id"] for each in pages(service, "/v1/products", limit=2)].count("life") == 1
    assert service.get(path)["name"] == "Two"
    assert service.get(path, as_of=made["recorded_at"])["name"] == "One"
    assert service.client.delete(path).status_code == 204
    assert service.client.get(path).status_code == 404
    assert service.client.delete(path).status_code == 404
    assert service.get(path, as_of=again["recorded_at"])["name"] == "Two"
    assert service.get(path + "/versions")["items"][-1]["name"] == "Two"
    assert put(service, path, {"name": "Three"}, status=201)["name"] == "Three"


def test_what_is_named_cannot_be_retired(service: Service) -> None:
    """409 with what names it; nothing changes."""
    for path in ("/v1/pricebooks/list", "/v1/meters/tokens", "/v1/customers/acme",
                 "/v1/products/fee", "/v1/features/tokens"):  # fmt: skip
        answer = service.client.delete(path)
        assert (answer.status_code, answer.json()["code"]) == (409, "in_use"), path
        assert answer.json()["errors"]
        assert service.client.get(path).status_code == 200


def test_a_correction_rates_anew_and_an_older_answer_stays(service: Service) -> None:
    """Without effective_from: from the beginning. With: from then on. As of before: untouched."""

    def calls(**params: str) -> list[tuple[str, str, str]]:
        found = totals(service, contract="beta", **params)["items"]
        return [(line["period_start"][:7], line["quantity"], line["amount"])
                for line in found if line["product"] == "calls"]  # fmt: skip

    def book(price: str) -> dict[str, Any]:
        charge = {"model": "per_unit", "unit_price": price}
        return BOOK | {"prices": [{"product": "calls", "charge": charge}, *BOOK["prices"][1:]]}

    before = totals(service, contract="beta")
    [(month, quantity, _)] = calls()
    put(service, "/v1/pricebooks/list", book("1"))
    corrected = calls()
    put(service, "/v1/pricebooks/list", book("7") | {"effective_from": "2026-02-01"})
    later = calls()
    versions = service.get("/v1/pricebooks/list/versions")["items"]
    put(service, "/v1/pricebooks/list", BOOK)

    assert corrected == [(month, quantity, f"{Decimal(quantity):.2f}")]
    assert later == corrected, "January is before the new price"
    assert [each.get("effective_from") for each in versions] == [None, "2026-02-01"]
    old = totals(service, contract="beta", as_of=before["as_of"])
    assert (old["checksum"], old["items"]) == (before["checksum"], before["items"])
    assert totals(service, contract="beta")["items"] == [
        line | {"price_version": now["price_version"]}
        for line, now in zip(
            before["items"], totals(service, contract="beta")["items"], strict=True
        )
    ]


def test_versions_may_be_written_out(service: Service) -> None:
    """``{versions: […]}`` is the whole chain; an overlapping one is refused."""
    book = BOOK | {"prices": [], "entitlements": []}
    chain = {"versions": [book, book | {"effective_from": "2026-02-01", "currency": "USD"}]}
    put(service, "/v1/pricebooks/chain", chain, status=201)
    listed = service.get("/v1/pricebooks/chain/versions")["items"]
    wrong = {"versions": [book | {"effective_from": "2026-02-01"}] * 2}
    refused = service.client.put("/v1/pricebooks/chain", json=wrong)

    assert [each.get("effective_from") for each in listed] == [None, "2026-02-01"]
    assert (refused.status_code, refused.json()["code"]) == (422, "invalid_document")


def test_a_subject_has_one_customer_at_a_time(service: Service) -> None:
    """Claims may follow each other, and may not overlap."""
    first = {"name": "Old", "subjects": [{"subject": "moves", "until": "2026-02-01"}]}
    put(service, "/v1/customers/old", first, status=201)
    late = {"name": "New", "subjects": [{"subject": "moves", "from": "2026-02-01"}]}
    early = {"name": "New", "subjects": [{"subject": "moves", "from": "2026-01-31"}]}
    refused = service.client.put("/v1/customers/new", json=early)
    put(service, "/v1/customers/new", late, status=201)

    assert refused.status_code == 422
    assert "moves" in refused.json()["errors"][0]["detail"]


def test_two_contracts_for_one_product_are_warned_of(service: Service) -> None:
    """Contracts are independent: both price the usage, and apply says so."""
    second = {"customer": "beta", "pricebook": "list", "start": "2026-01-01"}
    request = {"document": {"contracts": {"second": second}}, "dry_run": True}
    assert service.post("/v1/catalog", request)["warnings"]


# Sections 10 and 11: totals and invoices


def test_rows_have_their_fields_and_order(service: Service) -> None:
    """Sorted, complete, decimals as text; every line of a quarter's usage and fees."""
    answer = totals(service)
    rows = answer["items"]
    keys = [
        (row["customer"], row["contract"], row["period_start"], row["product"], row["kind"],
         json.dumps(row["dimensions"], sort_keys=True, separators=(",", ":")), row["line_id"])
        for row in rows
    ]  # fmt: skip

    assert answer.keys() == {"period", "as_of", "watermark", "engine", "checksum", "items",
                             "next_cursor"}  # fmt: skip
    assert all(row.keys() == ROW for row in rows)
    assert keys == sorted(keys)
    assert len({row["line_id"] for row in rows}) == len(rows)
    assert {row["timing"] for row in rows} == {"arrears", "advance", "once"}
    assert {row["kind"] for row in rows} == {"usage", "fixed"}
    assert all(re.fullmatch(r"-?\d+\.\d\d", row["amount"]) for row in rows)
    assert all(isinstance(row["quantity"], str) for row in rows)
    assert {row["status"] for row in rows} == {"open"}


def test_every_format_is_the_same_answer(service: Service) -> None:
    """CSV, Arrow and Parquet agree with JSON; the checksum is the SHA-256 of the CSV."""
    answer = totals(service)
    query = {"period": "2026", "as_of": answer["as_of"]}
    csv = service.client.get("/v1/totals", params=query | {"format": "csv"})
    stream = service.client.get("/v1/totals", params=query | {"format": "arrow"})
    accept = {"accept": "application/vnd.apache.parquet"}
    file = service.client.get("/v1/totals", params=query, headers=accept)
    table = pa.ipc.open_stream(stream.content).read_all()

    assert hashlib.sha256(csv.content).hexdigest() == answer["checksum"]
    for each in (csv, stream, file):
        for name in ("period", "as_of", "watermark", "engine", "checksum"):
            if name != "watermark":
                assert each.headers[f"tallyman-{name.replace('_', '-')}"] == answer[name]
            assert f"tallyman-{name.replace('_', '-')}" in each.headers
    assert pq.read_table(io.BytesIO(file.content)).equals(table)
    assert pa.csv.read_csv(io.BytesIO(csv.content)).column_names == table.column_names
    for row, line in zip(table.to_pylist(), answer["items"], strict=True):
        assert row["line_id"] == line["line_id"]
        assert Decimal(row["quantity"]) == Decimal(line["quantity"])
        assert Decimal(row["amount"]) == Decimal(line["amount"])
        assert json.loads(row["dimensions"]) == line["dimensions"]
        assert row["period_start"] == dt.datetime.fromisoformat(line["period_start"])


def test_the_same_as_of_is_the_same_bytes(service: Service) -> None:
    """Later events and catalog changes do not touch an answer as of before."""
    before = totals(service)
    csv = service.client.get("/v1/totals?format=csv&period=2026&as_of=" + before["as_of"])
    service.post("/v1/events", [event("late", subject="beta-1", time="2026-01-02T00:00:00Z")])
    put(service, "/v1/products/fee", {"name": "Renamed"})
    again = service.client.get("/v1/totals?format=csv&period=2026&as_of=" + before["as_of"])

    assert again.content == csv.content
    assert totals(service)["checksum"] != before["checksum"]
    put(service, "/v1/products/fee", CATALOG["products"]["fee"])


def amounts(service: Service, period: str, as_of: str) -> dict[str, str]:
    """Amount by line."""
    found = pages(service, "/v1/totals", period=period, as_of=as_of, limit=7)
    return {line["line_id"]: line["amount"] for line in found}


def test_periods_add_up(service: Service) -> None:
    """A year is its quarters, its months, its days: each line is in exactly one of them."""
    as_of = totals(service)["as_of"]
    year = amounts(service, "2026", as_of)
    first = dt.date(2026, 1, 1)
    days = [str(first + dt.timedelta(days=day)) for day in range(120)]
    parts = (
        [f"2026-Q{quarter}" for quarter in range(1, 5)],
        [f"2026-{month:02d}" for month in range(1, 13)],
        days,
    )
    assert len(year) > 20
    for periods in parts:
        each = [amounts(service, period, as_of) for period in periods]
        assert sum(map(len, each)) == len(year)
        assert {line: amount for found in each for line, amount in found.items()} == year


def test_accounting_months(service: Service) -> None:
    """Arrears by the last day, advance by the first, once by the contract's first."""

    def months(contract: str) -> dict[tuple[str, str], str]:
        return {
            (line["product"], line["period_start"]): f"2026-{month:02d}"
            for month in range(1, 7)
            for line in totals(service, period=f"2026-{month:02d}", contract=contract)["items"]
        }

    acme = months("acme")
    assert acme["tokens", "2026-01-14T23:00:00Z"] == "2026-02"
    assert acme["fee", "2026-01-14T23:00:00Z"] == "2026-01"
    assert acme["fee", "2026-03-14T23:00:00Z"] == "2026-03"
    assert acme["setup", "2026-01-14T23:00:00Z"] == "2026-01"
    assert len([key for key in acme if key[0] == "setup"]) == 1
    assert ("fee", "2026-04-14T22:00:00Z") not in acme, "it has not begun"
    beta = months("beta")
    assert beta["tokens", "2026-03-01T00:00:00Z"] == "2026-03", "what was used so far"


def test_zeros_are_shown_on_demand(service: Service) -> None:
    """A line of nothing is left out unless asked for."""
    plain = totals(service, period="2026-03", contract="cafe")["items"]
    zeros = totals(service, period="2026-03", contract="cafe", zeros="true")["items"]
    assert [line for line in zeros if line in plain] == plain
    nothing = [line for line in zeros if line not in plain]
    assert nothing
    assert all(Decimal(line["amount"]) == Decimal(line["quantity"]) == 0 for line in nothing)


def test_pages_are_of_one_answer(service: Service) -> None:
    """An event between two pages changes neither the pages nor the checksum."""
    whole = totals(service)
    first = totals(service, limit=5)
    service.post("/v1/events", [event("between", subject="beta-1", time="2026-01-03T00:00:00Z")])
    second = totals(service, limit=1000, cursor=first["next_cursor"])

    assert second["as_of"] == first["as_of"]
    assert second["checksum"] == first["checksum"] == whole["checksum"]
    assert first["items"] + second["items"] == whole["items"]


def test_every_line_explains_itself(service: Service) -> None:
    """The explanation ends in the line's amount, and lists as many events as it counts."""
    for line in totals(service)["items"]:
        path = f"/v1/totals/{line['line_id']}"
        told = service.get(f"{path}/explain")
        assert (told["amount"], told["quantity"]) == (line["amount"], line["quantity"])
        assert told["event_count"] == line["event_count"]
        assert told["line"]["dimensions"] == line["dimensions"]
        assert told["price"]["version"] == line["price_version"]
        events = pages(service, f"{path}/events", limit=40)
        assert len({(each["node"], each["seq"]) for each in events}) == line["event_count"]
        if line["meter"] == "tokens":
            counted = sum(Decimal(each["value"]) for each in events)
            assert counted == Decimal(line["quantity"])


def test_graduated_tiers_by_hand(service: Service) -> None:
    """The tiers of one line, computed here: 100 at 0.1, the rest at 0.05, rounded half up."""
    lines = [line for line in totals(service)["items"] if line["product"] == "tokens"]
    assert len(lines) > 3
    for line in lines:
        quantity = Decimal(line["quantity"])
        exact = min(quantity, Decimal(100)) * Decimal("0.1") + max(
            quantity - 100, Decimal(0)
        ) * Decimal("0.05")
        assert Decimal(line["amount"]) == exact.quantize(Decimal("0.01"), "ROUND_HALF_UP")


def test_invoices_add_up(service: Service) -> None:
    """Drafts hold every line once; one per contract, timing and billing period."""
    invoices = pages(service, "/v1/invoices", period="2026", limit=3)
    lines = totals(service)["items"]
    names = [
        tuple(each[name] for name in ("contract", "timing", "period_start", "period_end"))
        for each in invoices
    ]

    assert len(set(names)) == len(names)
    assert {each["status"] for each in invoices} == {"draft"}
    for each in invoices:
        assert each.keys() == {
            "id", "number", "customer", "contract", "timing", "period_start", "period_end",
            "currency", "subtotal", "tax", "total", "status", "lines",
        }  # fmt: skip
        assert sum(Decimal(line["amount"]) for line in each["lines"]) == Decimal(each["subtotal"])
        assert Decimal(each["subtotal"]) + Decimal(each["tax"]) == Decimal(each["total"])
    billed = sorted(line["line_id"] for each in invoices for line in each["lines"])
    assert billed == sorted(line["line_id"] for line in lines)
    advance = pages(service, "/v1/invoices", period="2026", timing="advance", customer="beta")
    assert [each["total"] for each in advance] == ["20.00"] * 3


def test_usage_of_a_meter(service: Service) -> None:
    """One row for everything, whoever used it; windows and groups add up to it."""

    def rows(**params: str) -> list[dict[str, Any]]:
        return pages(service, "/v1/meters/tokens/usage", limit=50, **params)

    [whole] = rows(customer="beta")
    assert whole.keys() == {"value"}
    grouped = rows(customer="beta", group_by="model", window="1d")
    assert {row["dimensions"].get("model") for row in grouped} == {"gpt", "claude", None}
    assert sum(Decimal(row["value"]) for row in grouped) == Decimal(whole["value"])
    assert grouped[0].keys() == {"window_start", "window_end", "dimensions", "value"}
    berlin = rows(customer="beta", window="1d", timezone="Europe/Berlin")
    assert all(row["window_start"].endswith("T23:00:00Z") for row in berlin)
    assert "customer" in rows(group_by="customer")[0]


# Section 12: entitlements

OUTAGES = {"ledger_unavailable", "recovering"}


def consume(service: Service, key: str, *items: tuple[str, str], **more: Any) -> dict[str, Any]:
    """What consume answers for customer cafe; 200 expected.

    A machine that is busy for 50 ms is an outage of the ledger, and denied: then it asks again.
    """
    body = {"key": key, "items": [{"feature": f, "amount": a} for f, a in items]} | more
    for _ in range(20):
        answer = dict(service.post("/v1/customers/cafe/entitlements/consume", body))
        if not any(item["reason"] in OUTAGES for item in answer["items"]):
            break
    return answer


def balance(service: Service, feature: str) -> dict[str, Any]:
    """Where customer cafe stands, once nothing is held any more."""
    path = f"/v1/customers/cafe/entitlements/{feature}"
    found: dict[str, Any] = {}

    def settled() -> bool:
        answer = service.client.get(path)
        found.update(answer.json())
        return answer.status_code == 200 and found["held"] in {"0", None}

    wait_for(settled, what="settled", within_s=10)
    return found


def test_entitlements_from_the_pricebook(service: Service) -> None:
    """They appear when the contract starts: metered, boolean and static."""
    fields = {"feature", "has_access", "allowance", "used", "held", "balance", "overage",
              "resets_at", "grants", "as_of"}  # fmt: skip
    listed = pages(service, "/v1/customers/acme/entitlements", limit=1)
    by_name = {each["feature"]: each for each in listed}

    assert [each["feature"] for each in listed] == ["calls", "plan", "sso", "tokens"]
    assert all(each.keys() >= fields for each in listed)
    tokens = by_name["tokens"]
    assert (tokens["allowance"], tokens["has_access"]) == ("1000", True)
    assert tokens["resets_at"] == "2026-04-14T22:00:00Z", "the contract's month, in its zone"
    assert by_name["sso"]["has_access"] is True
    assert by_name["plan"]["value"] == "gold"


def test_consume_once_by_key(service: Service) -> None:
    """A retry gets the first answer and uses nothing; other content under the key is 409."""
    first = consume(service, "k1", ("tokens", "10"))
    assert first == {
        "allowed": True,
        "items": [{"feature": "tokens", "allowed": True, "balance": "990", "reason": None}],
    }
    assert consume(service, "k1", ("tokens", "10")) == first
    assert consume(service, "k1", ("tokens", "10.0")) == first
    path = "/v1/customers/cafe/entitlements/consume"
    body = {"key": "k1", "items": [{"feature": "tokens", "amount": "11"}]}
    other = service.client.post(path, json=body)
    assert (other.status_code, other.json()["code"]) == (409, "key_reused")
    assert balance(service, "tokens")["used"] == "10"
    used = [line for line in totals(service, contract="cafe")["items"]
            if line["product"] == "tokens"]  # fmt: skip
    assert [line["quantity"] for line in used] == ["10"], "what is consumed is billed"


def test_a_denial_is_an_answer(service: Service) -> None:
    """200 with the reason; all or nothing; the key may be tried again; soft limits let pass."""
    before = balance(service, "tokens")
    denied = consume(service, "k2", ("tokens", "100000"))
    both = consume(service, "k3", ("calls", "1"), ("tokens", "100000"))
    assert denied["allowed"] is False
    assert denied["items"][0]["reason"] == "insufficient"
    assert both["allowed"] is False
    assert {item["feature"]: item["allowed"] for item in both["items"]}["tokens"] is False
    assert balance(service, "tokens")["balance"] == before["balance"]
    assert balance(service, "calls")["used"] == "0"
    assert consume(service, "k2", ("tokens", "1"))["allowed"] is True
    soft = consume(service, "k4", ("calls", "5"))
    assert (soft["allowed"], soft["items"][0]["balance"]) == (True, "0"), soft
    assert balance(service, "calls")["overage"] == "2"


def test_what_is_not_consumable(service: Service) -> None:
    """Features that are not counted by a sum or count meter."""
    for feature in ("sso", "plan", "peak"):
        body = {"key": "k5", "items": [{"feature": feature, "amount": "1"}]}
        answer = service.client.post("/v1/customers/cafe/entitlements/consume", json=body)
        assert (answer.status_code, answer.json()["code"]) == (422, "not_consumable"), feature


def test_check_answers_in_order(service: Service) -> None:
    """Many customers at once, nothing consumed; no contract is no_entitlement."""
    before = balance(service, "tokens")
    items = [{"feature": "tokens", "amount": "1"}]
    checks = [{"customer": customer, "items": items} for customer in ("cafe", "old", "acme")]
    results = service.post("/v1/entitlements/check", {"checks": checks})["results"]

    assert [each["customer"] for each in results] == ["cafe", "old", "acme"]
    assert [each["allowed"] for each in results] == [True, False, True]
    assert results[1]["items"][0]["reason"] == "no_entitlement"
    assert balance(service, "tokens")["balance"] == before["balance"]


def test_ingested_usage_counts_and_may_go_over(service: Service) -> None:
    """A hard limit gates decisions, not facts."""
    used = Decimal(balance(service, "tokens")["used"])
    big = event("big", type="embedding", subject="cafe-1", data={"n": 5000})
    service.post("/v1/events", [big])
    wait_for(
        lambda: Decimal(balance(service, "tokens")["used"]) == used + 5000,
        what="used",
        within_s=10,
    )
    after = balance(service, "tokens")

    assert after["balance"] == "0"
    assert Decimal(after["overage"]) == used + 4000
    assert after["has_access"] is False
    assert consume(service, "k6", ("tokens", "1"))["allowed"] is False


# Section 13: HTTP


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


# Section 14: commands


def failing(service: Service, *args: str, url: str | None = None) -> tuple[int, str]:
    """Exit code and output of a command that is expected to fail."""
    done = subprocess.run(
        [sys.executable, "-m", "api.cli.main", *args],
        env=environment(url=url or service.url, key=service.key) | {"COLUMNS": "200"},
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert "Traceback" not in done.stderr, done.stderr
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("content", "where", "what"),
    [
        ("products:\n  q: {name: Q}\n  r:\n    name: R\n    colour: red\n", ":5", "colour"),
        ("products:\n  q: {name: Q, meter: none}\n", ":2", "none"),
        ("products:\n  q: {name: Q\n  r: [\n", ":3", ""),
        ("products:\n  q: {name: Q}\n  q: {name: R}\n", ":3", "twice"),
    ],
)
def test_a_wrong_file_is_named(
    service: Service, tmp_path: Path, content: str, where: str, what: str
) -> None:
    """File, line and field; exit 1; nothing of any file is applied."""
    right, wrong = tmp_path / "right.yaml", tmp_path / "wrong.yaml"
    right.write_text("products: {never: {name: Never}}\n")
    wrong.write_text(content)
    code, output = failing(service, "apply", str(right), str(wrong))

    assert code == 1
    assert f"wrong.yaml{where}" in output
    assert what in output
    assert service.client.get("/v1/products/never").status_code == 404


def test_prune_retires_what_the_files_leave_out(service: Service, tmp_path: Path) -> None:
    """A dry run shows it and changes nothing."""
    path = tmp_path / "one.yaml"
    path.write_text("products: {only: {name: Only}}\n")
    shown = cli(service, "apply", str(path), "--prune", "--dry-run")

    assert "- customers acme" in shown
    assert "nothing was changed" in shown
    assert service.client.get("/v1/customers/acme").status_code == 200


def test_an_import_counts_once(service: Service, tmp_path: Path) -> None:
    """The second time everything is a duplicate, and the output says so."""
    rows, mapping = tmp_path / "rows.csv", tmp_path / "map.yaml"
    rows.write_text("who,n,at\nhe,1,2026-03-01T00:00:00Z\nshe,2,2026-03-02T00:00:00Z\n")
    mapping.write_text(
        "id: 'row-{row}'\nsource: rows\ntype: embedding\nsubject: '{who}'\n"
        "time: {column: at, unit: rfc3339}\ndata: {n: n}\n"
    )
    first = cli(service, "import", str(rows), "--map", str(mapping))
    second = cli(service, "import", str(rows), "--map", str(mapping))
    assert re.search(r"accepted.*duplicates.*rejected(.|\n)* 2 \W+ 0 \W+ 0 ", first), first
    assert re.search(r"accepted.*duplicates.*rejected(.|\n)* 0 \W+ 2 \W+ 0 ", second), second
    assert "Nothing changed" in second


def test_commands_show_every_format(service: Service) -> None:
    """Tables for people, the service's own bytes for programs."""
    query = ("--period", "2026-02", "--contract", "acme")
    table, text = cli(service, "totals", *query), cli(service, "totals", *query, "--format", "json")
    csv = cli(service, "totals", *query, "--format", "csv")
    rows = json.loads(text)["items"]

    assert rows[0]["amount"] in table
    assert csv.startswith("line_id,customer,contract")
    assert len(csv.splitlines()) == len(rows) + 1
    explained = cli(service, "explain", rows[0]["line_id"])
    assert rows[0]["amount"] in explained
    invoices = json.loads(cli(service, "invoices", *query, "--format", "json"))
    shown = cli(service, "invoices", *query)
    assert all(each["total"] in shown for each in invoices)


def test_commands_say_what_is_wrong(service: Service) -> None:
    """A wrong period, a service that is down, an address that is none: one clear line."""
    assert failing(service, "totals", "--period", "2026-99")[0] == 1
    assert "no line" in failing(service, "explain", "nothing")[1]
    code, output = failing(service, "totals", "--period", "2026", url="http://127.0.0.1:1")
    assert (code, "nothing answers at http://127.0.0.1:1" in output) == (2, True)
    code, output = failing(service, "totals", "--period", "2026", url="nonsense")
    assert (code, "TALLYMAN_URL" in output) == (2, True)


def test_the_clock_moves_forwards_only(service: Service) -> None:
    """Last, because it cannot be moved back: the new month's fee is due at once."""
    ahead = service.post("/v1/admin/clock", {"now": "2026-04-02T00:00:00+02:00"})
    back = service.client.post("/v1/admin/clock", json={"now": NOW})
    april = totals(service, period="2026-04", contract="beta")["items"]

    assert ahead["now"] == "2026-04-01T22:00:00Z"
    assert (back.status_code, back.json()["code"]) == (409, "clock_backwards")
    assert [(line["product"], line["amount"]) for line in april] == [("fee", "20.00")]
    assert service.post("/v1/admin/verify", None)["ok"] is True
