"""bframe, the system nearest to our contract model, and Tallyman on the same random businesses."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from catalog.changes import plan
from catalog.grammar import InvalidDocument, parse_document
from catalog.snapshot import Catalog
from tests.bframe import ours, rules
from tests.bframe.business import KNOWN, business
from tests.bframe.compare import compare
from tests.bframe.environment import NotInstallable, environment
from tests.bframe.rules import DEPARTURES

PAGE = Path(__file__).resolve().parents[2] / "docs" / "bframe.md"
SEEDS = (*range(120), 325, 361)
"""The last two for what is seldom: once_from_month."""
FIRST_FIFTY = range(50)
SELDOM = {"floats", "endless_once"}


@pytest.fixture(scope="session")
def python(request, tmp_path_factory) -> Path:
    """Make bframe's environment, once, and keep it beside pytest's cache."""
    cache = getattr(request.config, "cache", None)
    home = cache.mkdir("bframe") if cache else tmp_path_factory.mktemp("bframe")
    try:
        return environment(home)
    except NotInstallable as error:
        pytest.skip(f"bframe cannot be installed here: {error}")


@pytest.mark.parametrize("known", KNOWN)
def test_tallyman_bills_what_the_model_means(known):
    """Through our catalog, facts and rating: every line a walk month by month says, no other."""
    for seed in FIRST_FIFTY:
        made = business(seed)
        assert ours.invoices(made, known) == rules.invoices(made, known), f"business {seed}"


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_every_difference_is_explained(python):
    """Where the two differ it is by named departures, exactly; where none applies they agree."""
    report = compare([business(seed) for seed in SEEDS], python)
    print(report)
    assert report.unexplained == []
    assert report.same > report.invoices / 2
    assert set(report.explained) >= set(DEPARTURES) - SELDOM


def test_the_page_names_every_departure():
    """docs/bframe.md lists them in the words of the rules."""
    listed = dict(re.findall(r"^\| `(\w+)` \| (.+?) \|", PAGE.read_text(), re.MULTILINE))
    assert {name: listed.get(name) for name in DEPARTURES} == DEPARTURES


def test_usage_in_advance_is_what_cannot_be_said():
    """Usage that is invoiced before it happens is refused here, by name."""
    tree = {
        "meters": {"m": {"event_type": "t", "aggregation": "count"}},
        "products": {"p": {"name": "p", "meter": "m"}},
        "pricebooks": {
            "b": {
                "currency": "USD",
                "invoicing": {"timing": "advance", "every_months": "1", "anchor": "month"},
                "prices": [{"product": "p", "charge": {"model": "per_unit", "unit_price": "1"}}],
            }
        },
    }
    with pytest.raises(InvalidDocument, match="usage cannot be billed in advance") as refused:
        plan(Catalog(), parse_document(tree))
    assert refused.value.errors[0].pointer == "/pricebooks/b/prices/0"
