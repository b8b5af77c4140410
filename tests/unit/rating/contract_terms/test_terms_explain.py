"""Lines of a contract as a whole: found by their id, explained, the same in any view."""

from __future__ import annotations

import math
from fractions import Fraction

import polars as pl
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from catalog.errors import NotFound
from catalog.periods import PeriodSpec
from rating.explain import explain, line_facts
from rating.lines import named_in
from rating.pipeline import rate
from tests.unit.rating.agreements import events, trees
from tests.unit.rating.builders import LATER
from tests.unit.rating.businesses import catalog_from, source_of

SOME = settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
SOME = settings(parent=SOME, phases=[Phase.explicit, Phase.reuse, Phase.generate])
BILLED = ("usage", "fixed")


def recomputed(told: dict) -> Fraction:
    """The amount that the steps say, each checked; rounded as the explanation says."""
    taken, before = [], Fraction(0)
    for step in told["steps"]:
        stated = None if step["stated"] is None else Fraction(step["stated"])
        start, after = Fraction(step["before"]), Fraction(step["after"])
        expected = {
            "trial": lambda b=start, s=stated: b * s,
            "sum": lambda t=tuple(taken): sum(t, Fraction(0)),
            "percent": lambda b=start, s=stated: b * s,
            "amount": lambda b=start, s=stated: -max(Fraction(0), min(b, s)),
            "credit": lambda b=start, s=stated: -whole(min(b, s), told["rounding"]["decimals"]),
            "spend": lambda a=after: a,
            "beyond": lambda b=start, s=stated: max(Fraction(0), b - s),
            "earlier": lambda b=start, s=stated: b - s,
            "multiply": lambda b=start, s=stated: b * s,
            "short": lambda b=start, s=stated: max(Fraction(0), s - b),
        }[step["step"]]()
        assert after == expected, step
        if step["step"] in ("beyond", "earlier", "multiply", "short"):
            assert start == before, step
        taken.append(after)
        before = after
    assert Fraction(told["exact_amount"]) == before
    decimals = told["rounding"]["decimals"]
    units = math.floor(abs(before) * 10**decimals + Fraction(1, 2))
    return Fraction(units if before >= 0 else -units, 10**decimals)


def whole(amount: Fraction, decimals: int) -> Fraction:
    """Down to minor units: a credit is never overdrawn by a fraction of a cent."""
    return Fraction(math.floor(amount * 10**decimals), 10**decimals)


@pytest.mark.slow
@SOME
@given(tree=trees(), found=events())
def test_every_line_of_the_contract_is_found_and_explained(tree, found):
    """By its id: the same amount, from its steps alone, and no events of its own."""
    catalog, source = catalog_from(tree), source_of(catalog_from(tree), found)
    rated = rate(catalog, period=PeriodSpec.parse("2026"), source=source, as_of=LATER)
    of_terms = rated.lines.filter(~pl.col("kind").is_in(BILLED)).head(6)
    assert rated.lines["line_id"].is_unique().all()
    for row in of_terms.iter_rows(named=True):
        contract, day = named_in(row["line_id"])
        asked = {"line_id": row["line_id"], "period": day, "contract": contract}
        told = explain(catalog, **asked, source=source, as_of=LATER).as_dict()
        assert recomputed(told) == Fraction(row["amount"]) == Fraction(told["amount"])
        assert told["price"]["version"] == row["price_version"]
        assert {name: told["line"][name] for name in ("kind", "product", "timing")} == {
            name: row[name] for name in ("kind", "product", "timing")
        }
        facts = line_facts(catalog, **asked, source=source, as_of=LATER)
        assert facts.collect().is_empty()


@SOME
@given(tree=trees(), found=events(), split=st.sampled_from(["Q", "M"]))
def test_a_year_is_the_sum_of_its_parts(tree, found, split):
    """Asked for at once or month by month, the lines are the same: what is carried is recalled."""
    catalog, source = catalog_from(tree), source_of(catalog_from(tree), found)
    texts = [f"2026-{n:02d}" for n in range(1, 13)]
    if split == "Q":
        texts = [f"2026-Q{n}" for n in range(1, 5)]
    year = rate(catalog, period=PeriodSpec.parse("2026"), source=source, as_of=LATER).lines
    parts = [
        rate(catalog, period=PeriodSpec.parse(text), source=source, as_of=LATER).lines
        for text in texts
    ]
    assert pl.concat(parts).sort("line_id").equals(year.sort("line_id"))


@SOME
@given(tree=trees(), found=events(), day=st.integers(1, 90))
def test_an_amendment_that_repeats_what_stands_changes_nothing(tree, found, day):
    """Restating the discounts and commitments at any time gives the same amounts."""
    contract = tree["contracts"]["k"]
    contract.pop("amendments", None)
    contract["end"] = "2026-09-01"
    source = source_of(catalog_from(tree), found)
    spec = PeriodSpec.parse("2026")
    before = rate(catalog_from(tree), period=spec, source=source, as_of=LATER).lines
    again = {name: contract.get(name, []) for name in ("discounts", "commitments")}
    month = 2 + day // 30
    contract["amendments"] = [{"effective_from": f"2026-{month:02d}-{day % 28 + 1:02d}"} | again]
    after = rate(catalog_from(tree), period=spec, source=source, as_of=LATER).lines
    assert after.drop("price_version").equals(before.drop("price_version"))


@SOME
@given(tree=trees(), found=events())
def test_a_discount_or_credit_never_turns_a_document_negative(tree, found):
    """Where prices bill nothing negative, no document of any period comes to less than nothing."""
    for price in tree["pricebooks"]["b"]["prices"]:
        charge = price["charge"]
        key = "amount" if charge["model"] == "flat" else "unit_price"
        charge[key] = charge[key].lstrip("-")
    positive = [event for event in found if event.value >= 0]
    catalog = catalog_from(tree)
    for commitment in tree["contracts"]["k"].get("commitments", []):
        if Fraction(commitment.get("overage_multiplier", "1")) < 1:
            return
    rated = rate(
        catalog, period=PeriodSpec.parse("2026"), source=source_of(catalog, positive), as_of=LATER
    )
    documents = rated.lines.with_columns(rated.billing.drop("line_id"))
    sums = documents.group_by("timing", "billing_start", "billing_end", "accounting_date").agg(
        pl.col("amount").sum()
    )
    assert (sums["amount"] >= 0).all()


def test_an_id_that_no_term_makes_is_not_found():
    """A well-formed id of a contract with terms, and no line behind it."""
    tree = {
        "pricebooks": {
            "b": {
                "currency": "USD",
                "invoicing": {"timing": "arrears", "every_months": 1},
                "prices": [],
            }
        },
        "customers": {"c": {"name": "c", "subjects": []}},
        "contracts": {
            "k": {
                "customer": "c",
                "pricebook": "b",
                "start": "2026-01-01",
                "minimum": {"amount": "5", "every_months": 1},
            }
        },
    }
    catalog, line_id = catalog_from(tree), f"k~20260101~{'0' * 20}"
    contract, day = named_in(line_id)
    with pytest.raises(NotFound, match="no line"):
        explain(
            catalog,
            line_id=line_id,
            period=day,
            contract=contract,
            source=source_of(catalog, []),
            as_of=LATER,
        )
