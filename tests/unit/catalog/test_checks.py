"""One row a mistake between objects: each breaks one thing of a document that fits together."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest
from hypothesis import given, settings

from catalog.changes import plan
from catalog.grammar import InvalidDocument, parse_document
from catalog.snapshot import Catalog
from tests.strategies import Tree, catalog_of, catalog_trees

UNIT: Tree = {"model": "per_unit", "unit_price": "0.1"}
FLAT: Tree = {"model": "flat", "amount": "10"}
MONTHLY: Tree = {"timing": "arrears", "every_months": 1}
ADVANCE: Tree = {"timing": "advance", "every_months": 1}
MATRIX: Tree = {"model": "matrix", "rows": [{"when": {"shape": "a"}, "unit_price": "1"}]}
CAPACITY: Tree = {"model": "capacity", "tiers": [{"up_to": {"n": "5"}, "amount": "1"}]}

TREE: Tree = {
    "meters": {
        "m": {
            "event_type": "t",
            "aggregation": "sum",
            "value": "data.x",
            "dimensions": {"model": "data.model"},
        },
        "hidden": {"event_type": "t", "aggregation": "count", "billable": False},
    },
    "features": {
        "tokens": {"kind": "metered", "meter": "m"},
        "sso": {"kind": "boolean"},
        "seats": {"kind": "static"},
    },
    "products": {
        "use": {"name": "Use", "meter": "m", "filter": {"model": {"in": ["a"]}}},
        "fee": {"name": "Fee"},
        "free": {"name": "Free", "meter": "hidden"},
    },
    "pricebooks": {
        "usd": {
            "currency": "USD",
            "invoicing": MONTHLY,
            "prices": [
                {"product": "use", "charge": UNIT, "group_by": ["model"]},
                {"product": "fee", "id": "fee-1", "charge": FLAT, "invoicing": ADVANCE},
            ],
            "entitlements": [{"feature": "tokens", "amount": "5"}],
        },
        "eur": {
            "currency": "EUR",
            "invoicing": MONTHLY,
            "prices": [{"product": "use", "charge": UNIT}],
        },
    },
    "customers": {
        "acme": {"name": "Acme", "subjects": ["a"]},
        "bolt": {"name": "Bolt", "subjects": ["b"], "parent": "acme"},
    },
    "contracts": {
        "k": {
            "customer": "acme",
            "pricebook": "usd",
            "start": "2026-01-01",
            "prices": [{"product": "use", "multiply": "0.9"}],
        },
    },
}
PRICES = "/pricebooks/usd/prices"
LISTED = "pricebooks.usd.prices"
PRICE = f"{LISTED}.0"
K = "contracts.k"


def changed(path: str, value: Any) -> Tree:
    """TREE with ``value`` at a dotted path; numbers are places in lists (the end: append)."""
    tree = deepcopy(TREE)
    *steps, last = path.split(".")
    place: Any = tree
    for step in steps:
        place = place[int(step)] if isinstance(place, list) else place[step]
    if isinstance(place, list):
        place[int(last) :] = [value]
    else:
        place[last] = value
    return tree


def mistakes(tree: Tree, catalog: Catalog | None = None) -> list[tuple[str, str]]:
    """What is wrong with applying ``tree``."""
    with pytest.raises(InvalidDocument) as caught:
        plan(catalog or Catalog(), parse_document(tree))
    return [(error.pointer, error.detail) for error in caught.value.errors]


@given(tree=catalog_trees())
@settings(max_examples=25, deadline=None)
def test_consistent_documents_pass(tree: Tree):
    """The checks refuse nothing that fits together."""
    assert catalog_of(tree).revision == sum(len(family) for family in tree.values())


@pytest.mark.parametrize(
    ("path", "value", "pointer", "reason"),
    [
        ("products.use.meter", "n", "/products/use/meter", "there is no meter 'n'"),
        ("features.tokens.meter", "n", "/features/tokens/meter", "there is no meter 'n'"),
        (
            "products.use.filter",
            {"shape": {"in": ["a"]}},
            "/products/use/filter/shape",
            "dimension",
        ),
        (
            "pricebooks.eur.prices.0.product",
            "gone",
            "/pricebooks/eur/prices/0/product",
            "there is no product 'gone'",
        ),
        (f"{PRICE}.group_by", ["model", "shape"], f"{PRICES}/0/group_by/1", "no dimension 'shape'"),
        (f"{PRICE}.charge", MATRIX, f"{PRICES}/0/charge/rows/0/when/shape", "no dimension"),
        (f"{PRICE}.charge", CAPACITY, f"{PRICES}/0/charge/tiers/0/up_to/n", "there is no meter"),
        (f"{PRICE}.invoicing", ADVANCE, f"{PRICES}/0/invoicing", "billed in advance"),
        (
            f"{LISTED}.2",
            {"product": "fee", "charge": UNIT},
            f"{PRICES}/2/charge",
            "has no meter",
        ),
        (
            f"{LISTED}.2",
            {"product": "free", "charge": UNIT},
            f"{PRICES}/2/product",
            "not billable",
        ),
        ("pricebooks.usd.invoicing", ADVANCE, f"{PRICES}/0", "billed in advance"),
        (
            "pricebooks.usd.entitlements.0",
            {"feature": "none", "amount": "1"},
            "/pricebooks/usd/entitlements/0/feature",
            "there is no feature 'none'",
        ),
        (
            "pricebooks.usd.entitlements.0",
            {"feature": "tokens", "value": "x"},
            "/pricebooks/usd/entitlements/0",
            "is metered",
        ),
        (
            "pricebooks.usd.entitlements.0",
            {"feature": "sso", "amount": "1"},
            "/pricebooks/usd/entitlements/0",
            "is boolean",
        ),
        (
            "meters.m.aggregation",
            "max",
            "/pricebooks/usd/entitlements/0",
            "needs a meter that is a sum or a count",
        ),
        (
            "pricebooks.usd.entitlements.0",
            {"feature": "seats", "unlimited": True},
            "/pricebooks/usd/entitlements/0",
            "is static",
        ),
        ("customers.bolt.parent", "none", "/customers/bolt/parent", "there is no customer"),
        (f"{K}.customer", "none", "/contracts/k/customer", "there is no customer 'none'"),
        (f"{K}.pricebook", "none", "/contracts/k/pricebook", "there is no pricebook 'none'"),
        (f"{K}.invoicing", ADVANCE, "/contracts/k/invoicing", "billed in advance"),
        (f"{K}.currency", "EUR", "/contracts/k/currency", "keeps list prices of fee, use"),
        (
            f"{K}.prices.1",
            {"product": "none", "remove": True},
            "/contracts/k/prices/1/product",
            "there is no product",
        ),
        (
            f"{K}.prices.1",
            {"product": "free", "remove": True},
            "/contracts/k/prices/1",
            "has no price of 'free'",
        ),
        (
            f"{K}.prices.1",
            {"product": "fee", "overrides": "fee-2", "charge": FLAT},
            "/contracts/k/prices/1",
            "named 'fee-2'",
        ),
        (
            f"{K}.prices.1",
            {"product": "use", "remove": True},
            "/contracts/k/prices/1",
            "a second time",
        ),
        (
            f"{K}.prices.1",
            {"product": "fee", "charge": UNIT},
            "/contracts/k/prices/1/charge",
            "has no meter",
        ),
        (
            f"{K}.discounts",
            [{"percent": "5", "products": ["use", "none"]}],
            "/contracts/k/discounts/0/products",
            "there is no product 'none'",
        ),
        (
            f"{K}.amendments",
            [{"effective_from": "2026-03-01", "pricebook": "none"}],
            "/contracts/k/amendments/0/pricebook",
            "there is no pricebook",
        ),
        (
            f"{K}.amendments",
            [{"effective_from": "2026-03-01", "pricebook": "eur"}],
            "/contracts/k/amendments/0/pricebook",
            "is in EUR, the contract in USD",
        ),
        (
            f"{K}.amendments",
            [{"effective_from": "2026-03-01", "prices": [{"product": "free", "multiply": "2"}]}],
            "/contracts/k/amendments/0/prices/0",
            "has no price of 'free'",
        ),
        (
            f"{K}.amendments",
            [{"effective_from": "2026-03-01", "commitments": [{"amount": "1", "products": ["x"]}]}],
            "/contracts/k/amendments/0/commitments/0/products",
            "there is no product 'x'",
        ),
    ],
)
def test_one_thing_that_does_not_fit(path: str, value: Any, pointer: str, reason: str):
    """Each mistake between objects is named once, at the object that refers."""
    found = mistakes(changed(path, value))
    assert [at for at, _ in found] == [pointer], found
    assert reason in found[0][1]


def test_two_customers_may_not_claim_one_subject():
    """Both places are named when both are in the document, the new one when one is."""
    tree = changed("customers.bolt.subjects", ["b", {"subject": "a", "from": "2026-03-01"}])
    found = mistakes(tree)
    assert [at for at, _ in found] == ["/customers/acme/subjects/0", "/customers/bolt/subjects/1"]
    assert "also claimed by customer 'acme' from 2026-03-01T00:00:00Z" in found[1][1]
    alone = {"customers": {"cara": {"name": "Cara", "subjects": ["b"]}}}
    assert mistakes(alone, catalog_of(TREE)) == [
        ("/customers/cara/subjects/0", "subject 'b' is also claimed by customer 'bolt'")
    ]


def test_parents_may_not_make_a_circle():
    """Every customer on the circle is named, one hanging off it is not."""
    people = {
        "a": {"name": "A", "subjects": [], "parent": "b"},
        "b": {"name": "B", "subjects": [], "parent": "c"},
        "c": {"name": "C", "subjects": [], "parent": "a"},
        "d": {"name": "D", "subjects": [], "parent": "a"},
        "e": {"name": "E", "subjects": []},
    }
    found = mistakes({"customers": people})
    assert [at for at, _ in found] == [f"/customers/{name}/parent" for name in "abc"]


def test_a_chain_keeps_its_currency():
    """A pricebook cannot change its currency from a date on."""
    book = TREE["pricebooks"]["eur"]
    later = book | {"currency": "USD", "effective_from": "2026-06-01"}
    found = mistakes(changed("pricebooks.eur", {"versions": [book, later]}))
    assert [at for at, _ in found] == ["/pricebooks/eur/versions/1/currency"]


def test_a_currency_of_its_own_needs_prices_of_its_own():
    """A contract in another currency is fine once no list price is kept."""
    own = [
        {"product": "use", "charge": UNIT},
        {"product": "fee", "overrides": "fee-1", "remove": True},
    ]
    tree = changed(K, TREE["contracts"]["k"] | {"currency": "EUR", "prices": own})
    assert catalog_of(tree).revision > 0


def test_a_change_that_breaks_what_was_stated_before_is_refused():
    """Taking a dimension away names the price that groups by it, though no one sent it."""
    meter = {key: held for key, held in TREE["meters"]["m"].items() if key != "dimensions"}
    found = mistakes({"meters": {"m": meter}}, catalog_of(TREE))
    assert found == [
        (
            "/products/use/filter/model",
            "meter 'm' has no dimension 'model' (stated before)",
        ),
        (
            "/pricebooks/usd/prices/0/group_by/0",
            "the meter of product 'use' has no dimension 'model' (stated before)",
        ),
    ]
