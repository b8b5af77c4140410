"""A charge model that is not there yet, added as docs/rating.md says: it rates like the others."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction

import polars as pl
import pytest

from catalog.charges import MODEL_NAMES
from catalog.grammar import InvalidDocument
from catalog.grammar.charges import FORMS
from catalog.grammar.nodes import Record, may, need
from catalog.grammar.scalars import QUANTITY_GIVEN, SIGNED_PRICE
from catalog.periods import PeriodSpec
from rating.charges.base import PRICE, UNITS, ZERO, Bound, ChargeModel, Part, times
from rating.charges.registry import MODELS, add_model
from rating.explain import explain
from rating.pipeline import rate
from tests.unit.rating.builders import LATER, Usage, amounts, catalog_of

# -- what one file beside rating/charges/per_unit.py would hold ------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Beyond:
    """Every unit beyond ``from_unit`` at one price: a meter that starts late."""

    unit_price: Decimal
    from_unit: Decimal = Decimal(0)


def _columns(lines: pl.DataFrame, prices: pl.DataFrame) -> pl.DataFrame:
    units = (pl.col("units") - pl.col("from_unit")).clip(lower_bound=Decimal(0))
    return lines.join(prices, on="terms").select("line", amount=times(units, pl.col("unit_price")))


def _exact(charge: Beyond, units: Fraction) -> tuple[Part, ...]:
    priced = max(ZERO, units - Fraction(charge.from_unit))
    amount = priced * Fraction(charge.unit_price)
    return (Part(units=units, priced=priced, unit_price=charge.unit_price, amount=amount),)


FORM = Record(Beyond, need("unit_price", SIGNED_PRICE), may("from_unit", QUANTITY_GIVEN))
MODEL = ChargeModel(
    kind=Beyond,
    schema=pl.Schema({"unit_price": PRICE, "from_unit": UNITS}),
    rows=lambda charge: [(charge.unit_price, charge.from_unit)],
    columns=_columns,
    exact=_exact,
    bound=lambda charge: Bound(
        fixed=Fraction(abs(charge.unit_price)) * Fraction(charge.from_unit),
        per_unit=abs(Fraction(charge.unit_price)),
    ),
    prices=lambda charge: [charge.unit_price],
    sizes=lambda charge: [charge.from_unit],
)


# -- and that it is enough ---------------------------------------------------------------------


@pytest.fixture
def added() -> Iterator[None]:
    """The one registration, undone afterwards."""
    add_model("beyond", MODEL, form=FORM)
    yield
    del FORMS["beyond"], MODEL_NAMES["beyond"], MODELS[Beyond]


CATALOG = """
meters: {m: {event_type: t, aggregation: sum, value: data.n}}
products: {p: {name: p, meter: m}}
pricebooks:
  b:
    currency: USD
    invoicing: {timing: arrears, every_months: 1}
    prices: [{product: p, %s discount_percent: 50, charge:
      {model: beyond, unit_price: "0.3", from_unit: 10}}]
customers: {c: {name: c, subjects: [s]}}
contracts: {k: {customer: c, pricebook: b, start: 2026-01-01}}
"""


@pytest.mark.usefixtures("added")
@pytest.mark.parametrize("term", ["", "convert: {divide: 1},", "bucket: 1h,"])
def test_a_model_is_one_file_and_one_registration(term):
    """Grammar, columns, fractions, buckets, terms and explanation take it as one of theirs."""
    usage = Usage(catalog_of(CATALOG % term)).add("m", "s", "2026-01-05T10:00:00", "13.5")
    lines = rate(
        usage.catalog, period=PeriodSpec.parse("2026-01"), source=usage.source(), as_of=LATER
    ).lines
    assert amounts(lines) == [("p", "0.53")]  # (13.5 - 10) × 0.3 / 2 = 0.525
    told = explain(
        usage.catalog,
        line_id=lines["line_id"][0],
        period=lines["period_start"][0].date(),
        contract="k",
        source=usage.source(),
        as_of=LATER,
    )
    assert Fraction(told.exact_amount) == Fraction("0.525")


@pytest.mark.usefixtures("added")
def test_its_mistakes_are_named_like_any_other():
    """Fields it does not have, and the ones it needs."""
    with pytest.raises(InvalidDocument) as refused:
        catalog_of(CATALOG.replace("from_unit: 10", "from: 10") % "")
    assert refused.value.errors[0].pointer == "/pricebooks/b/prices/0/charge/from"


def test_a_name_is_given_once(added):
    """Two models of one name would price by whichever came last."""
    del added
    with pytest.raises(ValueError, match="beyond"):
        add_model("beyond", MODEL, form=FORM)


def test_without_the_registration_it_is_refused_by_name():
    """With the names of those there are."""
    with pytest.raises(InvalidDocument, match="must be one of flat, per_unit") as refused:
        catalog_of(CATALOG % "")
    assert refused.value.errors[0].pointer == "/pricebooks/b/prices/0/charge/model"
