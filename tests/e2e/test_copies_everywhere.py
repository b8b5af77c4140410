"""Two gateways accept copies of the same events, and what came back after the window: over HTTP."""

from __future__ import annotations

import os
import signal

import httpx
import pytest

from tests.e2e.harness import Service, cli, running_service, wait_for

CATALOG: dict[str, dict] = {
    "meters/tokens": {"event_type": "llm", "aggregation": "sum", "value": "data.tokens"},
    "features/tokens": {"kind": "metered", "meter": "tokens"},
    "products/tokens": {"name": "Tokens", "meter": "tokens"},
    "pricebooks/pro": {
        "currency": "USD",
        "invoicing": {"timing": "arrears", "every_months": "1"},
        "prices": [{"product": "tokens", "charge": {"model": "per_unit", "unit_price": "1"}}],
        "entitlements": [{"feature": "tokens", "amount": "1000", "every": "month"}],
    },
    "customers/acme": {"name": "Acme", "subjects": ["acme"]},
    "contracts/k": {"customer": "acme", "pricebook": "pro", "start": "2026-01-01"},
}
START = "2026-01-10T12:00:00Z"


def event(number: int, tokens: int = 1, **more: object) -> dict[str, object]:
    """An event of 2026-01-10."""
    fixed = {"specversion": "1.0", "id": f"e{number}", "source": "s", "type": "llm"}
    return fixed | {"subject": "acme", "time": START, "data": {"tokens": tokens}} | more


def post_until_each_has_it(service: Service, events: list[dict], *, copies: int) -> int:
    """Send a body over new connections until so many gateways accepted it; how many events did."""
    accepted = 0
    for _ in range(200):
        with httpx.Client(base_url=service.url, headers=service.client.headers) as client:
            answer = client.post("/v1/events", json=events).json()
        assert not answer["rejected"], answer
        accepted += answer["accepted"]
        if accepted == copies * len(events):
            return accepted
    raise AssertionError(f"only {accepted} were accepted")


def amount(service: Service, **params: str) -> tuple[str, int]:
    """What January comes to, and how many events it counts."""
    (line,) = service.get("/v1/totals", period="2026-01", **params)["items"]
    return line["quantity"], line["event_count"]


def used(service: Service) -> str:
    """What the ledger says was used."""
    return service.get("/v1/customers/acme/entitlements/tokens")["used"]


@pytest.mark.slow
def test_copies_at_two_gateways_and_after_the_window_count_once() -> None:
    """Totals, balances, look-ups and the comparison of all stores agree, at every as_of."""
    settings = {"log__window_days": "2"}
    with running_service(
        "--gateways", "2", "--sandbox", "--now", START, settings=settings
    ) as service:
        for path, body in CATALOG.items():
            answer = service.client.put(f"/v1/{path}", json=body)
            assert answer.is_success, answer.text
        events = [event(n) for n in range(10)]
        once = service.post("/v1/events", events[:5])
        assert once["accepted"] == 5
        assert amount(service) == ("5", 5)
        before = service.get("/v1/totals", period="2026-01")["as_of"]
        advance(service, "2026-01-10T13:00:00Z")
        post_until_each_has_it(service, events[5:], copies=2)
        assert amount(service) == ("10", 10)
        wait_for(lambda: used(service) == "10", what="used 10", within_s=10)
        assert amount(service, as_of=before) == ("5", 5)
        found = service.get("/v1/events/s/e7")
        assert found["status"] == "counted"
        assert [copy["status"] for copy in found["copies"]] == ["collapsed"]

        service.post("/v1/events/void", [{"source": "s", "id": "e7", "reason": "test"}])
        assert amount(service) == ("9", 9)
        assert service.get("/v1/events/s/e7")["status"] == "void"
        wait_for(lambda: used(service) == "9", what="used 9", within_s=10)

        forget_beyond_the_window(service)
        again = [*events[:5], event(5, tokens=3), event(9, type="chat")]
        post_until_each_has_it(service, again, copies=2)
        assert amount(service) == ("9", 9)
        conflicts = service.get("/v1/events/conflicts")["items"]
        shown = {(item["id"], item["counted"]["type"], item["copy"]["type"]) for item in conflicts}
        assert shown == {("e5", "llm", "llm"), ("e9", "llm", "chat")}
        assert amount(service, as_of=before) == ("5", 5)
        void_what_nobody_remembers(service)
        for rebuilt in (False, True):
            if rebuilt:
                cli(service, "rebuild", "copies,cells,facts,clickhouse,ledger")
            cli(service, "verify")
            assert amount(service) == ("8", 8)
            wait_for(lambda: used(service) == "8", what="used 8", within_s=10)
            assert {service.get(f"/v1/events/s/e{n}")["status"] for n in (7, 8)} == {"void"}


def void_what_nobody_remembers(service: Service) -> None:
    """Before the window an item is found by its time; once, whichever gateway is asked."""
    item = {"source": "s", "id": "e8", "reason": "late"}
    told = [post_void(service, item) for _ in range(4)]
    assert {answer["rejected"][0]["code"] for answer in told} == {"unknown_event"}
    told = [post_void(service, item | {"time": START}) for _ in range(8)]
    assert [answer["voided"] for answer in told] == [1, *[0] * 7]
    assert {answer["already_void"] for answer in told[1:]} == {1}
    wrong = post_void(service, item | {"time": "2026-01-09T12:00:00Z"})
    assert wrong["rejected"][0]["code"] == "unknown_event"


def post_void(service: Service, item: dict) -> dict:
    """Void over a connection of its own: any gateway may answer."""
    with httpx.Client(base_url=service.url, headers=service.client.headers, timeout=20) as client:
        answer = client.post("/v1/events/void", json=[item])
        assert answer.status_code == 200, answer.text
        return answer.json()


@pytest.mark.slow
def test_a_void_reaches_the_gateway_that_has_the_event() -> None:
    """Whichever gateway is asked, also when the one that has the event does not run."""
    with running_service("--gateways", "2") as service:
        for path, body in CATALOG.items():
            assert service.client.put(f"/v1/{path}", json=body).is_success
        for number in range(12):
            service.post("/v1/events", [event(number)])
        for number in range(12):
            told = [post_void(service, {"source": "s", "id": f"e{number}"}) for _ in range(3)]
            assert [answer["voided"] for answer in told] == [1, 0, 0]
            assert [answer["already_void"] for answer in told] == [0, 1, 1]
        assert service.get("/v1/totals", period="2026-01")["items"] == []
        cli(service, "verify")


def forget_beyond_the_window(service: Service) -> None:
    """Days later the logs are sealed, and gateways that start anew know two days of them."""
    for day in (13, 16):  # the first events then close the files; they are the last in them
        advance(service, f"2026-01-{day}T12:00:00Z")
        filler = event(day, time=f"2026-01-{day}T12:00:00Z", subject="other")
        post_until_each_has_it(service, [filler], copies=2)
    nodes = service.data / "nodes"
    wait_for(
        lambda: all(any((nodes / name).glob("segment-*.json")) for name in ("n1", "n2")),
        what="sealed",
        within_s=20,
    )
    old = service.pids("api.gateway")
    for pid in old:
        os.kill(pid, signal.SIGKILL)
    wait_for(lambda: not set(old) & set(service.pids("api.gateway")), what="gone", within_s=10)
    service.wait_ready()


def advance(service: Service, now: str) -> None:
    """Move the sandbox's clock."""
    service.post("/v1/admin/clock", {"now": now})
