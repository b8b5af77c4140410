"""Terms of whole contracts against a naive oracle, and what must hold whatever they are."""

from __future__ import annotations

from fractions import Fraction

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from catalog.clock import to_micros
from catalog.periods import PeriodSpec
from rating.pipeline import rate
from tests.oracle import NEVER
from tests.oracle_terms import Told, oracle_terms
from tests.unit.rating.agreements import events, periods, trees
from tests.unit.rating.builders import LATER
from tests.unit.rating.businesses import as_ofs, catalog_from, source_of

MANY = settings(
    max_examples=100,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.explicit, Phase.reuse, Phase.generate],  # shrinking takes minutes
)


def told(rated) -> list[Told]:
    """Lines in the oracle's form; those of nothing left out."""
    rows = zip(rated.lines.iter_rows(named=True), rated.billing["accounting_date"], strict=True)
    return sorted(
        (
            day,
            row["kind"],
            row["timing"],
            to_micros(row["period_start"]),
            to_micros(row["period_end"]) if row["period_end"] else NEVER,
            Fraction(row["amount"]),
        )
        for row, day in rows
        if row["amount"]
    )


@MANY
@given(
    tree=trees(),
    found=events(),
    text=periods,
    as_of=st.one_of(st.just(LATER), st.just(LATER), as_ofs),
)
def test_every_line_is_the_oracles_to_the_cent(tree, found, text, as_of):
    """However far back it looks, each term bills what a walk from the first day says."""
    catalog, spec = catalog_from(tree), PeriodSpec.parse(text)
    expected = oracle_terms(catalog, found, first=spec.first, until=spec.until, as_of=as_of)
    rated = rate(catalog, period=spec, source=source_of(catalog, found), as_of=as_of)
    assert told(rated) == expected
