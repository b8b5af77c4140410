"""Runs the tables of tests/scenarios/*.txt and of docs/rating.md.

A table is a ``price:`` (YAML without its product), maybe a ``currency:``, the heading ``used
bills`` and one row per independent contract: units used in a month, and what they cost. Usage is
one event, or several an hour apart: ``10+80``; ``5[region=eu]`` names dimensions (or the ``cost``
it asks for itself), ``3@calls`` another meter; ``6|8`` are months, each with its bill.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from catalog.periods import PeriodSpec
from rating.charges.base import NotCovered
from rating.charges.registry import COMPOSED, MODELS, model_name
from rating.pipeline import rate
from rating.steps import STEPS
from tests.unit.rating.builders import LATER, Usage, catalog_of

ROOT = Path(__file__).resolve().parents[3]
GUIDE = ROOT / "docs" / "rating.md"
EVENT = re.compile(r"(?P<value>-?[0-9.]+)(?:@(?P<meter>\w+))?(?:\[(?P<named>.*)\])?")
Row = tuple[str, str, str, str]


def tables(text: str) -> Iterator[Row]:
    """(currency, price, used, bills) of every row."""
    currency, price, listing = "USD", "", False
    for line in text.splitlines():
        if line.startswith("currency:"):
            currency = line.partition(":")[2].strip()
        elif line.startswith("price:"):
            price = line.partition(":")[2].strip()
        elif line.split() == ["used", "bills"]:
            listing = True
        elif listing and len(line.split()) == 2:
            used, bills = line.split()
            yield currency, price, used, bills
        else:
            currency, listing = ("USD", False) if listing else (currency, False)


def rows() -> list[Row]:
    """Every row of every table there is."""
    files = sorted((ROOT / "tests" / "scenarios").glob("*.txt"))
    return [row for path in (*files, GUIDE) for row in tables(path.read_text())]


def billed(currency: str, price: str, used: str) -> str:
    """What a month with ``used`` units costs, as the table shows it."""
    catalog = catalog_of(f"""
    meters:
      m:
        event_type: t
        aggregation: sum
        value: data.n
        dimensions: {{region: data.region, model: data.model}}
      calls: {{event_type: c, aggregation: sum, value: data.n}}
    products: {{p: {{name: P, meter: m}}}}
    pricebooks:
      b:
        currency: {currency}
        invoicing: {{timing: arrears, every_months: 1}}
        prices: [{{product: p, {price.removeprefix("{")}]
    customers: {{c: {{name: C, subjects: [s]}}}}
    contracts: {{k: {{customer: c, pricebook: b, start: 2026-01-01}}}}
    """)
    usage, months = Usage(catalog), used.split("|")
    for month, events in enumerate(months, start=1):
        for hour, event in enumerate(events.split("+")):
            told(usage, f"2026-{month:02d}-10T{hour:02d}:00:00", event)
    decimals = {"JPY": 0}.get(currency, 2)
    return "|".join(
        bill_of(usage, f"2026-{month:02d}", decimals) for month, _ in enumerate(months, start=1)
    )


def told(usage: Usage, time: str, event: str) -> None:
    """Add one event as a table writes it."""
    found = EVENT.fullmatch(event)
    assert found is not None, event
    named = dict(pair.split("=") for pair in (found["named"] or "").split(",") if pair)
    cost = named.pop("cost", None)
    usage.add(found["meter"] or "m", "s", time, found["value"], **named)
    usage.also("data.cost", cost)


def bill_of(usage: Usage, month: str, decimals: int) -> str:
    """What the one line of a month comes to."""
    period, source = PeriodSpec.parse(month), usage.source()
    try:
        lines = rate(usage.catalog, period=period, source=source, as_of=LATER, zeros=True).lines
    except NotCovered:
        return "refused"
    return f"{lines['amount'][0]:.{decimals}f}"


@pytest.mark.parametrize(("currency", "price", "used", "bills"), rows())
def test_a_row_bills_what_it_says(currency, price, used, bills):
    """Through the public grammar, the plan, the store and the columns."""
    assert billed(currency, price, used) == bills


def test_there_are_rows_to_run():
    """A change of notation must not silently run nothing."""
    assert len(rows()) > 45
    assert len(list(tables(GUIDE.read_text()))) > 10


def test_the_guide_names_every_model_and_every_step_in_order():
    """docs/rating.md lists the models that rate, and the steps in their order."""
    text = GUIDE.read_text()
    kinds = [*MODELS, *(kind for kind in COMPOSED if kind not in MODELS)]
    names = [model_name(kind(**dict.fromkeys(kind.__dataclass_fields__, ()))) for kind in kinds]
    assert re.findall(r"^### `(\w+)`", text, re.MULTILINE) == names
    assert re.findall(r"^\d+\. \*\*(\w+)\*\*", text, re.MULTILINE) == [s.name for s in STEPS]


def test_the_guides_worked_example_is_what_rating_says():
    """Its catalog, its usage and its lines, executed."""
    text = GUIDE.read_text()
    catalog = catalog_of(re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)[0])
    usage = Usage(catalog)
    for event in yaml.safe_load_all(re.findall(r"```events\n(.*?)```", text, re.DOTALL)[0]):
        for meter, subject, time, value in event:
            usage.add(meter, subject, time, value)
    found = rate(
        catalog, period=PeriodSpec.parse("2023-11"), source=usage.source(), as_of=LATER
    ).lines
    shown = [
        f"{r['contract']} {r['product']} {r['quantity']:.0f} {r['amount']:.2f} {r['kind']}"
        for r in found.iter_rows(named=True)
    ]
    told = re.findall(r"```lines\n(.*?)```", text, re.DOTALL)[0].splitlines()
    assert shown == [" ".join(line.split()) for line in told]
