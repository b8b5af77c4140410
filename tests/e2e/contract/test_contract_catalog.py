"""Section 8: the catalog, its grammar and its history."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.contract.world import (
    BOOK,
    pages,
    put,
    totals,
)
from tests.e2e.harness import Service, cli

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
