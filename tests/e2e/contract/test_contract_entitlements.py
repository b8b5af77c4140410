"""Section 12: entitlements."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from tests.e2e.contract.world import (
    event,
    pages,
    totals,
)
from tests.e2e.harness import Service, wait_for

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
    checks = [{"customer": customer, "items": items} for customer in ("cafe", "dora", "acme")]
    results = service.post("/v1/entitlements/check", {"checks": checks})["results"]

    assert [each["customer"] for each in results] == ["cafe", "dora", "acme"]
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
