"""Entitlements over HTTP, as the gateway answers them: shapes, bad input, readings."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import httpx
import polars as pl
import pytest

from api.hot.checks import CheckEntitlements
from api.hot.dispatch import Dispatcher, Hot, Routes
from api.hot.entitlements import PATHS, ConsumeEntitlements, ReadEntitlements
from api.hot.reservations import PATHS as RESERVATION_PATHS
from api.hot.reservations import ReleaseEntitlements, ReserveEntitlements, SettleEntitlements
from api.hot.usage_sink import LogSink
from entitlements.decisions import Decisions
from entitlements.reservations import Reservations
from ingest.batch import APPENDED, Checked
from ingest.commit import Backpressure
from ingest.extract import extract_facts
from storage.memory.ledger import MemoryLedger
from tests.api.both_ways import BothWays
from tests.ledger_world import CALLS, PLAN, SEATS, World, catalog, contract, right, soft


@dataclass
class Outcome:
    rejected: list[Any] = field(default_factory=list)


class Pipeline:
    """Takes frames as the gateway's pipeline does, and counts them."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.frames: list[pl.DataFrame] = []

    async def submit(self, body: Checked, *, atomic: bool) -> Outcome:
        events = pl.DataFrame(body.records)
        self.frames.append(events)
        for row in events.iter_rows(named=True):
            self.world.tail.append(row)
        return Outcome()

    async def append(self, records: pl.DataFrame) -> None:
        assert records.schema == APPENDED
        self.frames.append(records)
        for row in records.iter_rows(named=True):
            self.world.tail.append(row)


class Edge:
    """The gateway's front door over a memory ledger, without keys."""

    def __init__(self, world: World, *, express: bool = False) -> None:
        self.world = world
        self.pipeline = Pipeline(world)
        self.sink = LogSink(
            self.pipeline.submit,
            self.pipeline.append,
            logged=lambda: world.tail.durable().received_at,
        )
        parts: dict[str, Any] = {
            "ledger": world.ledger,
            "schedules": world.schedules,
            "clock": world.clock,
            "sink": self.sink,
        }
        decisions, reservations = Decisions(**parts), Reservations(**parts)
        read = ReadEntitlements(ledger=world.ledger, schedules=world.schedules, clock=world.clock)
        handlers = {
            "consume": ConsumeEntitlements(decisions=decisions),
            "check": CheckEntitlements(checks=decisions.checks),
            "list": read,
            "read": read,
            "reserve": ReserveEntitlements(decisions=decisions),
            "settle": SettleEntitlements(reservations=reservations),
            "release": ReleaseEntitlements(reservations=reservations),
        }
        paths = PATHS | RESERVATION_PATHS
        app = Dispatcher(
            routes=Routes(
                Hot(method=paths[name][0], path=paths[name][1], handler=handler, open=True)
                for name, handler in handlers.items()
            ),
            fallback=_nothing,
            keyring=lambda: None,
            look_again=lambda: None,
            observe=lambda *_: None,
        )

        async def with_state(scope, receive, send):
            scope["state"] = {}
            await app(scope, receive, send)

        transport: httpx.AsyncBaseTransport = httpx.ASGITransport(with_state)
        if express:
            routes = [(*paths[name], handler) for name, handler in handlers.items()]
            transport = BothWays(routes, with_state)
        self.client = httpx.AsyncClient(transport=transport, base_url="http://test")

    async def consume(self, body: Any, customer: str = "acme") -> httpx.Response:
        return await self.post("consume", body, customer)

    async def post(self, verb: str, body: Any, customer: str = "acme") -> httpx.Response:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        path = f"/v1/customers/{customer}/entitlements/{verb}"
        return await self.client.post(path, content=content)

    async def get(self, path: str = "", customer: str = "acme") -> httpx.Response:
        return await self.client.get(f"/v1/customers/{customer}/entitlements{path}")


async def _nothing(scope, receive, send):
    raise AssertionError("only hot routes are asked for here")


@pytest.fixture(params=["asgi", "express"])
def edge(request) -> Edge:
    ledger = MemoryLedger()
    rights = [
        right(amount="100.5"),
        soft(right(CALLS, "5")),
        right(SEATS, None, value="true", every_months=None),
        right(PLAN, None, value="gold", every_months=None),
    ]
    world = World(ledger=ledger, writer=ledger, state=catalog(contract("k", *rights)))
    world.follow()
    return Edge(world, express=request.param == "express")


def one(amount: object = "10", key: str = "k1", **more: object) -> dict[str, Any]:
    return {"items": [{"feature": "tokens", "amount": amount, **more}], "key": key}


async def test_consume_answers_and_records_an_event_the_meter_counts(edge: Edge) -> None:
    """The answer's shape, and one event whose value and dimensions the meter reads back."""
    body = one("10.25", dimensions={"model": "gpt-4"}) | {"data": {"note": "x"}}
    response = await edge.consume(body)
    assert response.status_code == 200
    assert response.json() == {
        "allowed": True,
        "items": [{"feature": "tokens", "allowed": True, "balance": "90.25", "reason": None}],
    }
    [frame] = edge.pipeline.frames
    row = frame.row(0, named=True)
    assert (row["source"], row["type"], row["subject"]) == ("tallyman", "llm", "acme")
    meter = edge.world.catalog.meters["m_tokens"].last
    [fact] = extract_facts(
        edge.world.tail.records, [meter.fact_spec], node=edge.world.tail.node
    ).iter_rows(named=True)
    assert (fact["value"], fact["dimensions"]) == (Decimal("10.25"), '{"model":"gpt-4"}')
    assert json.loads(row["data"])["note"] == "x"


async def test_a_denial_is_a_200_with_reason_and_balance(edge: Edge) -> None:
    """What is left is told; nothing is recorded."""
    response = await edge.consume(one("100.500000001"))
    assert (response.status_code, response.json()["allowed"]) == (200, False)
    assert response.json()["items"][0] == {
        "feature": "tokens",
        "allowed": False,
        "balance": "100.5",
        "reason": "insufficient",
    }
    assert edge.pipeline.frames == []


async def test_a_count_meter_gets_an_event_for_each_unit(edge: Edge) -> None:
    """Seven calls are seven events in one frame, and settle one hold."""
    items = {"items": [{"feature": "calls", "amount": 7}], "key": "k"}
    assert (await edge.consume(items)).json()["items"][0]["balance"] == "0"
    [frame] = edge.pipeline.frames
    assert frame.height == frame["id"].n_unique() == 7
    edge.world.follow()
    shown = (await edge.get("/calls")).json()
    assert (shown["used"], shown["held"], shown["overage"]) == ("7", "0", "2")


async def test_concurrent_consumes_share_one_frame(edge: Edge) -> None:
    """One loop turn's events go to the log together."""
    answers = await asyncio.gather(*(edge.consume(one("1", f"k{n}")) for n in range(30)))
    assert all(answer.json()["allowed"] for answer in answers)
    assert len(edge.pipeline.frames) < 30


async def test_key_reused_is_a_conflict(edge: Edge) -> None:
    """The same key with another amount is 409, with the same amount the first answer."""
    first = await edge.consume(one("1"))
    assert (await edge.consume(one("1"))).json() == first.json()
    again = await edge.consume(one("2"))
    assert (again.status_code, again.json()["code"]) == (409, "key_reused")


async def test_batch_check_answers_in_order(edge: Edge) -> None:
    """One result a check, whatever the customer's luck; nothing is consumed."""
    body = {
        "checks": [
            {"customer": "acme", "items": [{"feature": "tokens", "amount": "5"}]},
            {"customer": "bolt", "items": [{"feature": "tokens"}]},
            {"customer": "nobody knows", "items": [{"feature": "tokens"}, {"feature": "seats"}]},
            {"customer": "acme", "items": [{"feature": "seats"}, {"feature": "plan"}]},
        ]
    }
    response = await edge.client.post("/v1/entitlements/check", json=body)
    results = response.json()["results"]
    assert [(r["customer"], r["allowed"]) for r in results] == [
        ("acme", True),
        ("bolt", False),
        ("nobody knows", False),
        ("acme", True),
    ]
    assert results[0]["items"][0]["balance"] == "100.5"
    assert results[1]["items"][0]["reason"] == "no_entitlement"
    assert [item["reason"] for item in results[2]["items"]] == ["no_entitlement"] * 2


async def test_balances_are_listed_and_read(edge: Edge) -> None:
    """Decimals are strings, times are UTC, null is unlimited or nothing to count."""
    await edge.consume(one("0.5"))
    edge.world.follow()
    shown = (await edge.get("/tokens")).json()
    grant = shown.pop("grants")[0]
    as_of = shown.pop("as_of")
    assert shown == {
        "feature": "tokens",
        "has_access": True,
        "allowance": "100.5",
        "used": "0.5",
        "held": "0",
        "balance": "100",
        "overage": "0",
        "resets_at": "2026-12-01T00:00:00Z",
    }
    assert (grant["amount"], grant["remaining"]) == ("100.5", "100")
    assert as_of.startswith("2026-11-01T")
    listed = (await edge.get()).json()
    assert [item["feature"] for item in listed["items"]] == ["calls", "plan", "seats", "tokens"]
    assert listed["items"][1]["value"] == "gold"
    assert listed["next_cursor"] is None


BAD = {
    "negative": (one("-1"), 422, "invalid_request"),
    "zero": (one("0"), 422, "invalid_request"),
    "ten decimals": (one("1.0000000001"), 422, "invalid_request"),
    "a float": (one(1.5), 422, "invalid_request"),
    "a 64-digit number": (one(10**63), 422, "out_of_range"),
    "text": (one("many"), 422, "invalid_request"),
    "no amount": ({"items": [{"feature": "tokens"}], "key": "k"}, 422, "invalid_request"),
    "no items": ({"items": [], "key": "k"}, 422, "invalid_request"),
    "no key": ({"items": []}, 422, "invalid_request"),
    "empty key": (one(key=""), 422, "invalid_request"),
    "a key of 10 kB": (one(key="k" * 10_240), 422, "invalid_request"),
    "unknown field": (one() | {"colour": "red"}, 422, "invalid_request"),
    "unknown dimension": (one(dimensions={"colour": "red"}), 422, "invalid_request"),
    "unknown feature": ({"items": [{"feature": "x", "amount": 1}], "key": "k"}, 404, "not_found"),
    "not consumable": (
        {"items": [{"feature": "seats", "amount": 1}], "key": "k"},
        422,
        "not_consumable",
    ),
    "foreign subject": (one() | {"subject": "bolt"}, 422, "invalid_request"),
    "inexact data": (
        b'{"items":[{"feature":"tokens","amount":"1"}],"key":"k","data":{"x":0.10000000000000000001}}',
        422,
        "invalid_request",
    ),
    "huge integer in data": (one() | {"data": {"x": 10**64}}, 422, "invalid_request"),
    "the service's own member": (one() | {"data": {"tallyman": {}}}, 422, "invalid_request"),
    "deep data": (one() | {"data": {"x": json.loads("[" * 50 + "]" * 50)}}, 422, "invalid_request"),
    "data in the value's way": (
        one(dimensions={"model": "m"}) | {"data": {"model": 3}},
        422,
        "invalid_request",
    ),
    "not JSON": (b"{", 400, "unreadable_body"),
    "lone surrogate": (b'{"items":[],"key":"\\ud800"}', 400, "unreadable_body"),
    "not UTF-8": (b'{"items":[],"key":"\xff"}', 400, "unreadable_body"),
    "empty": (b"", 400, "unreadable_body"),
    "2 MiB": (b" " * 2**21, 413, "body_too_large"),
}


@pytest.mark.parametrize("name", BAD)
async def test_bad_input_is_a_clear_problem(edge: Edge, name: str) -> None:
    """Never a 500, never partly done: a status, a stable code, and nothing recorded."""
    body, status, code = BAD[name]
    response = await edge.consume(body)
    assert (response.status_code, response.json()["code"]) == (status, code)
    assert edge.pipeline.frames == []
    assert (await edge.get("/tokens")).json()["held"] == "0"


async def test_a_wrong_field_is_pointed_at(edge: Edge) -> None:
    """The problem names the place in the body."""
    wrong_type = {"items": [{"feature": "tokens", "amount": "1"}, {"feature": 7}], "key": "k"}
    assert (await edge.consume(wrong_type)).json()["errors"][0]["pointer"] == "/items/1/feature"
    negative = (await edge.consume(one("-1"))).json()
    assert negative["errors"][0]["pointer"] == "/items/0/amount"


async def test_unknown_customers_features_and_parameters(edge: Edge) -> None:
    """404 for what is not there, 422 for a query parameter."""
    assert (await edge.consume(one(), customer="nobody")).status_code == 404
    assert (await edge.get(customer="nobody")).status_code == 404
    assert (await edge.get("/nothing")).status_code == 404
    assert (await edge.get("/tokens?colour=red")).status_code == 422


def held(amount: Any = "30", key: str = "r1", **more: Any) -> dict[str, Any]:
    """A reserve of tokens for a minute."""
    return {"items": [{"feature": "tokens", "amount": amount}], "key": key, "ttl_s": 60} | more


async def test_reserve_settle_and_release_over_http(edge: Edge) -> None:
    """Held, then used, the rest free; without items a settle takes all that is held."""
    reserved = (await edge.post("reserve", held())).json()
    assert reserved["allowed"]
    assert reserved["items"][0]["balance"] == "70.5"
    assert (await edge.post("reserve", held())).json() == reserved
    used = {"reservation": reserved["reservation"], "items": [{"feature": "tokens", "amount": 12}]}
    settled = (await edge.post("settle", used)).json()
    assert settled == {
        "reservation": reserved["reservation"],
        "allowed": True,
        "items": [{"feature": "tokens", "allowed": True, "balance": "88.5", "reason": None}],
    }
    assert (await edge.post("settle", used)).json() == settled
    other = (await edge.post("reserve", held(key="r2"))).json()["reservation"]
    assert (await edge.post("release", {"reservation": other})).json() == {
        "reservation": other,
        "released": True,
    }
    whole = (await edge.post("reserve", held(key="r3"))).json()["reservation"]
    settled = (await edge.post("settle", {"reservation": whole})).json()
    assert settled["items"][0]["balance"] == "58.5"
    edge.world.follow()
    assert (await edge.get("/tokens")).json()["used"] == "42"


async def test_a_denied_reserve_is_a_200_without_reservation(edge: Edge) -> None:
    """The reason and what is left are in the answer, as for consume."""
    denied = await edge.post("reserve", held("101"))
    assert denied.status_code == 200
    assert denied.json() == {
        "reservation": None,
        "allowed": False,
        "items": [
            {"feature": "tokens", "allowed": False, "balance": "100.5", "reason": "insufficient"}
        ],
    }


async def test_the_ends_of_a_reservation_are_conflicts(edge: Edge) -> None:
    """409 reservation_ended and reservation_expired; 404 for what never was."""
    first = await edge.post("reserve", held())
    name = {"reservation": first.json()["reservation"]}
    await edge.post("release", name)
    ended = await edge.post("settle", name)
    assert (ended.status_code, ended.json()["code"]) == (409, "reservation_ended")
    second = (await edge.post("reserve", held(key="r2"))).json()["reservation"]
    edge.world.clock.set(edge.world.clock.now_us() + 60_000_000)
    expired = await edge.post("settle", {"reservation": second})
    assert (expired.status_code, expired.json()["code"]) == (409, "reservation_expired")
    assert (await edge.post("release", {"reservation": second})).status_code == 200
    for verb in ("settle", "release"):
        assert (await edge.post(verb, {"reservation": "nothing"})).status_code == 404
        assert (await edge.post(verb, name, customer="bolt")).status_code == 404


BAD_RESERVES = {
    "a TTL of a year": (held(ttl_s=365 * 86_400), "/ttl_s"),
    "a TTL of nothing": (held(ttl_s=0), "/ttl_s"),
    "a TTL of half a second": (held(ttl_s=0.5), "/ttl_s"),
    "a key of 10 kB": (held(key="k" * 10_240), "/key"),
    "a negative amount": (held("-1"), "/items/0/amount"),
    "ten decimals": (held("0.0000000001"), "/items/0/amount"),
    "no items": (held() | {"items": []}, "/items"),
}


@pytest.mark.parametrize("name", BAD_RESERVES)
async def test_bad_reserves_are_pointed_at(edge: Edge, name: str) -> None:
    """422 with the place in the body, and nothing held."""
    body, pointer = BAD_RESERVES[name]
    answer = await edge.post("reserve", body)
    assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, pointer)
    assert edge.pipeline.frames == []


async def test_bad_settles_are_refused(edge: Edge) -> None:
    """Unknown features, amounts that are none, fields that are not there."""
    name = (await edge.post("reserve", held())).json()["reservation"]
    for item, status in [
        ({"feature": "calls", "amount": "1"}, 422),
        ({"feature": "tokens", "amount": "-1"}, 422),
        ({"feature": "tokens"}, 422),
        ({"feature": "tokens", "amount": "1", "dimensions": {"colour": "red"}}, 422),
    ]:
        answer = await edge.post("settle", {"reservation": name, "items": [item]})
        assert answer.status_code == status, answer.text
    for body in ({"reservation": name, "colour": 1}, {"reservation": ""}, {"reservation": 1}):
        assert (await edge.post("settle", body)).status_code == 422
        assert (await edge.post("release", body)).status_code == 422
    assert (await edge.post("settle", {"reservation": name})).json()["allowed"]


async def test_checks_of_one_turn_get_their_own_answers(edge: Edge) -> None:
    """What one of them asks wrongly, or must wait for, is nobody else's concern."""

    async def ask(customer: str, feature: str, amount: str) -> httpx.Response:
        item = {"feature": feature, "amount": amount}
        body = {"checks": [{"customer": customer, "items": [item]}]}
        return await edge.client.post("/v1/entitlements/check", json=body)

    asked = [("acme", "tokens", str(n)) for n in range(99, 103)]
    asked += [("acme", "nothing", "1"), ("nobody", "tokens", "1"), ("acme", "tokens", "-1")]
    answers = await asyncio.gather(*(ask(*one) for one in asked * 3))
    allowed = [[one["allowed"] for one in answer.json().get("results", ())] for answer in answers]
    assert allowed == [[True], [True], [False], [False], [], [False], []] * 3
    assert [answer.status_code for answer in answers] == [200, 200, 200, 200, 404, 200, 422] * 3
    assert all(
        answer.json()["results"][0]["customer"] == customer
        for answer, (customer, _, _) in zip(answers, asked * 3, strict=True)
        if answer.status_code == 200
    )


async def test_consumes_of_one_turn_get_their_own_answers(edge: Edge) -> None:
    """Allowed, denied, known, reused or wrong: each alone, whoever came with it; none twice."""
    await edge.consume(one("1", "known"))
    asked = [one("50", "a"), one("1", "known"), one("2", "known"), one("200", "b"), one("-1", "c")]
    asked += [one("1", "d", dimensions={"model": "m"}), one("1", "d2"), one("1", "d2")]
    answers = await asyncio.gather(*map(edge.consume, asked))
    statuses = [answer.status_code for answer in answers]
    assert statuses == [200, 200, 409, 200, 422, 200, 200, 200]
    allowed = [answer.json().get("allowed") for answer in answers]
    assert allowed == [True, True, None, False, None, True, True, True]
    assert answers[6].json() == answers[7].json(), "one key twice in one turn"
    read = (await edge.get("/tokens")).json()
    assert read["balance"] == "47.5", "100.5 - 1 - 50 - 1 - 1"
    ids = [row["id"] for frame in edge.pipeline.frames for row in frame.iter_rows(named=True)]
    assert len(set(ids)) == 4


async def test_a_log_that_refuses_a_turn_is_told_to_those_it_was_for(edge: Edge) -> None:
    """Denials stand; what was to be recorded is 503, and may be sent again."""

    async def refuse(body: Checked, *, atomic: bool) -> Outcome:
        raise Backpressure("full")

    submit = edge.sink._submit
    edge.sink._submit = refuse
    asked = [one("1", "a"), one("200", "b"), one("2", "c")]
    answers = await asyncio.gather(*map(edge.consume, asked))
    assert [answer.status_code for answer in answers] == [503, 200, 503]
    assert not answers[1].json()["allowed"]
    edge.sink._submit = submit
    answers = await asyncio.gather(*map(edge.consume, asked))
    assert [answer.json()["allowed"] for answer in answers] == [True, False, True]
    assert (await edge.get("/tokens")).json()["balance"] == "97.5"


async def test_a_plan_that_was_kept_follows_the_catalog(edge: Edge) -> None:
    """The same request after a change: another subject, another allowance, no contract at all."""

    async def both(key: str) -> tuple[dict[str, Any], dict[str, Any], str]:
        checked = await edge.client.post(
            "/v1/entitlements/check",
            json={"checks": [{"customer": "acme", "items": one()["items"]}]},
        )
        consumed = (await edge.consume(one(key=key))).json()
        subject = edge.world.tail.records["subject"][-1]
        return checked.json()["results"][0]["items"][0], consumed["items"][0], subject

    checked, consumed, subject = await both("a")
    assert (checked["balance"], consumed["balance"], subject) == ("100.5", "90.5", "acme")
    subjects = {"acme": ("other", "acme"), "bolt": ("bolt",)}
    edge.world.state(contract("k", right(amount="50.5")), customers=subjects)
    edge.world.follow()
    checked, consumed, subject = await both("b")
    assert (checked["balance"], consumed["balance"], subject) == ("40.5", "30.5", "other")
    edge.world.state()
    edge.world.follow()
    checked, consumed, _ = await both("c")
    assert (checked["reason"], consumed["reason"]) == ("no_entitlement",) * 2
