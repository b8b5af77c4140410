"""One row a mistake: the pointer it is reported at, and a word of the reason."""

from __future__ import annotations

from typing import Any

import pytest

from catalog.grammar import InvalidDocument, parse_document, parse_object
from catalog.ids import Kind

METER: dict[str, Any] = {"event_type": "t", "aggregation": "sum", "value": "data.x"}
INVOICING: dict[str, Any] = {"timing": "arrears", "every_months": 1}
FLAT: dict[str, Any] = {"model": "flat", "amount": "1"}
UNIT: dict[str, Any] = {"model": "per_unit", "unit_price": "1"}
CONTRACT: dict[str, Any] = {"customer": "c", "pricebook": "b", "start": "2026-01-01"}


def mistakes(kind: Kind, body: Any) -> list[tuple[str, str]]:
    """Pointer and detail of everything wrong with one object."""
    with pytest.raises(InvalidDocument) as caught:
        parse_object(kind, "x", body)
    return [(error.pointer, error.detail) for error in caught.value.errors]


def expect_one(kind: Kind, body: Any, pointer: str, reason: str) -> None:
    """Exactly one mistake, at ``pointer``, whose detail contains ``reason``."""
    found = mistakes(kind, body)
    assert [at for at, _ in found] == [pointer], found
    assert reason in found[0][1]


@pytest.mark.parametrize(
    ("change", "pointer", "reason"),
    [
        ({"event_type": None}, "", "'event_type' is missing"),
        ({"event_type": []}, "/event_type", "1 to 100 items"),
        ({"event_type": ["t", "t"]}, "/event_type", "listed twice"),
        ({"event_type": ["t", 5]}, "/event_type/1", "must be text"),
        ({"event_type": "x" * 257}, "/event_type", "256 bytes"),
        ({"event_type": "a\nb"}, "/event_type", "control character"),
        ({"aggregation": "avg"}, "/aggregation", "one of count, sum"),
        ({"aggregation": "count"}, "/value", "reads no value"),
        ({"value": None}, "", "'value' is missing"),
        ({"value": "tokens"}, "/value", "not a path"),
        ({"value": "data."}, "/value", "not a path"),
        ({"value": "data"}, "/value", "not a path"),
        ({"percentile": "95"}, "/percentile", "goes with the aggregation percentile"),
        ({"aggregation": "percentile"}, "/percentile", "goes with the aggregation"),
        ({"aggregation": "percentile", "percentile": "0"}, "/percentile", "above 0"),
        ({"aggregation": "percentile", "percentile": "101"}, "/percentile", "at most 100"),
        ({"aggregation": "percentile", "percentile": 95}, "/percentile", "must be a string"),
        ({"window": "7m"}, "/window", "divide a day"),
        ({"aggregation": "unique_count", "window": "1h"}, "/window", "no meaning"),
        ({"dimensions": ["model"]}, "/dimensions", "must be a mapping"),
        ({"dimensions": {"a/b~c": "data.d"}}, "/dimensions/a~1b~0c", "not an id"),
        ({"dimensions": {"d": "model"}}, "/dimensions/d", "not a path"),
        ({"filter": {"region": {"in": ["a"]}}}, "/filter/region", "not a path"),
        ({"filter": {"data.k": {}}}, "/filter/data.k", "exactly one of 'in'"),
        ({"filter": {"data.k": {"in": ["a"], "not_in": ["b"]}}}, "/filter/data.k", "exactly one"),
        ({"filter": {"data.k": {"in": []}}}, "/filter/data.k/in", "1 to 1000 items"),
        ({"filter": {"data.k": {"in": [{"a": 1}]}}}, "/filter/data.k/in/0", "must be text"),
        (
            {"filter": {"data.k": {"exists": True, "optional": True}}},
            "/filter/data.k/optional",
            "only with 'in' and 'not_in'",
        ),
        ({"filter": {"data.k": {"exists": False}}}, "/filter/data.k/exists", "only be true"),
        ({"billable": "yes"}, "/billable", "true or false"),
        ({"agregation": "sum"}, "/agregation", "did you mean 'aggregation'?"),
        ({"effective_from": "2026-13-01"}, "/effective_from", "neither a date"),
        (
            {"effective_from": "2026-02-01", "effective_until": "2026-02-01"},
            "/effective_until",
            "later than the beginning",
        ),
    ],
)
def test_meters(change: dict[str, Any], pointer: str, reason: str):
    """A meter's mistakes."""
    expect_one(Kind.METERS, METER | change, pointer, reason)


@pytest.mark.parametrize(
    ("kind", "body", "pointer", "reason"),
    [
        (Kind.PRODUCTS, None, "", "must be a mapping"),
        (Kind.PRODUCTS, "p", "", "must be a mapping"),
        (Kind.PRODUCTS, {}, "", "'name' is missing"),
        (Kind.PRODUCTS, {"name": "\ud800"}, "/name", "surrogate"),
        (Kind.PRODUCTS, {"name": "P", "filter": {"d": {"in": ["a"]}}}, "/filter", "needs a meter"),
        (
            Kind.PRODUCTS,
            {"name": "P", "meter": "m", "filter": {"d": {"exists": True}}},
            "/filter/d",
            "exactly one of 'in', 'not_in'",
        ),
        (Kind.FEATURES, {"kind": "metered"}, "", "'meter' is missing"),
        (Kind.FEATURES, {"kind": "static", "meter": "m"}, "/meter", "has none"),
        (Kind.FEATURES, {"kind": "metered", "meter": "-m"}, "/meter", "not an id"),
        (Kind.CUSTOMERS, {"name": "C"}, "", "'subjects' is missing"),
        (Kind.CUSTOMERS, {"name": "C", "subjects": [{}]}, "/subjects/0", "'subject' is missing"),
        (Kind.CUSTOMERS, {"name": "C", "subjects": ["s", "s"]}, "/subjects/1", "second time"),
        (Kind.CUSTOMERS, {"name": "C", "subjects": [], "parent": "x"}, "/parent", "own parent"),
        (
            Kind.CUSTOMERS,
            {
                "name": "C",
                "subjects": [{"subject": "s", "from": "2026-02-01", "until": "2026-01-01"}],
            },
            "/subjects/0/until",
            "later",
        ),
        (
            Kind.CUSTOMERS,
            {"name": "C", "subjects": [], "metadata": {"a": []}},
            "/metadata/a",
            "text",
        ),
    ],
)
def test_products_features_customers(kind: Kind, body: Any, pointer: str, reason: str):
    """The mistakes of small objects."""
    expect_one(kind, body, pointer, reason)


@pytest.mark.parametrize(
    ("charge", "pointer", "reason"),
    [
        ({}, "", "'model' is missing"),
        ({"model": "tiered"}, "/model", "must be one of flat"),
        ({"model": "flat", "amount": 10}, "/amount", "a decimal must be a string"),
        ({"model": "flat", "amount": 1.5}, "/amount", "a decimal must be a string"),
        ({"model": "flat", "amount": "1e20"}, "/amount", "below 10^14"),
        ({"model": "flat", "amount": "0.0000000000001"}, "/amount", "12 decimals"),
        ({"model": "flat", "unit_price": "1", "amount": "1"}, "/unit_price", "unknown key"),
        ({"model": "package", "package_price": "1"}, "", "'size' is missing"),
        ({"model": "package", "package_price": "1", "size": "0"}, "/size", "above 0"),
        ({"model": "graduated", "tiers": []}, "/tiers", "1 to 1000"),
        ({"model": "graduated", "tiers": [{"up_to": "5"}]}, "/tiers/0", "a 'unit_price' or"),
        (
            {"model": "graduated", "tiers": [{"unit_price": "1"}, {"unit_price": "2"}]},
            "/tiers/0",
            "only the last",
        ),
        (
            {
                "model": "volume",
                "tiers": [{"up_to": "10", "unit_price": "1"}, {"up_to": "10.0", "unit_price": "2"}],
            },
            "/tiers/1/up_to",
            "above 10",
        ),
        (
            {"model": "volume", "tiers": [{"package_size": "2", "flat_fee": "1"}]},
            "/tiers/0/package_size",
            "unit_price",
        ),
        (
            {"model": "volume", "tiers": [{"unit_price": "1"}], "beyond": "ok"},
            "/beyond",
            "refuse, free",
        ),
        (
            {"model": "stairstep", "tiers": [{"up_to": "1"}]},
            "/tiers/0",
            "'flat_fee' is missing",
        ),
        (
            {"model": "graduated_percentage", "tiers": [{"percent": "1001"}]},
            "/tiers/0/percent",
            "at most 1000",
        ),
        (
            {"model": "percentage", "percent": "1", "free_events": "1.5"},
            "/free_events",
            "whole number",
        ),
        (
            {"model": "percentage", "percent": "1", "event_minimum": "2", "event_maximum": "1"},
            "/event_maximum",
            "below 'event_minimum'",
        ),
        ({"model": "dynamic", "amount": "cost"}, "/amount", "not a path"),
        ({"model": "matrix", "rows": [{"when": {}, "unit_price": "1"}]}, "/rows/0/when", "1 to 64"),
        ({"model": "matrix", "rows": [{"when": {"d": "a"}}]}, "/rows/0", "exactly one of"),
        (
            {
                "model": "matrix",
                "rows": [{"when": {"d": "a"}, "charge": {"model": "dynamic", "amount": "data.c"}}],
            },
            "/rows/0/charge",
            "inside a matrix",
        ),
        (
            {
                "model": "matrix",
                "rows": [
                    {"when": {"d": "a"}, "unit_price": "1"},
                    {"when": {"e": "b"}, "unit_price": "2"},
                ],
            },
            "/rows/1",
            "ties with row 0",
        ),
        (
            {
                "model": "capacity",
                "tiers": [
                    {"up_to": {"m": "2"}, "amount": "1"},
                    {"up_to": {"m": "1"}, "amount": "2"},
                ],
            },
            "/tiers/1/up_to",
            "hold more",
        ),
        (
            {
                "model": "capacity",
                "tiers": [
                    {"up_to": {"m": "2"}, "amount": "1"},
                    {"up_to": {"n": "3"}, "amount": "2"},
                ],
            },
            "/tiers/1/up_to",
            "same meters",
        ),
    ],
)
def test_charges(charge: Any, pointer: str, reason: str):
    """A charge's mistakes, inside the first price of a pricebook."""
    book = {
        "currency": "USD",
        "invoicing": INVOICING,
        "prices": [{"product": "p", "charge": charge}],
    }
    expect_one(Kind.PRICEBOOKS, book, f"/prices/0/charge{pointer}", reason)


@pytest.mark.parametrize(
    ("change", "pointer", "reason"),
    [
        ({"product": None}, "", "'product' is missing"),
        ({"charge": None}, "", "'charge' is missing"),
        ({"discount_percent": "101"}, "/discount_percent", "at most 100"),
        ({"included": "-1"}, "/included", "at least 0"),
        ({"quantity": "0.0000000001"}, "/quantity", "9 decimals"),
        ({"quantity": "1", "group_by": ["d"]}, "/group_by", "'quantity' is fixed"),
        ({"charge": FLAT, "included": "5"}, "/included", "flat fee"),
        ({"group_by": "model"}, "/group_by", "must be a list"),
        ({"minimum": "5", "maximum": "4"}, "/maximum", "below 'minimum'"),
        ({"from_period": 3, "to_period": 2}, "/to_period", "before 'from_period'"),
        ({"from_period": "0"}, "/from_period", "from 1"),
        ({"prorate": "weekly"}, "/prorate", "false, days, seconds"),
        (
            {"effective_from": "2026-02-01", "effective_until": "2026-01-01"},
            "/effective_until",
            "later",
        ),
        ({"invoicing": {"timing": "arrears"}}, "/invoicing", "exactly one of 'every_months'"),
        ({"invoicing": INVOICING | {"every_days": 1}}, "/invoicing", "exactly one of"),
        ({"invoicing": {"timing": "once", "every_days": 1}}, "/invoicing/every_days", "no cadence"),
        (
            {"invoicing": INVOICING | {"every_months": True}},
            "/invoicing/every_months",
            "whole number",
        ),
        ({"invoicing": INVOICING | {"anchor": "start"}}, "/invoicing/anchor", "contract, calendar"),
        (
            {"invoicing": {"timing": "arrears", "every_days": "9", "anchor": "month"}},
            "/invoicing/every_days",
            "'every_months'",
        ),
        ({"convert": {"round": "up"}}, "/convert", "exactly one of 'divide'"),
        ({"convert": {"divide": "0"}}, "/convert/divide", "above 0"),
        ({"convert": {"divide": "2", "digits": 3}}, "/convert/digits", "'round' is none"),
        ({"bucket": "hourly"}, "/bucket", "not a window"),
        ({"hours": ["25:00-26:00"]}, "/hours/0", "stretch of the day"),
        ({"hours": ["22:00-06:00", "05:00-07:00"]}, "/hours", "overlaps"),
        ({"tiers_span": {"every_months": 0}}, "/tiers_span/every_months", "from 1"),
        ({"commitment": {"true_up": False}}, "/commitment", "exactly one of"),
        ({"commitment": {"quantity": "1", "amount": "1"}}, "/commitment", "exactly one of"),
    ],
)
def test_prices(change: dict[str, Any], pointer: str, reason: str):
    """A price's mistakes."""
    price = {"product": "p", "charge": UNIT} | change
    book = {"currency": "USD", "invoicing": INVOICING, "prices": [price]}
    expect_one(Kind.PRICEBOOKS, book, f"/prices/0{pointer}", reason)


@pytest.mark.parametrize(
    ("change", "pointer", "reason"),
    [
        ({"currency": "USX"}, "/currency", "ISO 4217"),
        ({"currency": "XAU"}, "/currency", "ISO 4217"),
        ({"prices": None}, "", "'prices' is missing"),
        ({"prices": {}}, "/prices", "must be a list"),
        (
            {
                "prices": [
                    {"product": "p", "id": "i", "charge": FLAT},
                    {"product": "q", "id": "i", "charge": FLAT},
                ]
            },
            "/prices/1/id",
            "already names another",
        ),
        ({"entitlements": [{"feature": "f"}]}, "/entitlements/0", "exactly one of 'amount'"),
        (
            {"entitlements": [{"feature": "f", "amount": "1", "unlimited": True}]},
            "/entitlements/0",
            "exactly one",
        ),
        (
            {"entitlements": [{"feature": "f", "amount": "1", "every": "week"}]},
            "/entitlements/0/every",
            "mapping",
        ),
        (
            {"entitlements": [{"feature": "f", "value": "x", "every": "month"}]},
            "/entitlements/0/every",
            "not renew",
        ),
        (
            {"entitlements": [{"feature": "f", "amount": "1", "rollover_max": "1"}]},
            "/entitlements/0/rollover_max",
            "'every'",
        ),
        (
            {"entitlements": [{"feature": "f", "amount": "1", "limit": "firm"}]},
            "/entitlements/0/limit",
            "hard, soft",
        ),
    ],
)
def test_pricebooks(change: dict[str, Any], pointer: str, reason: str):
    """A pricebook's mistakes."""
    book = {"currency": "USD", "invoicing": INVOICING, "prices": []} | change
    expect_one(Kind.PRICEBOOKS, book, pointer, reason)


@pytest.mark.parametrize(
    ("change", "pointer", "reason"),
    [
        ({"customer": None}, "", "'customer' is missing"),
        ({"start": None}, "", "'start' is missing"),
        ({"end": "2026-01-01"}, "/end", "later"),
        ({"timezone": "Mars/Olympus"}, "/timezone", "IANA"),
        ({"timezone": "../etc/passwd"}, "/timezone", "IANA"),
        ({"pricebook": None, "invoicing": INVOICING}, "", "'currency' is missing"),
        ({"pricebook": None, "currency": "USD"}, "", "'invoicing' is missing"),
        (
            {"pricebook": None, "currency": "USD", "invoicing": INVOICING, "pin": True},
            "/pin",
            "no pricebook",
        ),
        ({"prices": [{"product": "p"}]}, "/prices/0", "exactly one of 'charge'"),
        ({"prices": [{"product": "p", "multiply": "-1"}]}, "/prices/0/multiply", "at least 0"),
        (
            {"prices": [{"product": "p", "multiply": "1", "charge": FLAT}]},
            "/prices/0",
            "exactly one of",
        ),
        ({"prices": [{"product": "p", "remove": False}]}, "/prices/0/remove", "only be true"),
        (
            {"prices": [{"product": "p", "multiply": "1", "additional": True}]},
            "/prices/0/additional",
            "whole price",
        ),
        ({"prices": [{"charge": FLAT}]}, "/prices/0", "'product' is missing"),
        ({"discounts": [{"products": ["p"]}]}, "/discounts/0", "exactly one of 'percent'"),
        ({"discounts": [{"percent": "5", "products": []}]}, "/discounts/0/products", "1 to 1000"),
        ({"minimum": {"amount": "5"}}, "/minimum", "'every_months' is missing"),
        ({"commitments": [{"amount": "-5"}]}, "/commitments/0/amount", "at least 0"),
        (
            {"credits": [{"id": "a", "amount": "1"}, {"id": "a", "amount": "2"}]},
            "/credits/1/id",
            "another credit",
        ),
        ({"trial": {"days": 0}}, "/trial/days", "from 1"),
        ({"amendments": [{"prices": []}]}, "/amendments/0", "'effective_from' is missing"),
        (
            {"amendments": [{"effective_from": "2025-01-01"}]},
            "/amendments/0/effective_from",
            "later than",
        ),
        (
            {"amendments": [{"effective_from": "2026-03-01"}, {"effective_from": "2026-03-01"}]},
            "/amendments/1/effective_from",
            "later than",
        ),
        (
            {"end": "2026-06-01", "amendments": [{"effective_from": "2026-06-01"}]},
            "/amendments/0/effective_from",
            "not before the contract's end",
        ),
    ],
)
def test_contracts(change: dict[str, Any], pointer: str, reason: str):
    """A contract's mistakes."""
    expect_one(Kind.CONTRACTS, CONTRACT | change, pointer, reason)


@pytest.mark.parametrize(
    ("tree", "pointer", "reason"),
    [
        ([], "", "must be a mapping"),
        ({"meter": {}}, "/meter", "did you mean 'meters'?"),
        ({"meters": []}, "/meters", "mapping of ids"),
        ({"products": {"a b": {"name": "P"}}}, "/products/a b", "not an id"),
        ({"products": {"p": {"versions": []}}}, "/products/p/versions", "1 to 1000"),
        (
            {"products": {"p": {"versions": [{"name": "P"}], "name": "P"}}},
            "/products/p/name",
            "unknown",
        ),
        (
            {"products": {"p": {"versions": [{"name": "P"}, {"name": "Q"}]}}},
            "/products/p/versions/1",
            "only the first",
        ),
        (
            {
                "products": {
                    "p": {
                        "versions": [
                            {"name": "P", "effective_until": "2026-03-01"},
                            {"name": "Q", "effective_from": "2026-02-01"},
                        ]
                    }
                }
            },
            "/products/p/versions/1/effective_from",
            "overlaps",
        ),
        (
            {
                "products": {
                    "p": {
                        "versions": [
                            {"name": "P", "effective_from": "2026-03-01"},
                            {"name": "Q", "effective_from": "2026-02-01"},
                        ]
                    }
                }
            },
            "/products/p/versions/1/effective_from",
            "later than the version before",
        ),
    ],
)
def test_documents(tree: Any, pointer: str, reason: str):
    """Mistakes of a document as a whole, and of chains."""
    with pytest.raises(InvalidDocument) as caught:
        parse_document(tree)
    assert [error.pointer for error in caught.value.errors] == [pointer]
    assert reason in caught.value.errors[0].detail


def test_every_mistake_is_reported_not_only_the_first():
    """A document with mistakes in several objects names each of them, in order."""
    tree = {
        "meters": {"m": METER | {"value": "x"}, "n": {}},
        "pricebooks": {
            "b": {
                "currency": "US",
                "invoicing": INVOICING,
                "prices": [
                    {"product": "p", "charge": FLAT},
                    {"charge": {"model": "flat"}, "nmae": "x"},
                ],
            }
        },
    }
    with pytest.raises(InvalidDocument) as caught:
        parse_document(tree)
    assert [error.pointer for error in caught.value.errors] == [
        "/meters/m/value",
        "/meters/n",
        "/meters/n",
        "/pricebooks/b/currency",
        "/pricebooks/b/prices/1",
        "/pricebooks/b/prices/1/charge",
        "/pricebooks/b/prices/1/nmae",
    ]
    assert caught.value.code == "invalid_document"


def test_the_list_of_mistakes_is_bounded():
    """A hopeless document answers with at most 100 mistakes and their number."""
    with pytest.raises(InvalidDocument, match=r"and 499 more") as caught:
        parse_document({"products": {f"p{n}": {} for n in range(500)}})
    assert len(caught.value.errors) == 100


def test_an_empty_document_states_nothing():
    """Null and an empty mapping, also of a family, are documents without objects."""
    for tree in (None, {}, {"meters": None}, {"meters": {}}):
        assert parse_document(tree).objects == ()
