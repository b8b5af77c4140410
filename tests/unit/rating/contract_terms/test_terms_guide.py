"""docs/rating.md: its contract with every term, executed."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from catalog.periods import PeriodSpec
from rating.contract_terms.order import ORDER
from rating.pipeline import rate
from tests.unit.rating.builders import LATER, Usage, catalog_of

GUIDE = (Path(__file__).resolve().parents[4] / "docs" / "rating.md").read_text()
SECTION = GUIDE.partition("## A contract as a whole\n")[2].partition("\n## ")[0]
TOLD = re.findall(r"```terms ?(\S*)\n(.*?)```", SECTION, re.DOTALL)


@pytest.mark.parametrize(("period", "told"), TOLD)
def test_the_contract_bills_what_the_guide_says(period, told):
    """Its catalog, its usage, and the lines of each month it shows."""
    catalog = catalog_of(re.findall(r"```yaml\n(.*?)```", SECTION, re.DOTALL)[0])
    usage = Usage(catalog)
    events = re.findall(r"```events\n(.*?)```", SECTION, re.DOTALL)[0]
    for meter, subject, time, value in yaml.safe_load(events):
        usage.add(meter, subject, time, value)
    spec = PeriodSpec.parse(period or "2026-01")
    lines = rate(catalog, period=spec, source=usage.source(), as_of=LATER).lines
    shown = lines.sort("timing", "kind", "amount").select("timing", "kind", "amount").rows()
    assert sorted(f"{timing} {kind} {amount:.2f}" for timing, kind, amount in shown) == sorted(
        " ".join(line.split()) for line in told.splitlines()
    )


def test_the_guide_names_the_terms_in_their_order():
    """The order is written once, and the guide has it."""
    assert len(TOLD) == 3
    assert re.findall(r"^- \*\*(\w+)\*\*", SECTION, re.MULTILINE) == [name for name, _ in ORDER]
