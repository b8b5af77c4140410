"""Quotes and simulations over HTTP, on a real log, facts and catalog: answers, refusals, traces."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import pytest

from api.application import create_app
from api.parts import Worker
from api.quotes import Quotes
from api.routes import quotes, simulations
from api.simulations import Simulations
from catalog.clock import to_micros
from rating.support import unsupported
from tests.time_machine import World

NOW = to_micros(datetime(2026, 2, 10, tzinfo=UTC))
HEADERS = {"x-tallyman-key-id": "k", "x-tallyman-scopes": "finance", "x-request-id": "r"}
TIERS = [{"up_to": "100", "unit_price": "0.5"}, {"unit_price": "0.1"}]
MONTHLY = {"timing": "arrears", "every_months": 1}
METERS: dict[str, Any] = {
    aggregation: {"event_type": "call", "aggregation": aggregation, "value": "data.n"}
    for aggregation in ("sum", "max", "min", "average", "latest", "unique_count", "weighted_sum")
}
METERS["count"] = {"event_type": "call", "aggregation": "count"}
METERS["percentile"] = METERS["max"] | {"aggregation": "percentile", "percentile": "95"}
METERS["sum"]["dimensions"] = {"region": "data.region"}


def per_unit(product: str, unit_price: str, **terms: Any) -> dict[str, Any]:
    """A price by the unit."""
    return {"product": product, "charge": {"model": "per_unit", "unit_price": unit_price}} | terms


LIST = [
    {"product": "sum", "charge": {"model": "graduated", "tiers": TIERS}},
    {
        "product": "fee",
        "charge": {"model": "flat", "amount": "49"},
        "invoicing": {"timing": "advance", "every_months": 1},
    },
]
CATALOG: dict[str, Any] = {
    "meters": METERS,
    "products": {name: {"name": name, "meter": name} for name in METERS} | {"fee": {"name": "f"}},
    "pricebooks": {"b": {"currency": "USD", "invoicing": MONTHLY, "prices": LIST}},
    "customers": {
        "acme": {"name": "A", "subjects": ["acme"]},
        "bolt": {"name": "B", "subjects": ["bolt"]},
    },
    "contracts": {
        "ka": {"customer": "acme", "pricebook": "b", "start": "2026-01-01"},
        "kb": {"customer": "bolt", "pricebook": "b", "start": "2026-01-01"},
    },
}
EVENTS = [
    {
        "id": f"e{n}", "source": "s", "type": "call", "subject": subject,
        "time": f"2026-01-{n + 1:02}T00:00:00Z", "data": {"n": n * 10, "region": "eu"},
    }
    for n, subject in enumerate(["acme", "bolt", "acme", "acme", "bolt"])
]  # fmt: skip
CHEAPER = copy.deepcopy(CATALOG["pricebooks"]["b"])
CHEAPER["prices"][0]["charge"]["tiers"][0]["unit_price"] = "0.4"


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """Two customers, five events."""
    with World(tmp_path, now_us=NOW) as world:
        world.apply(CATALOG)
        assert world.send(EVENTS) == len(EVENTS)
        world.seal()
        yield world


@pytest.fixture
async def client(world: World) -> AsyncIterator[httpx.AsyncClient]:
    """The worker's application with the two routes."""
    shared = {
        "catalogs": world.statements,
        "source": world.facts,
        "freshness": world.settling,
        "unsupported": unsupported,
    }
    app = create_app(
        Worker(
            socket=Path("unused"),
            routers=(
                quotes.build_router(quotes=Quotes(**shared)),
                simulations.build_router(simulations=Simulations(**shared, specs=world.specs)),
            ),
        ),
        version="1",
    )
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(
        transport=transport, base_url="http://w", headers=HEADERS
    ) as client:
        yield client


async def posted(client: httpx.AsyncClient, path: str, status: int = 200, **body: Any) -> Any:
    """What posting ``body`` answers."""
    answer = await client.post(path, json=body)
    assert answer.status_code == status, answer.text
    return answer.json()


async def test_a_simulation_compares_customers_products_and_totals(client: httpx.AsyncClient):
    """Acme used 50, bolt 50: ten cents less for each of them, and the fee as it was."""
    patch = {"pricebooks": {"b": CHEAPER}}
    told = await posted(client, "/v1/simulations", period="2026-01", patch=patch)
    assert told["items"] == [
        {
            "customer": name, "currency": "USD",
            "before": "74.00", "after": "69.00", "difference": "-5.00",
        }
        for name in ("acme", "bolt")
    ]  # fmt: skip
    assert [(p["product"], p["difference"]) for p in told["products"]] == [
        ("fee", "0.00"),
        ("sum", "-10.00"),
    ]
    assert told["totals"] == {
        "USD": {"before": "148.00", "after": "138.00", "difference": "-10.00"}
    }
    assert (told["contracts_touched"], told["event_count"]) == (2, 5)
    assert told["changes"] == [{"kind": "pricebooks", "id": "b", "action": "update"}]
    one = await posted(client, "/v1/simulations", period="2026-01", patch=patch, customers=["bolt"])
    assert [item["customer"] for item in one["items"]] == ["bolt"]
    assert one["contracts_touched"] == 1


async def test_neither_changes_anything(client: httpx.AsyncClient, world: World):
    """Catalog, log, readers and totals are after it what they were before, to the byte."""

    def state() -> tuple[object, ...]:
        totals = world.facts.keys, world.reader.positions(), world.log.next_seq
        return world.statements.revision(), *totals, world.statements.current()

    before = state()
    contract = {"pricebook": "b", "start": "2026-01-01"}
    for _ in range(2):
        await posted(
            client, "/v1/simulations", period="2026-01", patch={"pricebooks": {"b": CHEAPER}}
        )
        history = {"customer": "acme", "period": "2026-01"}
        await posted(client, "/v1/quotes", contract=contract, history=history)
    assert state() == before


@pytest.mark.parametrize(
    ("body", "code", "pointer"),
    [
        ({"period": "2020-01", "patch": {"pricebooks": {"b": CHEAPER}}}, "no_data", None),
        ({"period": "2026-13", "patch": {}}, "invalid_request", "/period"),
        ({"period": "2026-01", "patch": {}}, "invalid_request", "/patch"),
        ({"period": "2026-01"}, "invalid_request", "/patch"),
        ({"period": "2026-01", "patch": [1]}, "invalid_document", "/patch"),
        (
            {"period": "2026-01", "patch": {"pricebooks": {"b": CHEAPER | {"currency": "X"}}}},
            "invalid_document",
            "/patch/pricebooks/b/currency",
        ),
        (
            {"period": "2026-01", "patch": {"contracts": {"ka": {"customer": "gone"}}}},
            "invalid_document",
            "/patch/contracts/ka",
        ),
        (
            {"period": "2026-01", "patch": {"pricebooks": {"b": CHEAPER}}, "customers": ["x"]},
            "invalid_request",
            "/customers/0",
        ),
        (
            {"period": "2026-01", "patch": {"pricebooks": {"b": CHEAPER}}, "customers": []},
            "invalid_request",
            "/customers",
        ),
        (
            {
                "period": "2026-01",
                "patch": {"pricebooks": {"b": CHEAPER}},
                "as_of": "2099-01-01T00:00:00Z",
            },
            "as_of_in_future",
            None,
        ),
        (
            {"period": "2026-01", "patch": {"pricebooks": {"b": CHEAPER}}, "as_of": "today"},
            "invalid_request",
            "/as_of",
        ),
        (
            {
                "period": "2026-01",
                "patch": {"meters": {"sum": METERS["sum"] | {"value": "data.x"}}},
            },
            "meter_not_read",
            "/patch/meters/sum",
        ),
    ],
)
async def test_a_simulation_that_cannot_be_is_refused(
    client: httpx.AsyncClient, body: dict[str, Any], code: str, pointer: str | None
):
    """Every answer names the place, where there is one."""
    told = await posted(client, "/v1/simulations", 422, **body)
    assert told["code"] == code
    if pointer is not None:
        assert pointer in {error["pointer"] for error in told["errors"]}


async def test_a_period_with_fees_and_no_usage_says_so(client: httpx.AsyncClient):
    """Fees can be compared; that nothing was used is not kept silent."""
    patch = {"pricebooks": {"b": CHEAPER}}
    told = await posted(client, "/v1/simulations", period="2026-02", patch=patch)
    assert told["totals"]["USD"]["difference"] == "0.00"
    assert "no usage was counted in 2026-02" in told["warnings"][0]


async def test_a_patch_of_what_is_so_already_says_so(client: httpx.AsyncClient):
    """The same pricebook again: nothing is rated again, and a note says why."""
    patch = {"pricebooks": CATALOG["pricebooks"]}
    told = await posted(client, "/v1/simulations", period="2026-01", patch=patch)
    assert told["contracts_touched"] == 0
    assert told["totals"]["USD"]["difference"] == "0.00"
    assert told["warnings"] == ["the patch changes nothing: the catalog says all of it already"]


async def test_an_uncovered_line_is_named(client: httpx.AsyncClient):
    """What the patched price does not cover is refused, with customer, contract and price."""
    bounded = {"model": "volume", "tiers": [{"up_to": "10", "unit_price": "1"}]}
    prices = [{"product": "sum", "charge": bounded}, LIST[1]]
    patch = {"pricebooks": {"b": CHEAPER | {"prices": prices}}}
    told = await posted(client, "/v1/simulations", 422, period="2026-01", patch=patch)
    assert told["code"] == "quantity_not_covered"
    assert [(line["customer"], line["price"]) for line in told["lines"]] == [
        ("acme", "sum"),
        ("bolt", "sum"),
    ]


@pytest.mark.parametrize("aggregation", sorted(METERS))
async def test_a_quantity_of_any_aggregation_is_priced_as_given(
    client: httpx.AsyncClient, aggregation: str
):
    """7 of anything at 2.00 is 14.00, and the line looks as it would in the totals."""
    contract = {
        "currency": "USD", "invoicing": MONTHLY, "start": "2026-03-01",
        "prices": [per_unit(aggregation, "2")],
    }  # fmt: skip
    usage = [{"meter": aggregation, "period": "2026-03", "quantity": "7"}]
    told = await posted(client, "/v1/quotes", contract=contract, usage=usage)
    (line,) = told["invoices"][0]["lines"]
    assert (line["quantity"], line["amount"], line["kind"]) == ("7", "14.00", "usage")
    assert (told["total"], told["currency"]) == ("14.00", "USD")


async def test_quantities_of_several_periods_meet_in_the_line_they_are_in(
    client: httpx.AsyncClient,
):
    """Sums add up, a maximum is the largest; of averages it cannot be said."""
    contract = {
        "currency": "USD", "invoicing": MONTHLY, "start": "2026-03-01",
        "prices": [per_unit(name, "1") for name in ("sum", "max", "latest", "average")],
    }  # fmt: skip

    def days(meter: str) -> list[dict[str, Any]]:
        found = [("2026-03-02", "5"), ("2026-03-20", "3"), ("2026-04", "2")]
        return [{"meter": meter, "period": p, "quantity": q} for p, q in found]

    usage = [*days("sum"), *days("max"), *days("latest")]
    told = await posted(client, "/v1/quotes", contract=contract, usage=usage)
    march, april = told["invoices"]
    assert {line["product"]: line["amount"] for line in march["lines"]} == {
        "sum": "8.00",
        "max": "5.00",
        "latest": "3.00",
    }
    assert april["total"] == "6.00"
    told = await posted(client, "/v1/quotes", 422, contract=contract, usage=days("average"))
    assert told["code"] == "not_quotable"


async def test_a_quote_of_history_bills_what_the_terms_would_have(client: httpx.AsyncClient):
    """Acme's January under new terms, and under bolt's contract by its id."""
    contract = {
        "pricebook": "b", "start": "2026-01-01",
        "prices": [per_unit("sum", "3")], "discounts": [{"percent": "10"}],
    }  # fmt: skip
    history = {"customer": "acme", "period": "2026-01"}
    told = await posted(client, "/v1/quotes", contract=contract, history=history)
    assert Decimal(told["total"]) == Decimal("0.9") * (150 + 49)
    named = await posted(client, "/v1/quotes", contract="kb", history=history)
    assert named["total"] == "74.00"
    assert {invoice["customer"] for invoice in named["invoices"]} == {"acme"}


NEW = {"pricebook": "b", "start": "2026-03-01"}
MARCH = {"meter": "sum", "period": "2026-03", "quantity": "1"}
GROUPED = NEW | {"prices": [per_unit("sum", "1", group_by=["region"])]}
HOURLY = NEW | {"prices": [per_unit("sum", "1", hours=["00:00-06:00"])]}
EURO = {"currency": "EUR", "invoicing": MONTHLY, "prices": [per_unit("sum", "1")]}
HISTORY = {"customer": "acme", "period": "2026-01"}


@pytest.mark.parametrize(
    ("body", "code", "pointer"),
    [
        ({"contract": NEW}, "invalid_request", ""),
        ({"contract": NEW, "usage": [MARCH], "history": HISTORY}, "invalid_request", "/history"),
        ({"usage": [MARCH]}, "invalid_request", "/contract"),
        ({"contract": 7, "usage": [MARCH]}, "invalid_document", "/contract"),
        ({"contract": "gone", "usage": [MARCH]}, "invalid_request", "/contract"),
        ({"contract": NEW | {"pricebook": "x"}, "usage": [MARCH]}, "invalid_document",
         "/contract/pricebook"),
        ({"contract": NEW | {"currency": "EUR"}, "usage": [MARCH]}, "invalid_document",
         "/contract/currency"),
        ({"contract": NEW, "usage": [MARCH | {"meter": "x"}]}, "invalid_request",
         "/usage/0/meter"),
        ({"contract": NEW, "usage": [MARCH | {"meter": "max"}]}, "invalid_request",
         "/usage/0/meter"),
        ({"contract": NEW, "usage": [MARCH | {"period": "March"}]}, "invalid_request",
         "/usage/0/period"),
        ({"contract": NEW, "usage": [MARCH | {"period": "2026-01"}]}, "invalid_request",
         "/usage/0/period"),
        ({"contract": NEW, "usage": [MARCH, MARCH | {"quantity": "1e99"}]}, "invalid_request",
         "/usage/1/quantity"),
        ({"contract": NEW, "usage": [MARCH | {"quantity": 1.5}]}, "invalid_request",
         "/usage/0/quantity/str"),
        ({"contract": NEW, "usage": [MARCH | {"quantity": "1.0000000001"}]}, "invalid_request",
         "/usage/0/quantity"),
        ({"contract": NEW, "usage": [MARCH | {"dimensions": {"x": "y"}}]}, "invalid_request",
         "/usage/0/dimensions/x"),
        ({"contract": GROUPED, "usage": [MARCH]}, "invalid_request", "/usage/0/dimensions"),
        ({"contract": HOURLY, "usage": [MARCH]}, "not_quotable", "/usage/0"),
        ({"contract": NEW, "history": {"customer": "x", "period": "2026-03"}}, "invalid_request",
         "/history/customer"),
        ({"contract": NEW, "history": HISTORY}, "invalid_request", "/history/period"),
        ({"contract": NEW, "history": HISTORY, "as_of": "2099-01-01T00:00:00Z"},
         "as_of_in_future", None),
        ({"contract": NEW, "usage": [MARCH, MARCH | {"period": "2199"}]}, "invalid_request", None),
    ],
)  # fmt: skip
async def test_a_quote_that_cannot_be_is_refused(
    client: httpx.AsyncClient, body: dict[str, Any], code: str, pointer: str | None
):
    """Every answer names the place, where there is one."""
    told = await posted(client, "/v1/quotes", 422, **body)
    assert told["code"] == code, told
    if pointer is not None:
        assert pointer in {error["pointer"] for error in told["errors"]}, told["errors"]


async def test_terms_in_two_currencies_have_no_total(client: httpx.AsyncClient, world: World):
    """An amendment to a pricebook of another currency, all of it overridden."""
    euro = {"currency": "EUR", "invoicing": MONTHLY, "prices": [per_unit("sum", "1")]}
    world.apply({"pricebooks": {"e": euro, "u": euro | {"currency": "USD"}}})
    await asyncio.to_thread(world.ask, "2026-01")
    contract = {
        "pricebook": "u", "start": "2026-03-01",
        "amendments": [{
            "effective_from": "2026-04-01", "pricebook": "e", "prices": [per_unit("sum", "2")],
        }],
    }  # fmt: skip
    usage = [MARCH, MARCH | {"period": "2026-04"}]
    told = await posted(client, "/v1/quotes", 422, contract=contract, usage=usage)
    assert told["code"] == "mixed_currencies", told["detail"]
    assert "EUR and USD" in told["detail"]


async def test_an_absent_dimension_is_given_as_null(client: httpx.AsyncClient):
    """With it, usage without the dimension can be quoted, as it can be sent."""
    usage = [MARCH | {"dimensions": {"region": None}}, MARCH | {"dimensions": {"region": "eu"}}]
    told = await posted(client, "/v1/quotes", contract=GROUPED, usage=usage)
    groups = [line["dimensions"] for i in told["invoices"] for line in i["lines"] if line["meter"]]
    assert groups in ([{"region": "eu"}, {}], [{}, {"region": "eu"}])
