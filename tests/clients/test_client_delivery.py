"""record() and its background, over real HTTP: nothing lost, nothing doubled, always bounded.

Every behaviour holds for both clients (``make`` makes each kind in turn).
"""

from __future__ import annotations

import json
import random
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
from tallyman_client import (
    BufferFull,
    Closed,
    Event,
    FlushTimeout,
    InvalidRequest,
    Options,
    Rejection,
    Retry,
    Tallyman,
    TallymanError,
    TooLarge,
    Unauthenticated,
)

from tests.clients.both_kinds import Make
from tests.clients.flaky_service import Fault, FlakyService, Seen, problem, wait_until

QUICK = Retry(attempt_s_max=0.4, total_s_max=30.0, pause_s_first=0.01, pause_s_max=0.05)
STEADY = replace(QUICK, attempt_s_max=30.0)
SMALL = Options(batch_events_max=10, batch_age_s_max=0.02, delivery=STEADY, calls=STEADY)
NEVER = Options(batch_age_s_max=3600.0, delivery=STEADY)


def record(client: Tallyman, count: int, *, first: int = 0) -> list[str]:
    """Record events named after their numbers; answers the ids."""
    ids = [f"e{number}" for number in range(first, first + count)]
    for id_ in ids:
        client.record(type="t", subject="s", data={"n": 1}, id=id_)
    return ids


def test_an_event_arrives_complete(flaky: FlakyService, make: Make) -> None:
    """As CloudEvents JSON with the key, its numbers exact, id and time made where not given."""
    client = make(flaky.url, "secret", source="app")
    data: dict[str, Any] = {"tokens": 10**20, "cost": Decimal("0.10"), "ok": True, "tags": ["a"]}
    client.record(type="llm", subject="acme", data=data)
    data["tokens"] = 0  # too late: it is fixed when it is recorded
    client.flush()
    [event] = flaky.events()
    assert event["data"] == {"tokens": 10**20, "cost": "0.10", "ok": True, "tags": ["a"]}
    named = {name: event[name] for name in ("specversion", "source", "type", "subject")}
    assert named == {"specversion": "1.0", "source": "app", "type": "llm", "subject": "acme"}
    assert len(event["id"]) == 36
    assert event["time"].endswith("Z")
    [request] = flaky.requests
    assert request.headers["authorization"] == "Bearer secret"
    assert request.headers["content-type"] == "application/cloudevents-batch+json"


def test_batches_go_by_size_and_by_age(flaky: FlakyService, make: Make) -> None:
    """A full batch goes at once, a started one when it is old enough."""
    options = Options(batch_events_max=10, batch_age_s_max=0.4)
    client = make(flaky.url, source="app", options=options)
    begun = time.monotonic()
    record(client, 25)
    wait_until(lambda: len(flaky.requests) == 3)
    sizes = sorted(len(request.json()) for request in flaky.requests)
    assert sizes == [5, 10, 10]
    [last] = [request for request in flaky.requests if len(request.json()) == 5]
    assert last.at - begun >= 0.4


@pytest.mark.parametrize("seed", [1, 2])
def test_nothing_is_lost_or_doubled_whatever_fails(
    flaky: FlakyService, make: Make, seed: int
) -> None:
    """Under every fault at random: each event is in the books once, and the counts agree."""
    dice = random.Random(seed)
    faults = [
        *(problem(status, "told") for status in (408, 429, 500, 503)),
        problem(503, "told", retry_after="0"),
        *(Fault(cut=True, after=after) for after in (False, True)),
        *(Fault(hang_s=0.6, after=after) for after in (False, True)),
        *(Fault(status=502, body=b"<html>", after=after) for after in (False, True)),
        *(Fault(body=b"<html>", after=after) for after in (False, True)),
        Fault(body=b'{"accepted": 0, "duplicates": 0, "rejected": []}', after=True),
    ]
    flaky.fault = lambda request: dice.choice(faults) if dice.random() < 0.4 else None
    flaky.reject = lambda event: "invalid_value" if event["id"].endswith("7") else None
    rejected: list[Rejection] = []
    options = Options(batch_events_max=20, batch_age_s_max=0.01, delivery=QUICK)
    client = make(flaky.url, source="app", options=options, on_rejected=rejected.append)
    ids = record(client, 240)
    client.flush()
    refused = {id_ for id_ in ids if id_.endswith("7")}
    assert flaky.ids() == set(ids) - refused
    assert sorted(each.id or "" for each in rejected) == sorted(refused)
    stats = client.stats()
    assert (stats.recorded, stats.pending, stats.pending_bytes) == (240, 0, 0)
    assert (stats.accepted + stats.duplicates, stats.rejected) == (240 - len(refused), len(refused))
    assert stats.dropped == 0
    assert stats.retries > 0
    assert stats.sent >= sum(flaky.arrivals.values()) > 240


def test_a_lost_answer_counts_once(flaky: FlakyService, make: Make) -> None:
    """The retry brings the same bytes, so the service knows them."""
    flaky.faults = [Fault(cut=True, after=True)]
    client = make(flaky.url, source="app", options=SMALL)
    record(client, 3)
    client.flush()
    first, second = flaky.requests
    assert first.body == second.body
    stats = client.stats()
    assert (stats.accepted, stats.duplicates, stats.retries) == (0, 3, 1)
    assert set(flaky.arrivals.values()) == {2}


def test_retry_after_is_respected(flaky: FlakyService, make: Make) -> None:
    """Nothing is sent before the time asked for."""
    flaky.faults = [problem(503, "backpressure", retry_after="1")]
    client = make(flaky.url, source="app", options=SMALL)
    record(client, 1)
    client.flush()
    first, second = flaky.requests
    assert 1.0 <= second.at - first.at < 3.0


def test_rejections_are_told_and_never_repeated(flaky: FlakyService, make: Make) -> None:
    """Each with its event, code and detail; a hook that raises does no harm."""
    flaky.reject = lambda event: "invalid_value" if event["id"] == "e1" else None
    told: list[Rejection] = []

    def on_rejected(rejection: Rejection) -> None:
        told.append(rejection)
        raise RuntimeError("a bug in the hook")

    client = make(flaky.url, source="app", options=SMALL, on_rejected=on_rejected)
    record(client, 3)
    client.flush()
    record(client, 1, first=3)
    client.flush()
    [rejection] = told
    assert (rejection.id, rejection.code, rejection.detail) == (
        "e1",
        "invalid_value",
        "is invalid_value",
    )
    assert rejection.event["data"] == {"n": 1}
    assert flaky.ids() == {"e0", "e2", "e3"}
    assert flaky.arrivals["app", "e1"] == 1


def test_a_batch_that_is_too_large_is_split(flaky: FlakyService, make: Make) -> None:
    """Halved until it fits, each event in the books once."""
    flaky.events_max = 3
    client = make(flaky.url, source="app", options=SMALL)
    ids = record(client, 20)
    client.flush()
    assert flaky.ids() == set(ids)
    assert set(flaky.arrivals.values()) == {1}
    assert (client.stats().accepted, client.stats().retries) == (20, 0)


def test_an_event_that_is_too_large_alone_is_rejected(flaky: FlakyService, make: Make) -> None:
    """The others of its batch are delivered, and the rejection names it."""
    big = "x" * 5_000

    def fault(request: Seen) -> Fault | None:
        return problem(413, "body_too_large") if big.encode() in request.body else None

    flaky.fault = fault
    told: list[Rejection] = []
    client = make(flaky.url, source="app", options=SMALL, on_rejected=told.append)
    record(client, 4)
    client.record(type="t", subject="s", data={"big": big}, id="big")
    record(client, 4, first=4)
    client.flush()
    assert [(each.id, each.code) for each in told] == [("big", "too_large")]
    assert flaky.ids() == {f"e{number}" for number in range(8)}


def test_a_refused_batch_is_dropped_and_told(flaky: FlakyService, make: Make) -> None:
    """401 is not repeated: on_dropped has the events and the error; later ones go on."""
    flaky.faults = [problem(401, "unauthenticated")]
    dropped: list[tuple[Sequence[Mapping[str, Any]], TallymanError]] = []
    client = make(
        flaky.url,
        source="app",
        options=SMALL,
        on_dropped=lambda events, error: dropped.append((events, error)),
    )
    record(client, 2)
    client.flush()
    record(client, 1, first=2)
    client.flush()
    [(events, error)] = dropped
    assert [event["id"] for event in events] == ["e0", "e1"]
    assert isinstance(error, Unauthenticated)
    assert flaky.ids() == {"e2"}
    assert (client.stats().dropped, client.stats().accepted) == (2, 1)


def test_a_full_buffer_raises(flaky: FlakyService, make: Make) -> None:
    """While the service is down: bounded in events, nothing taken is lost, room returns."""
    flaky.fault = lambda request: problem(503, "down")
    options = Options(buffer_events_max=50, batch_age_s_max=0.01, delivery=STEADY)
    client = make(flaky.url, source="app", options=options)
    ids = record(client, 50)
    with pytest.raises(BufferFull, match="50 events"):
        record(client, 1, first=50)
    flaky.fault = lambda request: None
    client.flush()
    record(client, 1, first=50)
    client.flush()
    assert flaky.ids() == {*ids, "e50"}
    assert client.stats().recorded == 51


def test_a_full_buffer_can_drop(flaky: FlakyService, make: Make) -> None:
    """Bounded in bytes; what found no room is counted, the rest arrives."""
    flaky.fault = lambda request: problem(503, "down")
    options = Options(buffer_bytes_max=20_000, overflow="drop", delivery=STEADY)
    client = make(flaky.url, source="app", options=options)
    for number in range(200):
        client.record(type="t", subject="s", data={"pad": "x" * 1_000}, id=f"e{number}")
    stats = client.stats()
    assert 0 < stats.pending_bytes <= 20_000
    assert (stats.recorded, stats.dropped + stats.pending) == (200, 200)
    flaky.fault = lambda request: None
    client.flush()
    assert len(flaky.ids()) == 200 - client.stats().dropped == client.stats().accepted > 5


def test_a_full_buffer_can_make_the_caller_wait(flaky: FlakyService, make: Make) -> None:
    """Until there is room; and not longer than it is told to."""
    options = Options(
        buffer_events_max=10, batch_events_max=5, overflow="block", block_s_max=0.3, delivery=STEADY
    )
    client = make(flaky.url, source="app", options=options)
    ids = record(client, 100)
    client.flush()
    assert flaky.ids() == set(ids)
    flaky.fault = lambda request: problem(503, "down")
    record(client, 10, first=100)
    begun = time.monotonic()
    with pytest.raises(BufferFull):
        record(client, 1, first=110)
    assert 0.3 <= time.monotonic() - begun < 3.0
    flaky.fault = lambda request: None


def test_recording_does_not_wait_for_the_network(flaky: FlakyService, make: Make) -> None:
    """A service that hangs costs the caller nothing."""
    flaky.fault = lambda request: Fault(hang_s=1.0)
    client = make(flaky.url, source="app", options=SMALL)
    begun = time.monotonic()
    record(client, 200)
    assert time.monotonic() - begun < 1.0
    flaky.fault = lambda request: None
    client.flush()
    assert len(flaky.ids()) == 200


def test_many_threads_may_record(flaky: FlakyService, make: Make) -> None:
    """Each event once, whoever recorded it."""
    options = replace(SMALL, batch_events_max=50)
    client = make(flaky.url, source="app", options=options)
    threads = [
        threading.Thread(target=record, args=(client, 100), kwargs={"first": 100 * number})
        for number in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    client.flush()
    assert len(flaky.ids()) == 400
    assert set(flaky.arrivals.values()) == {1}


def test_flush_has_a_limit_and_loses_nothing(flaky: FlakyService, make: Make) -> None:
    """It says that not all arrived; the events stay on their way."""
    flaky.fault = lambda request: problem(503, "down")
    client = make(flaky.url, source="app", options=SMALL)
    ids = record(client, 15)
    with pytest.raises(FlushTimeout, match="15 events"):
        client.flush(0.2)
    flaky.fault = lambda request: None
    client.flush()
    assert flaky.ids() == set(ids)


def test_close_sends_the_rest(flaky: FlakyService, make: Make) -> None:
    """However young it is; afterwards nothing is taken, and closing again does nothing."""
    client = make(flaky.url, source="app", options=NEVER)
    ids = record(client, 5)
    client.close()
    client.close()
    assert flaky.ids() == set(ids)
    with pytest.raises(Closed):
        record(client, 1)
    with pytest.raises(Closed):
        client.check("acme", {"tokens": 1})


@pytest.mark.parametrize("fault", [problem(503, "down"), Fault(hang_s=2.0)])
def test_close_has_a_limit_and_names_what_is_left(
    flaky: FlakyService, make: Make, fault: Fault
) -> None:
    """What could not be sent is counted as dropped and handed over, each event once."""
    flaky.fault = lambda request: fault
    left: list[Any] = []
    slow = Retry(attempt_s_max=5.0, total_s_max=60.0)
    client = make(
        flaky.url,
        source="app",
        options=Options(batch_events_max=10, delivery=slow),
        on_dropped=lambda events, error: left.extend(events),
    )
    ids = record(client, 25)
    begun = time.monotonic()
    client.close(0.3)
    assert time.monotonic() - begun < 1.5
    assert [event["id"] for event in left] == ids
    assert (client.stats().dropped, client.stats().pending) == (25, 0)


def test_a_service_that_is_not_there_yet(flaky: FlakyService, make: Make) -> None:
    """A refused connection is repeated like any failure, and ends with the total time."""
    dropped: list[Any] = []
    give_up = Retry(attempt_s_max=0.2, total_s_max=0.3, pause_s_first=0.05, pause_s_max=0.05)
    client = make(
        "http://127.0.0.1:9",
        source="app",
        options=Options(batch_age_s_max=0.0, delivery=give_up),
        on_dropped=lambda events, error: dropped.append(error),
    )
    record(client, 1)
    client.flush()
    assert [error.code for error in dropped] == ["unreachable"]
    assert client.stats().retries > 0


def test_bad_events_are_refused_at_once(flaky: FlakyService, make: Make) -> None:
    """A float, or no source: the caller hears it, nothing is sent."""
    client = make(flaky.url)
    with pytest.raises(TypeError, match="Decimal"):
        client.record(type="t", subject="s", data={"n": 0.1}, source="x")
    with pytest.raises(ValueError, match="source"):
        client.record(type="t", subject="s")
    client.flush()
    assert (flaky.requests, client.stats().recorded) == ([], 0)


@pytest.mark.parametrize("compression", ["gzip", "zstd", "none"])
def test_bodies_are_compressed(flaky: FlakyService, make: Make, compression: Any) -> None:
    """As told, above the size told."""
    options = Options(compression=compression, compress_bytes_min=2_000)
    client = make(flaky.url, source="app", options=options)
    record(client, 1)
    client.flush()
    record(client, 100, first=1)
    client.flush()
    small, large = (request.headers.get("content-encoding") for request in flaky.requests)
    assert (small, large) == (None, None if compression == "none" else compression)
    assert len(flaky.ids()) == 101


def test_bulk(flaky: FlakyService, make: Make) -> None:
    """An iterable goes in batches; the receipt has every outcome with its place; repeatable."""
    flaky.reject = lambda event: "invalid_value" if event["id"] == "b13" else None
    flaky.faults = [Fault(cut=True, after=True), problem(413, "body_too_large")]
    client = make(flaky.url, source="app", options=SMALL)
    events = [
        *({"type": "t", "subject": "s", "id": f"b{number}"} for number in range(20)),
        *(Event(type="t", subject="s", id=f"b{number}") for number in range(20, 25)),
    ]
    receipt = client.send_events(iter(events))
    assert (receipt.accepted + receipt.duplicates, receipt.received) == (24, 25)
    [rejection] = receipt.rejected
    assert (rejection.index, rejection.id, rejection.code) == (13, "b13", "invalid_value")
    assert client.send_events(events).duplicates == 24
    assert len(flaky.ids()) == 24
    with pytest.raises(ValueError, match="id"):
        client.send_events([{"type": "t", "subject": "s"}])


def test_bulk_errors_are_raised(flaky: FlakyService, make: Make) -> None:
    """A refused batch is the caller's to handle."""
    flaky.faults = [problem(400, "unreadable_body")]
    client = make(flaky.url, source="app", options=SMALL)
    with pytest.raises(InvalidRequest):
        client.send_events([{"type": "t", "subject": "s", "id": "x"}])


def test_columns_go_as_they_are(flaky: FlakyService, make: Make) -> None:
    """Arrow and Parquet bodies with their content types, repeated like events, never split."""
    flaky.faults = [
        problem(503, "busy"),
        Fault(body=json.dumps({"accepted": 2, "duplicates": 1, "rejected": []}).encode()),
        problem(413, "body_too_large"),
    ]
    client = make(flaky.url, options=SMALL)
    receipt = client.post_arrow(b"ARROW")
    assert (receipt.accepted, receipt.duplicates, receipt.received) == (2, 1, 3)
    assert [request.body for request in flaky.requests] == [b"ARROW", b"ARROW"]
    content_type = flaky.requests[0].headers["content-type"]
    assert content_type == "application/vnd.apache.arrow.stream"
    with pytest.raises(TooLarge):
        client.post_arrow(b"ARROW")
