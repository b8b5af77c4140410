"""The catalog over HTTP, on a real SQLite database."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import httpx
import pytest

from api.application import create_app
from api.parts import Worker
from api.routes.catalog import build_router
from catalog.clock import SECOND_US, FixedClock
from catalog.contracts import Contract
from catalog.history import Kind, NewStatement, StatedVersion
from catalog.pricebooks import Price
from catalog.snapshot import Catalog
from storage.sql.database import open_database
from storage.sql.statements import StatementStore

NOON = 1_767_268_800 * SECOND_US  # 2026-01-01T12:00:00Z
METER = {"event_type": "llm", "aggregation": "sum", "value": "data.tokens"}
PRICEBOOK = {
    "currency": "USD",
    "invoicing": {"timing": "arrears", "every_months": 1},
    "prices": [{"product": "tokens", "charge": {"model": "per_unit", "unit_price": "0.00003"}}],
}
DOCUMENT = {
    "meters": {"tokens": METER},
    "products": {"tokens": {"name": "Tokens", "meter": "tokens"}},
    "pricebooks": {"list": PRICEBOOK},
    "customers": {"acme": {"name": "Acme", "subjects": ["acme"]}},
    "contracts": {"c1": {"customer": "acme", "pricebook": "list", "start": "2026-01-01"}},
}
FORBIDDEN_PRODUCT = "unpriceable"


def unsupported(thing: Price | Contract) -> list[str]:
    """One product stands for whatever the engines cannot do yet."""
    if isinstance(thing, Price) and thing.product == FORBIDDEN_PRODUCT:
        return ["cannot be rated yet"]
    return []


def count_changed_contracts(before: Catalog, after: Catalog) -> int:
    """Stands for the count of open lines: a hundred where the catalogs differ."""
    return 0 if before.pricebooks == after.pricebooks else 100


@pytest.fixture
def clock() -> FixedClock:
    """A clock that stands at noon."""
    return FixedClock(NOON)


@pytest.fixture
def store(tmp_path: Path, clock: FixedClock) -> Iterator[StatementStore]:
    """An empty catalog."""
    database = open_database(f"sqlite:///{tmp_path}/catalog.sqlite")
    yield StatementStore(database, clock, ZoneInfo("UTC"))
    database.close()


@pytest.fixture
async def api(store: StatementStore, clock: FixedClock) -> AsyncIterator[httpx.AsyncClient]:
    """The worker's application with the catalog's routes, as a key with the scope catalog."""
    router = build_router(
        store=store, clock=clock, unsupported=unsupported, lines_to_rerate=count_changed_contracts
    )
    app = create_app(Worker(socket=Path("unused"), routers=(router,)), version="test")
    headers = {"x-tallyman-key-id": "k1", "x-tallyman-scopes": "ingest, catalog"}
    transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://t", headers=headers) as api:
        yield api


async def apply(api: httpx.AsyncClient, document: Any, **options: Any) -> httpx.Response:
    """Post a document."""
    return await api.post("/v1/catalog", json={"document": document, **options})


async def test_an_object_is_put_and_read_back(api: httpx.AsyncClient) -> None:
    """PUT answers what GET answers; 201 the first time, 200 after."""
    created = await api.put("/v1/meters/tokens", json=METER)
    assert created.status_code == 201
    assert created.json() == {
        "id": "tokens",
        **METER,
        "recorded_at": "2026-01-01T12:00:00Z",
        "revision": 1,
    }
    again = await api.put("/v1/meters/tokens", json={**METER, "window": "5m"})
    assert (again.status_code, again.json()["window"], again.json()["revision"]) == (200, "5m", 2)
    assert (await api.get("/v1/meters/tokens")).json() == again.json()


async def test_putting_the_same_again_states_nothing(
    api: httpx.AsyncClient, store: StatementStore
) -> None:
    """An idempotent PUT leaves no trace in the history."""
    first = await api.put("/v1/meters/tokens", json=METER)
    second = await api.put("/v1/meters/tokens", json=METER)
    assert (second.status_code, second.json()) == (200, first.json())
    assert store.revision() == 1


async def test_versions_follow_each_other(api: httpx.AsyncClient, clock: FixedClock) -> None:
    """A PUT with effective_from states what holds from then on; the chain shows both."""
    await api.put("/v1/products/p", json={"name": "Old"})
    clock.set(NOON + SECOND_US)
    later = await api.put("/v1/products/p", json={"name": "New", "effective_from": "2026-03-01"})
    assert (later.json()["name"], later.json()["effective_from"]) == ("New", "2026-03-01")
    chain = (await api.get("/v1/products/p/versions")).json()
    assert [
        (each["name"], each.get("effective_from"), each.get("effective_until"), each["revision"])
        for each in chain["items"]
    ] == [("Old", None, "2026-03-01", 1), ("New", "2026-03-01", None, 2)]
    paged = (await api.get("/v1/products/p/versions?limit=1")).json()
    assert paged["next_cursor"] is not None
    rest = await api.get(f"/v1/products/p/versions?limit=1&cursor={paged['next_cursor']}")
    assert [each["name"] for each in rest.json()["items"]] == ["New"]


async def test_a_put_in_the_past_answers_what_was_put(api: httpx.AsyncClient) -> None:
    """The answer is the version just stated, not the latest of the chain."""
    await api.put("/v1/products/p", json={"name": "Last", "effective_from": "2026-06-01"})
    body = {"name": "Mid", "effective_from": "2026-02-01", "effective_until": "2026-03-01"}
    answer = (await api.put("/v1/products/p", json=body)).json()
    assert {**answer, **body} == answer


async def test_reads_travel_in_time(api: httpx.AsyncClient, clock: FixedClock) -> None:
    """as_of shows the catalog as it was recorded, on objects, lists and chains."""
    await api.put("/v1/products/p", json={"name": "Old"})
    clock.set(NOON + 10 * SECOND_US)
    await api.put("/v1/products/p", json={"name": "New"})
    await api.put("/v1/products/q", json={"name": "Q"})
    then = "?as_of=2026-01-01T12:00:05Z"
    assert (await api.get(f"/v1/products/p{then}")).json()["name"] == "Old"
    assert (await api.get(f"/v1/products/q{then}")).status_code == 404
    assert [each["id"] for each in (await api.get(f"/v1/products{then}")).json()["items"]] == ["p"]
    assert (await api.get("/v1/products/p?as_of=2026-01-01T11:59:59Z")).status_code == 404
    ahead = await api.get("/v1/products/p?as_of=2026-01-01T12:00:11Z")
    assert (ahead.status_code, ahead.json()["code"]) == (422, "as_of_in_future")
    no_offset = await api.get("/v1/products/p?as_of=2026-01-01T12:00:00")
    assert (no_offset.status_code, no_offset.json()["errors"][0]["pointer"]) == (422, "?as_of")


async def test_lists_are_paged_by_id(api: httpx.AsyncClient) -> None:
    """Pages continue after the last id seen."""
    names = [f"p{index}" for index in range(5)]
    await apply(api, {"products": {name: {"name": name} for name in reversed(names)}})
    seen, cursor = [], ""
    while cursor is not None:
        query = {"limit": "2"} | ({"cursor": cursor} if cursor else {})
        page = (await api.get("/v1/products", params=query)).json()
        seen.append([each["id"] for each in page["items"]])
        cursor = page["next_cursor"]
    assert seen == [["p0", "p1"], ["p2", "p3"], ["p4"]]
    assert (await api.get("/v1/products?limit=0")).status_code == 422
    assert (await api.get("/v1/products?colour=red")).json()["code"] == "unknown_parameter"


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ('{"product": "tokens"}', "/product"),
        ('{"name": "x", "meter": 5}', "/meter"),
        ('{"name": "x", "meter": "nope"}', "/meter"),
        ("[]", ""),
    ],
)
async def test_mistakes_are_pointed_at(api: httpx.AsyncClient, body: str, pointer: str) -> None:
    """Unknown keys, wrong kinds and names of nothing are 422, each with its place in the body."""
    answer = await api.put("/v1/products/p", content=body)
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_document")
    assert pointer in [error["pointer"] for error in answer.json()["errors"]]
    assert (await api.get("/v1/products/p")).status_code == 404


@pytest.mark.parametrize("number", ["0.1", "3", "1e2", "1.0000000000000000001"])
async def test_a_decimal_must_be_a_string(api: httpx.AsyncClient, number: str) -> None:
    """A JSON number where money is meant is refused, whatever its digits."""
    await api.put("/v1/products/tokens", json={"name": "Tokens"})
    charge = '{"model": "flat", "amount": %s}'
    book = '{"currency": "USD", "invoicing": {"timing": "arrears", "every_months": 1}, '
    book += '"prices": [{"product": "tokens", "charge": ' + charge + "}]}"
    answer = await api.put("/v1/pricebooks/b", content=book % number)
    assert answer.status_code == 422
    pointers = [error["pointer"] for error in answer.json()["errors"]]
    assert pointers == ["/prices/0/charge/amount"]
    right = await api.put("/v1/pricebooks/b", content=book % '"0.000000000001"')
    assert right.json()["prices"][0]["charge"]["amount"] == "0.000000000001"


@pytest.mark.parametrize("body", ["", "{", '{"name": "a", "name": "b"}', '{"name": NaN}'])
async def test_a_broken_body_is_400(api: httpx.AsyncClient, body: str) -> None:
    """What is not one unambiguous JSON text changes nothing."""
    answer = await api.put("/v1/products/p", content=body)
    assert answer.status_code == 400
    assert answer.json()["code"] == ("invalid_body" if body else "empty_body")


async def test_a_body_of_another_type_is_415(api: httpx.AsyncClient) -> None:
    """JSON that says it is something else is not guessed at."""
    headers = {"content-type": "application/yaml"}
    answer = await api.put("/v1/products/p", content='{"name": "x"}', headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (415, "unsupported_media_type")


async def test_an_id_must_be_an_id(api: httpx.AsyncClient) -> None:
    """Ids match one pattern, wherever they come from."""
    answer = await api.put("/v1/products/-p", json={"name": "x"})
    assert answer.status_code == 422
    assert (await api.put("/v1/gadgets/p", json={})).status_code == 404


async def test_a_retired_object_is_gone_but_not_forgotten(
    api: httpx.AsyncClient, clock: FixedClock
) -> None:
    """DELETE ends the chain now; the history and earlier instants still show it."""
    await api.put("/v1/products/p", json={"name": "P"})
    clock.set(NOON + 10 * SECOND_US)
    assert (await api.delete("/v1/products/p")).status_code == 204
    assert (await api.get("/v1/products/p")).status_code == 404
    assert (await api.delete("/v1/products/p")).status_code == 404
    assert (await api.get("/v1/products")).json()["items"] == []
    assert (await api.get("/v1/products/p?as_of=2026-01-01T12:00:09Z")).json()["name"] == "P"
    (version,) = (await api.get("/v1/products/p/versions")).json()["items"]
    assert version["effective_until"] == "2026-01-01T12:00:10Z"
    clock.set(NOON + 20 * SECOND_US)
    assert (await api.put("/v1/products/p", json={"name": "Back"})).status_code == 201
    assert (await api.get("/v1/products/p")).json()["name"] == "Back"


async def test_retiring_works_while_the_clock_stands(api: httpx.AsyncClient) -> None:
    """In a sandbox everything happens at one instant, and still one after the other."""
    for _ in range(2):
        assert (await api.put("/v1/products/p", json={"name": "P"})).status_code == 201
        assert (await api.delete("/v1/products/p")).status_code == 204
        assert (await api.delete("/v1/products/p")).status_code == 404


async def test_what_is_in_use_stays(api: httpx.AsyncClient) -> None:
    """Retiring what something in force names is refused, and says what names it."""
    assert (await apply(api, DOCUMENT)).status_code == 200
    answer = await api.delete("/v1/products/tokens")
    assert (answer.status_code, answer.json()["code"]) == (409, "in_use")
    assert [error["pointer"] for error in answer.json()["errors"]] == [
        "/pricebooks/list/prices/0/product"
    ]
    assert (await api.get("/v1/products/tokens")).status_code == 200
    assert (await api.delete("/v1/meters/none")).status_code == 404


async def test_a_document_is_applied_as_one(api: httpx.AsyncClient, store: StatementStore) -> None:
    """All its objects appear at one recorded instant, in one revision step."""
    reply = (await apply(api, DOCUMENT)).json()
    assert [(each["kind"], each["id"], each["action"]) for each in reply["changes"]] == [
        ("meters", "tokens", "create"),
        ("products", "tokens", "create"),
        ("pricebooks", "list", "create"),
        ("customers", "acme", "create"),
        ("contracts", "c1", "create"),
    ]
    assert (reply["revision"], reply["warnings"], reply["open_lines"]) == (5, [], 100)
    catalog = store.current()
    recorded = {chain.versions[0].recorded_at for chain in catalog.contracts.values()}
    assert recorded == {chain.versions[0].recorded_at for chain in catalog.meters.values()}


async def test_one_mistake_keeps_the_whole_document_out(
    api: httpx.AsyncClient, store: StatementStore
) -> None:
    """Every mistake is named at once, as pointers into the body, and nothing is kept."""
    broken = {
        **DOCUMENT,
        "products": {"tokens": {"name": "Tokens", "meter": "tokens", "colour": "red"}},
        "customers": {"acme": {"subjects": []}},
    }
    answer = await apply(api, broken)
    assert answer.status_code == 422
    pointers = {error["pointer"] for error in answer.json()["errors"]}
    assert "/document/products/tokens/colour" in pointers
    assert any(pointer.startswith("/document/customers/acme") for pointer in pointers)
    assert store.revision() == 0


async def test_what_cannot_be_rated_is_refused(api: httpx.AsyncClient) -> None:
    """A price the engines do not support is never accepted and then billed as nothing."""
    book = {
        **PRICEBOOK,
        "prices": [{"product": FORBIDDEN_PRODUCT, "charge": {"model": "flat", "amount": "1"}}],
    }
    document = {"products": {FORBIDDEN_PRODUCT: {"name": "X"}}, "pricebooks": {"b": book}}
    answer = await apply(api, document)
    assert answer.status_code == 422
    assert answer.json()["errors"] == [
        {"pointer": "/document/pricebooks/b/prices/0", "detail": "cannot be rated yet"}
    ]


async def test_a_dry_run_changes_nothing(api: httpx.AsyncClient, store: StatementStore) -> None:
    """It answers what applying would, but for the revision."""
    preview = (await apply(api, DOCUMENT, dry_run=True)).json()
    assert store.revision() == 0
    real = (await apply(api, DOCUMENT)).json()
    assert (preview.pop("revision"), real.pop("revision")) == (0, 5)
    assert preview == real


async def test_prune_retires_what_is_not_named(api: httpx.AsyncClient) -> None:
    """Without it nothing is removed; with it the catalog is what the document says."""
    await apply(api, DOCUMENT)
    fewer = {kind: held for kind, held in DOCUMENT.items() if kind != "contracts"}
    kept = (await apply(api, fewer)).json()
    assert {each["action"] for each in kept["changes"]} == {"unchanged"}
    pruned = (await apply(api, fewer, prune=True)).json()
    retired = [each for each in pruned["changes"] if each["action"] == "retire"]
    assert [(each["kind"], each["id"], each["after"]) for each in retired] == [
        ("contracts", "c1", None)
    ]
    assert (await api.get("/v1/contracts/c1")).status_code == 404


async def test_a_change_shows_both_forms(api: httpx.AsyncClient) -> None:
    """Both forms are documents, so a client can show the difference."""
    await apply(api, DOCUMENT)
    charge = {"model": "per_unit", "unit_price": "0.00004"}
    book = {**PRICEBOOK, "prices": [{"product": "tokens", "charge": charge}]}
    (change,) = (await apply(api, {"pricebooks": {"list": book}})).json()["changes"]
    assert change["action"] == "update"
    assert change["before"]["prices"][0]["charge"]["unit_price"] == "0.00003"
    assert change["after"]["prices"][0]["charge"] == charge


async def test_an_expected_revision_is_held_to(api: httpx.AsyncClient) -> None:
    """What was previewed is what is applied, or nothing is."""
    await api.put("/v1/products/p", json={"name": "P"})
    refused = await apply(api, DOCUMENT, expected_revision=0)
    assert (refused.status_code, refused.json()["code"]) == (409, "revision_changed")
    assert (await apply(api, DOCUMENT, expected_revision=1)).status_code == 200


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({}, "/document"),
        ({"document": {}, "purge": True}, "/purge"),
        ({"document": {}, "prune": "yes"}, "/prune"),
        ({"document": []}, "/document"),
        ({"document": {"gadgets": {}}}, "/document/gadgets"),
    ],
)
async def test_the_request_itself_is_checked(
    api: httpx.AsyncClient, body: dict[str, Any], pointer: str
) -> None:
    """Options are as strict as objects."""
    answer = await api.post("/v1/catalog", json=body)
    assert answer.status_code == 422
    assert [error["pointer"] for error in answer.json()["errors"]] == [pointer]


async def test_an_edit_meets_another_one(
    api: httpx.AsyncClient, store: StatementStore, clock: FixedClock, tmp_path: Path
) -> None:
    """A PUT planned on a catalog that has moved is planned again, and keeps both."""
    other = open_database(f"sqlite:///{tmp_path}/catalog.sqlite")
    rival = StatementStore(other, clock, ZoneInfo("UTC"))
    version = StatedVersion(effective_from=None, effective_until=None, body={"name": "R"})
    moves = iter(range(2))

    class Overtaken(StatementStore):
        """Lets the rival state something just before each of the first two appends."""

        def append(self, new: Any, **options: Any) -> int:
            """Append, too late."""
            for move in moves:
                product = NewStatement(kind=Kind.PRODUCTS, id=f"r{move}", versions=(version,))
                rival.append([product], expected_revision=None)
                break
            return super().append(new, **options)

    store.__class__ = Overtaken
    assert (await api.put("/v1/products/p", json={"name": "P"})).status_code == 201
    listed = (await api.get("/v1/products")).json()["items"]
    assert [(each["id"], each["revision"]) for each in listed] == [("p", 3), ("r0", 1), ("r1", 2)]
    other.close()


@pytest.mark.parametrize(
    ("scopes", "read", "write"),
    [("read", 200, 403), ("catalog", 200, 201), ("admin", 200, 201), ("ingest,finance", 403, 403)],
)
async def test_scopes_are_held_to(
    api: httpx.AsyncClient, scopes: str, read: int, write: int
) -> None:
    """Reading takes read or catalog, writing catalog; admin is enough for both."""
    headers = {"x-tallyman-scopes": scopes}
    answers = [
        (await api.get("/v1/products", headers=headers)).status_code,
        (await api.put("/v1/products/p", json={"name": "P"}, headers=headers)).status_code,
    ]
    assert answers == [read, write]
    assert (await api.get("/v1/products", headers={"x-tallyman-scopes": ""})).status_code == 403


async def test_the_actor_is_recorded(
    api: httpx.AsyncClient, store: StatementStore, tmp_path: Path
) -> None:
    """The audit trail names the key of each edit."""
    await api.put("/v1/products/p", json={"name": "P"})
    await apply(api, {"products": {"q": {"name": "Q"}}})
    await api.delete("/v1/products/p")
    database = open_database(f"sqlite:///{tmp_path}/catalog.sqlite")
    with database.read() as connection:
        actors = connection.exec_driver_sql("SELECT actor FROM statements").scalars().all()
    database.close()
    assert actors == ["k1", "k1", "k1"]
