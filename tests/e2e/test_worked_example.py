"""The worked example of the field's own literature, over HTTP, to the cent."""

from __future__ import annotations

import pytest

from tests.e2e.harness import Service

PER_UNIT = {"model": "per_unit"}
MONTHLY = {"timing": "arrears", "every_months": 1}
YEARLY = {"timing": "advance", "every_months": 12}
CATALOG = {
    "meters": {
        "updates": {"event_type": "updates", "aggregation": "sum", "value": "data.n"},
        "creates": {"event_type": "creates", "aggregation": "sum", "value": "data.n"},
        "deletes": {"event_type": "deletes", "aggregation": "sum", "value": "data.n"},
    },
    "products": {
        "1": {"name": "Updates", "meter": "updates"},
        "2": {"name": "Creates", "meter": "creates"},
        "3": {"name": "Deletes", "meter": "deletes"},
        "4": {"name": "Enterprise platform fee"},
    },
    "pricebooks": {
        "b": {
            "currency": "USD",
            "invoicing": MONTHLY,
            "prices": [
                {"product": "1", "charge": PER_UNIT | {"unit_price": "0.05"}},
                {"product": "2", "charge": PER_UNIT | {"unit_price": "0.04"}},
                {
                    "product": "4",
                    "invoicing": YEARLY,
                    "charge": {"model": "flat", "amount": "5000.00"},
                },
            ],
        }
    },
    "customers": {"OptimusPrimeBot": {"name": "OptimusPrimeBot", "subjects": ["optimus"]}},
    "contracts": {
        "main": {
            "customer": "OptimusPrimeBot",
            "pricebook": "b",
            "start": "2023-11-01",
            "end": "2024-11-01",
        },
        "oneoff": {
            "customer": "OptimusPrimeBot",
            "currency": "USD",
            "invoicing": MONTHLY,
            "start": "2023-11-01",
            "end": "2024-11-01",
            "prices": [
                {"product": "2", "charge": PER_UNIT | {"unit_price": "1.00"}},
                {"product": "4", "charge": {"model": "flat", "amount": "5300.00"}},
            ],
        },
        "override": {
            "customer": "OptimusPrimeBot",
            "pricebook": "b",
            "start": "2023-11-01",
            "end": "2024-11-01",
            "prices": [{"product": "3", "charge": PER_UNIT | {"unit_price": "2.00"}}],
        },
    },
}
EVENTS = [
    {
        "id": name,
        "source": "bframe",
        "type": name,
        "subject": "optimus",
        "time": "2023-11-15T12:00:00Z",
        "data": {"n": count},
    }
    for name, count in (("updates", 8617), ("creates", 2552920), ("deletes", 7))
]


@pytest.fixture
def priced(service: Service) -> Service:
    """The service with the example's catalog and events."""
    service.post("/v1/catalog", {"document": CATALOG})
    assert service.post("/v1/events", EVENTS)["accepted"] == 3
    return service


def lines(service: Service, contract: str) -> list[tuple[str, str, str, str]]:
    """(product, timing, kind, amount) of November's lines, in product order."""
    answer = service.get("/v1/totals", period="2023-11", contract=contract)
    rows = [(x["product"], x["timing"], x["kind"], x["amount"]) for x in answer["items"]]
    return sorted(rows)


def test_the_bill(priced: Service) -> None:
    """Three lines, two drafts, every figure as published; a one-off and an override beside it."""
    assert lines(priced, "main") == [
        ("1", "arrears", "usage", "430.85"),
        ("2", "arrears", "usage", "102116.80"),
        ("4", "advance", "fixed", "5000.00"),
    ]
    drafts = priced.get("/v1/invoices", period="2023-11", contract="main")["items"]
    assert sorted(draft["total"] for draft in drafts) == ["102547.65", "5000.00"]
    assert [row[0::3] for row in lines(priced, "oneoff")] == [
        ("2", "2552920.00"),
        ("4", "5300.00"),
    ]
    assert ("3", "arrears", "usage", "14.00") in lines(priced, "override")


def test_the_fee_is_due_once_a_year(priced: Service) -> None:
    """In December there is no fee, and no usage either."""
    assert priced.get("/v1/totals", period="2023-12", contract="main")["items"] == []


def test_every_line_explains_itself(priced: Service) -> None:
    """The explanation ends in the line's own amount and counts its events."""
    for row in priced.get("/v1/totals", period="2023-11")["items"]:
        explained = priced.get(f"/v1/totals/{row['line_id']}/explain")
        assert explained["amount"] == row["amount"]
        assert explained["event_count"] == row["event_count"]
        events = priced.get(f"/v1/totals/{row['line_id']}/events")["items"]
        assert len(events) == row["event_count"]
