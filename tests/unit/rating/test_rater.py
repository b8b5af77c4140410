"""What a rater keeps changes no answer, and is bounded."""

from __future__ import annotations

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from catalog.errors import OutOfRange
from catalog.periods import PeriodSpec
from rating.charges.base import NotCovered
from rating.pipeline import rate
from rating.rater import Rater
from tests.unit.rating.builders import LATER
from tests.unit.rating.businesses import as_ofs, catalog_from, events, periods, source_of, trees


@settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck))
@given(tree=trees(), found=events(), text=periods, moments=st.lists(as_ofs, min_size=1, max_size=4))
def test_a_rater_answers_as_rating_does_in_any_order_of_instants(tree, found, text, moments):
    """Plans are kept from one instant to the next; what has not begun is not among the lines."""
    catalog = catalog_from(tree)
    spec, source = PeriodSpec.parse(text), source_of(catalog, found)
    rater, forgetful = Rater(), Rater(lines_max=0)
    for as_of in [LATER, *moments, LATER]:
        try:
            expected = rate(catalog, period=spec, source=source, as_of=as_of).lines
        except (NotCovered, OutOfRange):
            continue
        first, again = (
            rater.rate(catalog, period=spec, source=source, as_of=as_of) for _ in range(2)
        )
        assert first.lines.equals(expected)
        assert again is first
        made = forgetful.rate(catalog, period=spec, source=source, as_of=as_of)
        assert made.lines.equals(expected)
