"""Entitlements and totals: what is asked, how it is answered, and that nothing hangs."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from tallyman_client import (
    Conflict,
    Item,
    NotFound,
    Options,
    Retry,
    Unavailable,
    Unreachable,
)

from tests.clients.both_kinds import Make
from tests.clients.flaky_service import Fault, FlakyService, problem

ALLOWED = {
    "allowed": True,
    "items": [{"feature": "tokens", "allowed": True, "balance": "89.75", "reason": None}],
}
DENIED = {
    "allowed": False,
    "items": [{"feature": "tokens", "allowed": False, "balance": "0", "reason": "insufficient"}],
}
CONSUME = "/v1/customers/acme/entitlements/consume"


def test_a_check_is_true_exactly_if_allowed(flaky: FlakyService, make: Make) -> None:
    """One request for many; a decision stands for its answer in a condition."""
    flaky.respond = lambda request: {
        "results": [{"customer": "acme", **ALLOWED}, {"customer": "b", **DENIED}]
    }
    client = make(flaky.url, "k")
    item = Item(feature="tokens", amount=Decimal("10.25"), dimensions={"model": "gpt-4"})
    first, second = client.check_many([("acme", {"tokens": 5}), ("b", [item])])
    assert first
    assert not second
    assert (first.items[0].balance, second.items[0].reason) == (Decimal("89.75"), "insufficient")
    [request] = flaky.requests
    assert request.json() == {
        "checks": [
            {"customer": "acme", "items": [{"feature": "tokens", "amount": "5"}]},
            {
                "customer": "b",
                "items": [
                    {"feature": "tokens", "amount": "10.25", "dimensions": {"model": "gpt-4"}}
                ],
            },
        ]
    }


@pytest.mark.parametrize("hang_s", [3.0, 0.4])
def test_a_check_does_not_hang(flaky: FlakyService, make: Make, hang_s: float) -> None:
    """About a second after the call there is an error, whether each attempt hangs or fails."""
    status = 503 if hang_s < 1 else 200
    flaky.fault = lambda request: Fault(hang_s=hang_s, status=status, body=b"{}")
    client = make(flaky.url)
    begun = time.monotonic()
    with pytest.raises((Unreachable, Unavailable)):
        client.check("acme", {"tokens": 1})
    assert time.monotonic() - begun < 1.6


def test_a_check_is_repeated_within_its_second(flaky: FlakyService, make: Make) -> None:
    """A cut connection is not the caller's business."""
    flaky.faults = [Fault(cut=True), problem(503, "busy")]
    flaky.respond = lambda request: {"results": [ALLOWED]}
    assert make(flaky.url).check("acme", {"tokens": 1})
    assert len(flaky.requests) == 3


def test_consume_has_one_key_for_all_attempts(flaky: FlakyService, make: Make) -> None:
    """Made once, the same bytes each time, told in the decision; a new one for the next call."""
    flaky.faults = [Fault(cut=True, after=True), problem(503, "busy")]
    flaky.respond = lambda request: ALLOWED
    client = make(flaky.url)
    decision = client.consume("acme", {"tokens": 1}, subject="u1", data={"n": Decimal("0.5")})
    assert decision
    assert len({request.body for request in flaky.requests}) == 1
    assert flaky.requests[0].json() == {
        "items": [{"feature": "tokens", "amount": "1"}],
        "key": decision.key,
        "subject": "u1",
        "data": {"n": "0.5"},
    }
    assert client.consume("acme", {"tokens": 1}).key != decision.key
    assert client.consume("acme", {"tokens": 1}, key="mine").key == "mine"


def test_an_unknown_outcome_names_its_key(flaky: FlakyService, make: Make) -> None:
    """So that the caller can repeat the call and it counts once."""
    flaky.fault = lambda request: Fault(cut=True, after=True)
    quick = Retry(attempt_s_max=2.0, total_s_max=2.0, pause_s_first=0.2, pause_s_max=0.5)
    client = make(flaky.url, options=Options(consume=quick))
    with pytest.raises(Unreachable) as raised:
        client.consume("acme", {"tokens": 1})
    assert {request.json()["key"] for request in flaky.requests} == {raised.value.key}


def test_problems_are_errors_with_code_status_and_document(flaky: FlakyService, make: Make) -> None:
    """4xx is raised at once."""
    flaky.faults = [problem(409, "key_reused"), problem(404, "not_found")]
    client = make(flaky.url)
    with pytest.raises(Conflict) as raised:
        client.consume("acme", {"tokens": 1}, key="k")
    error = raised.value
    assert (error.code, error.status, error.key) == ("key_reused", 409, "k")
    assert error.problem["detail"] == "told to be key_reused"
    with pytest.raises(NotFound):
        client.entitlement("acme", "tokens")
    assert len(flaky.requests) == 2


def test_reserve_settle_release(flaky: FlakyService, make: Make) -> None:
    """Paths and bodies; ids are quoted into the path."""
    answers: list[dict[str, Any]] = [
        {"reservation": "r1", **ALLOWED},
        {"reservation": "r1", **ALLOWED},
        {"reservation": "r1", "released": True},
    ]
    flaky.respond = lambda request: answers.pop(0)
    client = make(flaky.url)
    held = client.reserve("a/b", {"tokens": 10}, ttl_s=30, key="k")
    assert (bool(held), held.reservation, held.key) == (True, "r1", "k")
    assert client.settle("a/b", "r1", {"tokens": 7}, data={"n": 1}).items[0].feature == "tokens"
    client.release("a/b", "r1")
    base = "/v1/customers/a%2Fb/entitlements"
    amount = [{"feature": "tokens", "amount": "7"}]
    assert [(seen.path, seen.json()) for seen in flaky.requests] == [
        (
            f"{base}/reserve",
            {"items": [{"feature": "tokens", "amount": "10"}], "key": "k", "ttl_s": 30},
        ),
        (f"{base}/settle", {"reservation": "r1", "items": amount, "data": {"n": 1}}),
        (f"{base}/release", {"reservation": "r1"}),
    ]


def test_entitlements_are_typed(flaky: FlakyService, make: Make) -> None:
    """Decimals, instants, None where unlimited."""
    row = {
        "feature": "tokens",
        "has_access": True,
        "allowance": None,
        "used": "1.5",
        "held": "0",
        "balance": None,
        "overage": None,
        "resets_at": "2026-02-01T00:00:00Z",
        "grants": [{"id": "g"}],
        "as_of": "2026-01-01T00:00:00.000001Z",
        "something_new": 1,
    }
    flaky.respond = lambda request: (
        row if request.path.endswith("/tokens") else {"items": [row], "next_cursor": None}
    )
    client = make(flaky.url)
    [listed] = client.entitlements("acme")
    one = client.entitlement("acme", "tokens")
    assert listed == one
    assert (one.used, one.allowance) == (Decimal("1.5"), None)
    assert one.resets_at == datetime(2026, 2, 1, tzinfo=UTC)
    assert flaky.requests[0].query == ""


def test_totals_are_whole_and_of_one_instant(flaky: FlakyService, make: Make) -> None:
    """All pages, the later ones as of the first."""
    pages = [
        {"period": "2026-01", "as_of": "T0", "items": [{"line_id": "1"}], "next_cursor": "c1"},
        {"period": "2026-01", "as_of": "T0", "items": [{"line_id": "2"}], "next_cursor": None},
    ]
    flaky.respond = lambda request: pages.pop(0)
    totals = make(flaky.url).totals("2026-01", customer="acme", zeros=True)
    assert [row["line_id"] for row in totals["items"]] == ["1", "2"]
    assert (totals["as_of"], totals["next_cursor"]) == ("T0", None)
    first, second = (set(request.query.split("&")) for request in flaky.requests)
    assert first == {"period=2026-01", "customer=acme", "zeros=true", "limit=1000"}
    assert second == first | {"as_of=T0", "cursor=c1"}


@pytest.mark.parametrize("items", [{"tokens": 0.5}, "tokens", ["tokens"], {"tokens": True}])
def test_items_are_exact(flaky: FlakyService, make: Make, items: Any) -> None:
    """Floats, and what is no items at all, are refused before anything is sent."""
    with pytest.raises(TypeError):
        make(flaky.url).check("acme", items)
    assert flaky.requests == []


@pytest.mark.parametrize("url", ["ftp://x", "localhost:8080", "http://"])
def test_an_address_is_checked(make: Make, url: str) -> None:
    """At once, not at the first event."""
    with pytest.raises(ValueError, match="address"):
        make(url)
