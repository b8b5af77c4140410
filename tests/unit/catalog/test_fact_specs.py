"""What a catalog reads from events: meters, and amounts that events name themselves."""

from __future__ import annotations

from catalog.ids import MeterId
from catalog.meters import Aggregation
from catalog.specs import capacity_meters, dynamic_specs, fact_specs
from ingest.values import IngestRules, judge_values
from rating.plan import specs_needed
from tests.catalogs import catalog_of

DYNAMIC = {"model": "dynamic", "amount": "data.cost"}
PLANS = {"model": "capacity", "tiers": [{"up_to": {"alone": "5"}, "amount": "1"}, {"amount": "2"}]}
TREE = {
    "meters": {
        "m": {
            "event_type": "t",
            "aggregation": "count",
            "dimensions": {"d": "data.d"},
            "filter": {"data.ok": {"exists": True}},
        },
        "alone": {"event_type": "u", "aggregation": "sum", "value": "data.n"},
    },
    "products": {"p": {"name": "P", "meter": "m"}, "plan": {"name": "Plan"}},
    "pricebooks": {
        "b": {
            "currency": "USD",
            "invoicing": {"timing": "arrears", "every_months": "1"},
            "prices": [{"product": "p", "charge": DYNAMIC}, {"product": "plan", "charge": PLANS}],
        }
    },
    "customers": {"c": {"name": "C", "subjects": ["s"]}},
    "contracts": {
        "k": {
            "customer": "c",
            "pricebook": "b",
            "start": "2026-01-01",
            "prices": [{"product": "p", "charge": DYNAMIC | {"amount": "data.special"}}],
        }
    },
}


def test_a_dynamic_price_reads_its_amount_from_the_events_of_its_meter():
    """The same events and dimensions, another value; from lists and contracts alike."""
    catalog = catalog_of(TREE)
    specs = {spec.value: spec for spec in dynamic_specs(catalog)}
    assert specs.keys() == {"data.cost", "data.special"}
    meter = catalog.meters[MeterId("m")].last
    assert meter.aggregation is Aggregation.COUNT
    for spec in specs.values():
        assert (spec.event_types, spec.filter) == (meter.event_types, meter.filter)
        assert spec.dimensions == (("d", "data.d"),)
    read = fact_specs(catalog)
    assert len(read) == 4
    assert all(read[spec.id] == spec for spec in specs.values())


def test_pricing_waits_for_what_dynamic_and_capacity_prices_read():
    """Also for a meter that is no product's."""
    catalog = catalog_of(TREE)
    assert capacity_meters(catalog) == {"alone"}
    assert set(specs_needed(catalog)) == set(fact_specs(catalog))


def test_an_amount_that_cannot_be_read_is_rejected():
    """Like any value of a meter: a typo is not a free event."""
    rules = IngestRules.from_catalog(catalog_of(TREE))
    assert judge_values("t", '{"ok": 1, "cost": "12.5"}', rules) is None
    reason = judge_values("t", '{"ok": 1, "cost": "much"}', rules)
    assert reason is not None
    assert reason[1] == "data.cost is not a number"
