"""Explanations: complete, and for every line there is."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest
from hypothesis import HealthCheck, given, settings

from catalog.clock import to_micros
from catalog.errors import NotFound, OutOfRange
from catalog.periods import PeriodSpec
from rating.charges.base import NotCovered
from rating.explain import explain, line_facts
from rating.lines import named_in
from rating.pipeline import rate
from tests.unit.rating.builders import LATER, Usage, catalog_of, plain
from tests.unit.rating.businesses import catalog_from, events, source_of, trees


def recomputed(told: dict) -> str:
    """A line's amount from what its explanation says, and nothing else."""
    value = Fraction(told["quantity"])
    for step in told["steps"]:
        stated = None if step["stated"] is None else Fraction(step["stated"])
        assert Fraction(step["before"]) == value, step
        value = _taken(step["step"], value, stated, told)
        assert Fraction(step["after"]) == value, step
    assert Fraction(told["exact_amount"]) == value
    decimals = told["rounding"]["decimals"]
    units = math.floor(abs(value) * 10**decimals + Fraction(1, 2))
    return str(Fraction(-units if value < 0 else units, 10**decimals))


def _taken(step: str, value: Fraction, stated: Fraction | None, told: dict) -> Fraction:
    match step:
        case "convert" if told["pieces"]:
            return _converted(told, stated)
        case "included" if told["pieces"]:
            return _included(told, stated)
        case "convert":
            return _rounded(value * stated, told["price"])
        case "included":
            return max(Fraction(0), value - stated) if value > 0 else value
        case "charge":
            _check_pieces(told)
            return sum((_part(part) for part in told["parts"]), Fraction(0))
        case "commitment":
            return _committed(told, stated)
        case "maximum":
            return min(value, stated)
        case "minimum":
            return max(value, stated)
        case _:
            return value * stated


def _committed(told: dict, promised: Fraction) -> Fraction:
    """At least what was promised, for each piece, and the overage rate beyond it."""
    costs: dict[str | None, Fraction] = {}
    for part in told["parts"]:
        costs[part["piece"]] = costs.get(part["piece"], Fraction(0)) + Fraction(part["amount"])
    rate = Fraction(told["price"]["overage_multiplier"] or 1)
    short = told["price"]["true_up"] == "true"
    return sum(
        (promised if short else cost) if cost <= promised else promised + (cost - promised) * rate
        for cost in costs.values()
    )


def _converted(told: dict, factor: Fraction) -> Fraction:
    """Every piece converted by itself; fees are not."""
    total = Fraction(0)
    for piece in told["pieces"]:
        if piece["fee"] == "false":
            found = _rounded(Fraction(piece["quantity"]) * factor, told["price"])
            assert Fraction(piece["converted"]) == found
            total += int(piece["sign"]) * found
    return total


def _included(told: dict, stated: Fraction) -> Fraction:
    """Taken off one piece after the other; where tiers accumulate, off each."""
    total, left = Fraction(0), stated
    for piece in told["pieces"]:
        if piece["fee"] == "true":
            continue
        units = Fraction(piece["converted"])
        taken = max(Fraction(0), min(left, units))
        left = stated if told["price"]["tiers_span_months"] else left - taken
        assert Fraction(piece["units"]) == units - taken
        total += int(piece["sign"]) * (units - taken)
    return total


def _check_pieces(told: dict) -> None:
    """Every part is of a piece there is, and the parts of a line have the units of its pieces."""
    pieces = {(piece["piece"], piece["sign"]) for piece in told["pieces"]}
    if pieces:
        assert {(part["piece"], part["sign"]) for part in told["parts"]} <= pieces


def _rounded(value: Fraction, price: dict) -> Fraction:
    if price["convert_round"] == "none":
        return value
    scaled = abs(value) * 10 ** price["convert_digits"]
    how = {"up": math.ceil, "down": math.floor, "half_up": lambda x: math.floor(x + Fraction(1, 2))}
    sign = 1 if value >= 0 else -1
    return Fraction(sign * how[price["convert_round"]](scaled), 10 ** price["convert_digits"])


def _part(part: dict) -> Fraction:
    priced = Fraction(part["units"])
    if part["package_size"] is not None:
        priced = Fraction(max(0, math.ceil(priced / Fraction(part["package_size"]))))
    assert priced == Fraction(part["priced"])
    amount = priced * Fraction(part["unit_price"]) + Fraction(part["flat_fee"])
    amount = amount if part["maximum"] is None else min(amount, Fraction(part["maximum"]))
    assert int(part["sign"]) * amount == Fraction(part["amount"])
    return int(part["sign"]) * amount


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(tree=trees(), found=events())
def test_every_amount_follows_from_its_explanation_alone(tree, found):
    """For every line of a random business: found by its id, and recomputed to the cent."""
    catalog, source = catalog_from(tree), source_of(catalog_from(tree), found)
    try:
        rated = rate(catalog, period=PeriodSpec.parse("2026"), source=source, as_of=LATER)
    except (NotCovered, OutOfRange):
        return
    for row in rated.lines.iter_rows(named=True):
        contract, period = named_in(row["line_id"])
        explanation = explain(
            catalog,
            line_id=row["line_id"],
            period=period,
            contract=contract,
            source=source,
            as_of=LATER,
        )
        told = explanation.as_dict()
        assert Fraction(recomputed(told)) == Fraction(row["amount"]) == Fraction(told["amount"])
        assert told["price"]["version"] == row["price_version"]
        assert told["event_count"] == row["event_count"]
        assert {name: told["line"][name] for name in ("product", "dimensions", "timing")} == {
            name: row[name] for name in ("product", "dimensions", "timing")
        }


COMMITTED = """
meters: {api: {event_type: t, aggregation: sum, value: data.n}}
products: {api: {name: API, meter: api}}
pricebooks:
  b:
    currency: USD
    invoicing: {timing: arrears, every_months: 1}
    prices:
      - {product: api, commitment: TERMS, charge: {model: per_unit, unit_price: "0.333"} MORE}
customers: {c: {name: C, subjects: [s]}}
contracts: {k: {customer: c, pricebook: b, start: "2026-01-01"}}
"""


@pytest.mark.parametrize(
    "terms",
    [
        "{amount: 20}",
        "{amount: 20, true_up: false}",
        "{quantity: 50, overage_multiplier: 1.5}",
        "{amount: 3, overage_multiplier: 0.7}",
    ],
)
@pytest.mark.parametrize("more", ["", ", bucket: 1d"])
def test_a_commitment_follows_from_its_explanation_alone(terms, more):
    """What was promised, what is short and what is beyond, window by window too."""
    catalog = catalog_of(COMMITTED.replace("TERMS", terms).replace("MORE", more))
    usage = Usage(catalog).add("api", "s", "2026-01-05T00:00:00", "7.5")
    usage.add("api", "s", "2026-01-06T00:00:00", "100")
    spec = PeriodSpec.parse("2026-01")
    (row,) = rate(catalog, period=spec, source=usage.source(), as_of=LATER).lines.to_dicts()
    told = explained(catalog, usage, row["line_id"]).as_dict()
    assert Fraction(recomputed(told)) == Fraction(row["amount"])


BUSINESS = """
meters: {api: {event_type: t, aggregation: sum, value: data.n, dimensions: {region: data.region}}}
products: {api: {name: API, meter: api, filter: {region: {not_in: [test]}}}}
pricebooks:
  b:
    currency: USD
    invoicing: {timing: arrears, every_months: 1}
    prices:
      - product: api
        group_by: [region]
        included: "10"
        discount_percent: "10"
        charge:
          {model: graduated, tiers: [{up_to: "100", unit_price: "0.50"}, {unit_price: "0.10"}]}
customers: {c: {name: C, subjects: [s]}}
contracts: {k: {customer: c, pricebook: b, start: "2026-01-01"}}
"""


def business():
    """Two regions and a test region that no product takes."""
    catalog = catalog_of(BUSINESS)
    usage = Usage(catalog)
    usage.add("api", "s", "2026-01-05T00:00:00", "150", region="eu")
    usage.add("api", "s", "2026-01-06T00:00:00", "20.5", region="eu")
    usage.add("api", "s", "2026-01-07T00:00:00", "40", region="us")
    usage.add("api", "s", "2026-01-08T00:00:00", "999", region="test")
    return catalog, usage


def explained(catalog, usage, line_id):
    """The explanation of a line by its id."""
    contract, period = named_in(line_id)
    return explain(
        catalog,
        line_id=line_id,
        period=period,
        contract=contract,
        source=usage.source(),
        as_of=LATER,
    )


def test_an_explanation_shows_tiers_and_every_step():
    """170.5 less 10 included: 100 at 0.50 and 60.5 at 0.10, less 10 %."""
    catalog, usage = business()
    lines = rate(
        catalog, period=PeriodSpec.parse("2026-01"), source=usage.source(), as_of=LATER
    ).lines
    eu = lines.filter(dimensions='{"region":"eu"}')
    told = explained(catalog, usage, eu["line_id"][0])
    assert [(s.step, s.before, s.after, s.stated) for s in told.steps] == [
        ("included", "170.5", "160.5", "10"),
        ("charge", "160.5", "56.05", None),
        ("discount", "56.05", "50.445", "0.9"),
    ]
    assert [(p["tier"], p["units"], p["unit_price"], p["amount"]) for p in told.parts] == [
        ("1", "100", "0.5", "50"),
        ("2", "60.5", "0.1", "6.05"),
    ]
    assert (told.quantity, told.exact_amount, told.amount) == ("170.5", "50.445", "50.45")
    assert (told.price["origin"], told.price["origin_id"], told.event_count) == ("list", "b", 2)


def test_the_events_behind_a_line():
    """A line's facts are those of its group, none that the filter leaves out, in order."""
    catalog, usage = business()
    lines = rate(
        catalog, period=PeriodSpec.parse("2026-01"), source=usage.source(), as_of=LATER
    ).lines
    row = lines.filter(dimensions='{"region":"eu"}').row(0, named=True)
    contract, period = named_in(row["line_id"])
    facts = line_facts(
        catalog,
        line_id=row["line_id"],
        period=period,
        contract=contract,
        source=usage.source(),
        as_of=LATER,
    ).collect()
    assert [plain(value) for value in facts["value"]] == ["150", "20.5"]
    assert facts.height == row["event_count"]


@pytest.mark.parametrize(
    "line_id",
    ["", "k", "k~20260101", "k~20260101~xyz", "k~20261301~" + "0" * 20, "~20260101~" + "0" * 20],
)
def test_what_is_no_line_id_is_not_found(line_id):
    """Whatever the text, it is the answer 'no such line', not a failure."""
    with pytest.raises(NotFound, match="no line"):
        named_in(line_id)


def test_an_id_that_no_line_has_is_not_found():
    """A well-formed id of another digest, contract or day names nothing."""
    catalog, usage = business()
    for line_id in (f"k~20260101~{'0' * 20}", f"x~20260101~{'0' * 20}", f"k~20250101~{'0' * 20}"):
        with pytest.raises(NotFound, match="no line"):
            explained(catalog, usage, line_id)


def test_a_line_keeps_its_id_when_its_price_or_usage_changes():
    """The id says what the line is: another price, more usage, the same id; price_version moves."""
    catalog, usage = business()
    cheaper = catalog_of(BUSINESS.replace('"0.10"', '"0.05"'))
    spec = PeriodSpec.parse("2026-01")
    before = rate(catalog, period=spec, source=usage.source(), as_of=LATER).lines
    usage.add("api", "s", "2026-01-09T00:00:00", "1", region="us")
    after = rate(cheaper, period=spec, source=usage.source(), as_of=LATER).lines
    assert before["line_id"].to_list() == after["line_id"].to_list()
    assert before["price_version"][0] != after["price_version"][0]
    early = to_micros(usage.rows[0]["received_at"])
    assert rate(catalog, period=spec, source=usage.source(), as_of=early).lines.height == 1
