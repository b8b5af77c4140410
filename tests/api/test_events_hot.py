"""POST /v1/events and /v1/events/void as the gateway answers them."""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import AsyncIterator, Sequence
from typing import Any

import httpx
import pytest
import pytest_asyncio
import zstandard

from api.hot.body import Budget
from api.hot.dispatch import Dispatcher, Hot, Routes
from api.hot.events import IngestEvents, IngestRoute, VoidEvents
from api.places import Place
from api.voiding import Voiding
from catalog.ids import NodeId
from ingest.batch import IngestLimits
from ingest.commit import Ingestor
from ingest.scan import BodyReader
from ingest.values import IngestRules
from ingest.voids import VoidItem, VoidOutcome
from tests.api.both_ways import BothWays
from tests.unit.ingest.fakes import MemoryIndex, MemoryLog, event

EVENTS, VOID = "/v1/events", "/v1/events/void"
LIMITS = IngestLimits(body_bytes_max=1_000_000, inflated_bytes_max=2_000_000, body_s_max=0.2)


class Elsewhere:
    """A sibling that accepted ``sibling``, and a worker that knows ``old`` of one day."""

    async def void(self, items: Sequence[VoidItem]) -> VoidOutcome:
        """As a sibling would."""
        unknown = [item for item in items if item.id != "sibling"]
        return VoidOutcome(voided=len(items) - len(unknown), already_void=0, unknown=unknown)

    async def places(self, items: Sequence[VoidItem]) -> list[Place | None]:
        """As the worker would: record 7 of n2 on one day, a void one without."""
        found = Place(node=NodeId("n2"), seq=7, void=False)
        return [
            None if item.id != "old" else found if item.time else Place("n2", 8, void=True)
            for item in items
        ]


class Edge:
    """The gateway's front door over a log in memory, without keys."""

    def __init__(self, *, express: bool = False) -> None:
        self.log = MemoryLog()
        self.ingestor = Ingestor(
            log=self.log,
            index=MemoryIndex(),
            reader=self.log,
            bodies=self.bodies(),
            limits=LIMITS,
        )
        self.route = IngestRoute.build(self.ingestor, LIMITS)
        ingest = IngestEvents(self.route, self.bodies)
        self.elsewhere = Elsewhere()
        voiding = Voiding(own=self.ingestor, others=self.elsewhere, places=self.elsewhere.places)
        hot = [("POST", EVENTS, ingest), ("POST", VOID, VoidEvents(self.route, voiding))]
        self.app = Dispatcher(
            routes=Routes(
                Hot(method=method, path=path, handler=handler, open=True)
                for method, path, handler in hot
            ),
            fallback=ingest,
            keyring=lambda: None,
            look_again=asyncio.sleep,
            observe=lambda *_: None,
        )
        transport: httpx.AsyncBaseTransport = httpx.ASGITransport(app=self.app)
        if express:
            transport = BothWays(hot, self.app)
        self.client = httpx.AsyncClient(transport=transport, base_url="http://gateway")

    def bodies(self) -> BodyReader:
        """A reader without meters."""
        return BodyReader(limits=LIMITS, rules=IngestRules, clock=self.log.clock)

    async def post(self, path: str, body: Any, **headers: str) -> tuple[int, dict[str, Any]]:
        """Post JSON (or bytes as they are); answers status and document."""
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        named.setdefault("content-type", "application/json")
        answer = await self.client.post(path, content=content, headers=named)
        return answer.status_code, answer.json()


@pytest_asyncio.fixture(params=["asgi", "express"])
async def edge(request) -> AsyncIterator[Edge]:
    """A fresh front door, asked on either way."""
    fresh = Edge(express=request.param == "express")
    yield fresh
    await fresh.client.aclose()
    await fresh.ingestor.close()


async def test_the_answer_has_exactly_the_promised_shape(edge):
    """accepted, duplicates, and rejected by index with id, code and detail."""
    body = [event(), event(), event(id="late", time="2027-01-01T00:00:00Z"), {"id": "x"}, 5]
    status, answer = await edge.post(EVENTS, body)
    assert status == 200
    rejected = answer.pop("rejected")
    assert answer == {"accepted": 1, "duplicates": 1}
    assert [(each["index"], each["id"], each["code"]) for each in rejected] == [
        (2, "late", "invalid_time"),
        (3, "x", "missing_field"),
        (4, None, "invalid_field"),
    ]
    assert all(set(each) == {"index", "id", "code", "detail"} for each in rejected)
    assert edge.log.durable == 1


async def test_nothing_sent_is_zeros(edge):
    """An empty array is a body of no events."""
    assert await edge.post(EVENTS, []) == (200, {"accepted": 0, "duplicates": 0, "rejected": []})


@pytest.mark.parametrize("pack", [gzip.compress, zstandard.compress])
async def test_encodings(edge, pack):
    """A compressed body is the same body."""
    encoding = "gzip" if pack is gzip.compress else "zstd"
    status, answer = await edge.post(EVENTS, pack(json.dumps([event()]).encode()), content_encoding=encoding)  # fmt: skip # noqa: E501
    assert (status, answer["accepted"]) == (200, 1)


async def test_large_bodies_are_read_beside_the_loop(edge):
    """A body too large to read inline is answered like a small one."""
    body = [event(id=f"e{n}") for n in range(3_000)]
    status, answer = await edge.post(EVENTS, body)
    assert (status, answer["accepted"]) == (200, 3_000)


async def test_binary_mode_reaches_the_decoder(edge):
    """The ce- headers of a request are an event's attributes."""
    headers = {f"ce_{name}": str(value) for name, value in event().items() if name != "data"}
    status, answer = await edge.post(EVENTS, {"tokens": 1}, **headers)
    assert (status, answer["accepted"]) == (200, 1)
    assert edge.log.records["data"].to_list() == ['{"tokens": 1}']


async def test_atomic(edge):
    """Any rejection keeps everything out, and the problem lists what was wrong."""
    body = [event(), event(id="")]
    status, problem = await edge.post(f"{EVENTS}?atomic=true", body)
    assert (status, problem["code"]) == (422, "events_rejected")
    assert [(each["index"], each["code"]) for each in problem["rejected"]] == [(1, "invalid_field")]
    assert edge.log.durable == 0
    assert (await edge.post(f"{EVENTS}?atomic=false", body))[1]["accepted"] == 1


async def test_dry_run(edge):
    """The answer of a real run, and nothing kept."""
    for _ in range(2):
        status, answer = await edge.post(f"{EVENTS}?dry_run=true", [event()])
        assert (status, answer["accepted"]) == (200, 1)
    assert edge.log.frames == 0


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ("atomc=true", "unknown_parameter"),
        ("atomic=yes", "invalid_request"),
        ("atomic=", "invalid_request"),
        ("atomic=true&atomic=false", "invalid_request"),
    ],
)
async def test_query_parameters_are_strict(edge, query, code):
    """A typo must not turn a dry run into a real one."""
    status, problem = await edge.post(f"{EVENTS}?{query}", [event()])
    assert (status, problem["code"]) == (422, code)
    assert edge.log.frames == 0


@pytest.mark.parametrize(
    ("body", "headers", "status", "code"),
    [
        (b"", {}, 400, "empty_body"),
        (b"[{]", {}, 400, "unreadable_body"),
        (b"[]", {"content_type": "text/csv"}, 415, "unsupported_media_type"),
        (b"[]", {"content_encoding": "br"}, 415, "unsupported_media_type"),
        (b"[]", {"content_encoding": "gzip"}, 400, "unreadable_body"),
        (b" " * 1_000_001, {}, 413, "body_too_large"),
        (gzip.compress(bytes(9_000_000)), {"content_encoding": "gzip"}, 413, "body_too_large"),
        (b"[" + b"1," * 60_000 + b"1]", {}, 413, "too_many_events"),
    ],
)
async def test_bodies_that_are_refused_whole(edge, body, headers, status, code):
    """Each with its status and code, and nothing kept."""
    told, problem = await edge.post(EVENTS, body, **headers)
    assert (told, problem["code"]) == (status, code)
    assert edge.log.frames == 0


async def test_a_log_that_failed_is_503(edge):
    """Nothing is acknowledged, and the caller may come back."""
    edge.log.fail = True
    status, problem = await edge.post(EVENTS, [event()])
    assert (status, problem["code"]) == (503, "log_unavailable")


async def drive(edge: Edge, messages: list[dict[str, Any]]) -> dict[str, Any] | None:
    """Send raw ASGI messages (then nothing, for ever); answers the document."""
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return messages.pop(0) if messages else await asyncio.Event().wait()

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": "POST",
        "path": EVENTS,
        "raw_path": EVENTS.encode(),
        "query_string": b"",
        "headers": [(b"content-type", b"application/json")],
        "state": {},
    }
    await edge.app(scope, receive, send)
    return json.loads(sent[1]["body"]) if sent else None


def part(body: bytes, *, more: bool = True) -> dict[str, Any]:
    """One piece of a body."""
    return {"type": "http.request", "body": body, "more_body": more}


async def test_a_body_in_pieces(edge):
    """However it is cut, it is one body."""
    content = json.dumps([event()]).encode()
    pieces = [part(content[at : at + 9]) for at in range(0, len(content), 9)]
    answer = await drive(edge, [*pieces, part(b"", more=False)])
    assert answer["accepted"] == 1


async def test_a_body_without_a_length_is_counted(edge):
    """The limit holds for what comes, whatever was declared."""
    answer = await drive(edge, [part(b" " * 300_000)] * 5)
    assert answer["code"] == "body_too_large"


async def test_a_body_that_never_ends(edge):
    """It is waited for so long and no longer."""
    answer = await drive(edge, [part(b"[")])
    assert (answer["code"], answer["status"]) == ("request_timeout", 408)


async def test_a_caller_that_hangs_up(edge):
    """Half a body is dropped without an answer, and its room given back."""
    assert await drive(edge, [part(b"[" * 100), {"type": "http.disconnect"}]) is None
    assert edge.route.budget.held_bytes == 0


async def test_bodies_under_way_are_bounded_together(edge):
    """Many slow bodies must not fill the memory: over the budget they are asked to come back."""
    edge.route.budget = Budget(150)
    slow = [asyncio.create_task(drive(edge, [part(b"[" * 100)])) for _ in range(2)]
    told = [(await task)["code"] for task in slow]
    assert sorted(told) == ["backpressure", "request_timeout"]
    assert edge.route.budget.held_bytes == 0


async def test_voids(edge):
    """Each item is voided, void already, or unknown."""
    await edge.post(EVENTS, [event(), event(id="e2")])
    items = [{"source": "s", "id": name, "reason": "oops"} for name in ("e1", "none", "e1")]
    status, answer = await edge.post(VOID, items)
    assert status == 200
    assert answer == {
        "voided": 1,
        "already_void": 1,
        "rejected": [{"index": 1, "id": "none", "code": "unknown_event"}],
    }


async def test_voids_of_what_others_know(edge):
    """What this gateway does not know is looked for at the others, then with the worker."""
    await edge.post(EVENTS, [event()])
    items = [{"source": "s", "id": name} for name in ("e1", "sibling", "old", "none")]
    old = {"source": "s", "id": "old", "time": "2020-01-01T00:00:00Z", "reason": "late"}
    _, answer = await edge.post(VOID, [*items, old, old])
    assert (answer["voided"], answer["already_void"]) == (3, 2)
    assert [item["index"] for item in answer["rejected"]] == [3]
    last = edge.log.records.row(-1, named=True)
    assert (last["type"], last["target"], last["data"]) == ("n2", 7, '{"reason":"late"}')


async def test_a_void_names_the_event_of_its_day(edge):
    """With a time of another day than the event that is known it is another event."""
    await edge.post(EVENTS, [event(id="e1", time="2026-11-03T10:15:00Z")])
    wrong = {"source": "s", "id": "e1", "time": "2026-11-04T00:00:00Z"}
    right = {"source": "s", "id": "e1", "time": "2026-11-03T23:59:59+00:00"}
    _, answer = await edge.post(VOID, [wrong, right])
    assert (answer["voided"], [item["index"] for item in answer["rejected"]]) == (1, [0])


@pytest.mark.parametrize(
    ("body", "status", "code", "pointer"),
    [
        (b"", 400, "empty_body", None),
        (b"[", 400, "unreadable_body", None),
        (b'[{"source":"s","id":"a","id":"b"}]', 400, "unreadable_body", None),
        ([{"source": "s"}], 422, "invalid_request", "/0"),
        ([{"source": "s", "id": 1}], 422, "invalid_request", "/0/id"),
        ([{"source": "s", "id": "a", "why": ""}], 422, "invalid_request", "/0"),
        ([{"source": "s", "id": "a", "reason": "x" * 300}], 422, "invalid_request", "/0/reason"),
        ({}, 422, "invalid_request", ""),
    ],
)
async def test_voids_that_cannot_be_read(edge, body, status, code, pointer):
    """Nothing is voided, and the problem says where it is wrong."""
    told, problem = await edge.post(VOID, body)
    assert (told, problem["code"]) == (status, code)
    if pointer is not None:
        assert problem["errors"][0]["pointer"] == pointer


async def test_plain_bodies_take_the_express_way():
    """So that asking on either way is not asking the same twice."""
    edge = Edge(express=True)
    try:
        for body in (event(), [event(), event(id="2")], [event(id="3"), {"id": "x"}]):
            assert (await edge.post(EVENTS, body))[0] == 200
        assert edge.client._transport.taken == 3
    finally:
        await edge.client.aclose()
        await edge.ingestor.close()
