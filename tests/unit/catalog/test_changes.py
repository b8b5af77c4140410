"""Planning: what is new, what changes, what does not, what goes."""

from __future__ import annotations

from copy import deepcopy
from datetime import date
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings

from catalog.changes import Plan, plan, plan_retirement
from catalog.charges import Matrix
from catalog.checks import check_catalog
from catalog.clock import Micros
from catalog.contracts import Contract
from catalog.errors import NotFound
from catalog.grammar import InvalidDocument, parse_document
from catalog.history import Statement, build_catalog, extend_catalog
from catalog.ids import Kind
from catalog.meters import Aggregation
from catalog.pricebooks import Price
from catalog.references import Counted
from catalog.snapshot import Catalog, resolve
from tests.strategies import Tree, catalog_of, catalog_trees

UTC_ZONE = ZoneInfo("UTC")
NOW = resolve(date(2026, 6, 1), UTC_ZONE)
LATER = Micros(NOW + 86_400_000_000)
BOOK: Tree = {
    "currency": "USD",
    "invoicing": {"timing": "arrears", "every_months": 1},
    "prices": [{"product": "use", "charge": {"model": "per_unit", "unit_price": "1"}}],
}
TREE: Tree = {
    "meters": {"m": {"event_type": "t", "aggregation": "count", "dimensions": {"d": "data.d"}}},
    "products": {"use": {"name": "Use", "meter": "m"}},
    "pricebooks": {"b": BOOK},
    "customers": {"c": {"name": "C", "subjects": ["s"]}},
    "contracts": {"k": {"customer": "c", "pricebook": "b", "start": "2026-01-01"}},
}


def record(catalog: Catalog, planned: Plan, at: int = NOW) -> Catalog:
    """``catalog`` once a plan's statements are stored, all at one instant."""
    new = [
        Statement(
            revision=catalog.revision + number,
            kind=held.kind,
            id=held.id,
            recorded_at=Micros(at),
            retired=held.retired,
            whole_chain=held.whole_chain,
            versions=held.versions,
        )
        for number, held in enumerate(planned.statements, start=1)
    ]
    return extend_catalog(catalog, new)


def applied(catalog: Catalog, tree: Tree, at: int = NOW, **options: Any) -> Catalog:
    """``catalog`` after applying ``tree``."""
    return record(catalog, plan(catalog, parse_document(tree), now=Micros(at), **options), at)


def actions(planned: Plan) -> dict[str, str]:
    """What becomes of each object."""
    return {f"{change.kind}/{change.id}": change.action for change in planned.changes}


@given(tree=catalog_trees())
@settings(max_examples=30, deadline=None)
def test_applying_twice_changes_nothing(tree: Tree):
    """The second time every object is unchanged and there is nothing to state."""
    document = parse_document(tree)
    first = plan(Catalog(), document)
    assert set(actions(first).values()) == {"create"}
    again = plan(catalog_of(tree), document, prune=True)
    assert again.statements == ()
    assert set(actions(again).values()) == {"unchanged"}


def test_the_planned_catalog_is_the_one_that_comes_of_it():
    """What a preview shows is what storing the statements makes."""
    planned = plan(Catalog(), parse_document(TREE), now=NOW)
    stored = record(Catalog(), planned)
    for kind in Kind:
        ahead, real = getattr(planned.catalog, kind.value), getattr(stored, kind.value)
        assert {k: c.values for k, c in ahead.items()} == {k: c.values for k, c in real.items()}


def test_a_correction_is_an_update_with_both_documents():
    """Without effective_from the whole chain is replaced; before and after are shown."""
    catalog = applied(Catalog(), TREE)
    cheaper = deepcopy(BOOK)
    cheaper["prices"][0]["charge"]["unit_price"] = "0.50"
    planned = plan(catalog, parse_document({"pricebooks": {"b": cheaper}}), now=LATER)
    change = planned.changes[0]
    assert change.action == "update"
    assert change.before == BOOK
    cheaper["prices"][0]["charge"]["unit_price"] = "0.5"
    assert change.after == cheaper
    assert len(planned.statements) == 1


def test_a_spelling_is_not_a_change():
    """1.00 is 1, 60m is 1h, and defaults written out say nothing new."""
    catalog = applied(Catalog(), TREE)
    spelled = deepcopy(BOOK) | {"prorate": "false", "entitlements": []}
    spelled["prices"][0]["charge"]["unit_price"] = "1.00"
    assert plan(catalog, parse_document({"pricebooks": {"b": spelled}})).statements == ()


def test_a_later_version_is_laid_over_and_laid_over_again_is_unchanged():
    """With effective_from the chain grows; the same statement again adds nothing."""
    catalog = applied(Catalog(), TREE)
    dated = {"products": {"use": {"name": "New", "meter": "m", "effective_from": "2026-07-01"}}}
    planned = plan(catalog, parse_document(dated), now=LATER)
    assert planned.changes[0].after == {
        "versions": [
            {"name": "Use", "meter": "m"},
            {"name": "New", "meter": "m", "effective_from": "2026-07-01"},
        ]
    }
    grown = record(catalog, planned, LATER)
    assert plan(grown, parse_document(dated)).statements == ()


def test_prune_retires_what_is_not_named():
    """Everything in force that the document leaves out goes, shown first; its past stays."""
    catalog = applied(Catalog(), TREE)
    kept = {key: TREE[key] for key in ("meters", "customers")}
    planned = plan(catalog, parse_document(kept), prune=True, now=LATER)
    assert actions(planned) == {
        "meters/m": "unchanged",
        "customers/c": "unchanged",
        "contracts/k": "retire",
        "pricebooks/b": "retire",
        "products/use": "retire",
    }
    pruned = record(catalog, planned, LATER)
    chain = pruned.products[next(iter(pruned.products))]
    assert chain.at(LATER - 1, UTC_ZONE) is not None
    assert chain.at(LATER, UTC_ZONE) is None
    again = plan(pruned, parse_document(kept), prune=True, now=Micros(LATER + 1))
    assert again.statements == ()


def test_without_prune_nothing_is_removed():
    """Applying an empty document is no change at all."""
    catalog = applied(Catalog(), TREE)
    planned = plan(catalog, parse_document({}))
    assert (planned.changes, planned.statements) == ((), ())


@given(first=catalog_trees(), second=catalog_trees())
@settings(max_examples=25, deadline=None)
def test_looking_only_at_what_changed_misses_nothing(first: Tree, second: Tree):
    """Customers and contracts stated one by one leave a catalog that passes every check."""
    catalog = catalog_of(first)
    for kind in ("customers", "contracts"):
        for name, body in second[kind].items():
            document = parse_document({kind: {f"x{name}": body}})
            try:
                planned = plan(catalog, document)
            except InvalidDocument:
                continue
            assert check_catalog(planned.catalog, now=NOW) == []
            catalog = record(catalog, planned)


def test_a_customer_that_is_over_cannot_be_named():
    """Ending a customer in the past is refused while a contract in force names it."""
    catalog = applied(Catalog(), TREE)
    over = {"customers": {"c": TREE["customers"]["c"] | {"effective_until": "2026-05-01"}}}
    with pytest.raises(InvalidDocument) as caught:
        plan(catalog, parse_document(over), now=LATER)
    assert [error.pointer for error in caught.value.errors] == ["/contracts/k/customer"]


def test_what_was_retired_can_be_created_again():
    """A retired object that is stated again is new: there is no document before."""
    catalog = applied(Catalog(), TREE)
    gone = record(catalog, plan_retirement(catalog, Kind.CONTRACTS, "k", now=LATER), LATER)
    planned = plan(gone, parse_document({"contracts": TREE["contracts"]}), now=Micros(LATER + 1))
    assert actions(planned) == {"contracts/k": "create"}
    assert planned.changes[0].before is None


def test_what_is_still_named_cannot_be_retired():
    """The referring object is named; once it is gone (or over), the other may go."""
    catalog = applied(Catalog(), TREE)
    with pytest.raises(InvalidDocument) as caught:
        plan_retirement(catalog, Kind.PRICEBOOKS, "b", now=LATER)
    assert caught.value.errors[0].pointer == "/contracts/k/pricebook"
    assert "pricebook 'b' is retired" in caught.value.errors[0].detail
    ended = applied(catalog, {"contracts": {"k": TREE["contracts"]["k"] | {"end": "2026-03-01"}}})
    assert len(plan_retirement(ended, Kind.PRICEBOOKS, "b", now=LATER).statements) == 1


def test_retiring_what_is_not_there_is_not_found():
    """Neither an unknown object nor one that is retired already."""
    catalog = applied(Catalog(), TREE)
    gone = record(catalog, plan_retirement(catalog, Kind.CONTRACTS, "k", now=LATER), LATER)
    for held, name in ((catalog, "none"), (gone, "k")):
        with pytest.raises(NotFound):
            plan_retirement(held, Kind.CONTRACTS, name, now=Micros(LATER + 1))


def no_latest(thing: Price | Contract | Counted) -> list[str]:
    """An engine whose prices count no meter that takes the latest value."""
    latest = isinstance(thing, Counted) and thing.meter.aggregation is Aggregation.LATEST
    return ["latest cannot be rated yet"] if latest else []


def test_a_meter_that_a_price_cannot_count_is_refused_at_apply():
    """Where the price is stated; or, stated before, where the meter is."""
    latest = {"event_type": "t", "aggregation": "latest", "value": "data.v"}
    tree = deepcopy(TREE)
    counted = TREE["products"]["use"]["meter"]
    tree["meters"][counted] |= latest
    with pytest.raises(InvalidDocument) as caught:
        plan(Catalog(), parse_document(tree), unsupported=no_latest)
    (error,) = caught.value.errors
    assert error.pointer == "/pricebooks/b/prices/0"
    assert error.detail == f"meter '{counted}': latest cannot be rated yet"
    held = plan(Catalog(), parse_document(TREE), unsupported=no_latest).catalog
    changed = {"meters": {counted: tree["meters"][counted]}}
    with pytest.raises(InvalidDocument) as caught:
        plan(held, parse_document(changed), unsupported=no_latest)
    (error,) = caught.value.errors
    assert error.pointer == f"/meters/{counted}"
    assert error.detail.startswith("pricebooks 'b': meter")


def no_matrix(thing: Price | Contract | Counted) -> list[str]:
    """An engine that knows no matrix and no pinned contract."""
    if isinstance(thing, Counted):
        return []
    if isinstance(thing, Contract):
        return ["pinned contracts cannot be rated yet"] if thing.pin else []
    return ["charge model 'matrix' cannot be rated yet"] if isinstance(thing.charge, Matrix) else []


def test_what_is_not_supported_yet_is_refused_where_it_stands():
    """The engines' own words come back at the price or contract they are about."""
    matrix = {"model": "matrix", "rows": [{"when": {"d": "a"}, "unit_price": "1"}]}
    tree = deepcopy(TREE)
    tree["pricebooks"]["b"]["prices"].append({"product": "use", "charge": matrix})
    tree["contracts"]["k"] |= {
        "pin": True,
        "amendments": [
            {"effective_from": "2026-03-01", "prices": [{"product": "use", "charge": matrix}]}
        ],
    }
    with pytest.raises(InvalidDocument) as caught:
        plan(Catalog(), parse_document(tree), unsupported=no_matrix)
    assert [(error.pointer, error.detail) for error in caught.value.errors] == [
        ("/pricebooks/b/prices/1", "charge model 'matrix' cannot be rated yet"),
        ("/contracts/k/amendments/0/prices/0", "charge model 'matrix' cannot be rated yet"),
        ("/contracts/k", "pinned contracts cannot be rated yet"),
    ]


def test_usage_priced_twice_is_a_warning():
    """A second contract over the same usage is allowed and said; a fee alone is not."""
    catalog = applied(Catalog(), TREE)
    second = {"contracts": {"k2": TREE["contracts"]["k"] | {"start": "2026-05-01"}}}
    planned = plan(catalog, parse_document(second))
    assert planned.warnings == (
        "contracts 'k' and 'k2' of customer 'c' both price the usage of use: it is billed by each",
    )
    removed = second["contracts"]["k2"] | {"prices": [{"product": "use", "remove": True}]}
    assert plan(catalog, parse_document({"contracts": {"k2": removed}})).warnings == ()
    before = second["contracts"]["k2"] | {"start": "2025-01-01", "end": "2026-01-01"}
    assert plan(catalog, parse_document({"contracts": {"k2": before}})).warnings == ()


def test_a_plan_does_not_touch_the_catalog():
    """Planning twice on one catalog gives the same plan."""
    catalog = applied(Catalog(), TREE)
    document = parse_document({"products": {"use": {"name": "New", "meter": "m"}}})
    assert plan(catalog, document).statements == plan(catalog, document).statements
    assert catalog == build_catalog_again(catalog)


def build_catalog_again(catalog: Catalog) -> Catalog:
    """The catalog of TREE, built from nothing a second time."""
    planned = plan(Catalog(), parse_document(TREE), now=NOW)
    again = build_catalog([], timezone=UTC_ZONE)
    return record(again, planned) if catalog.revision else again
