"""The ids that are kept with plans are those of the lines, whoever else asks for them."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import polars as pl
import pytest

from catalog.events import EMPTY_DIMENSIONS
from catalog.periods import PeriodSpec
from rating import line_ids
from rating.line_ids import LineIds
from rating.plan import Accounted, plan_lines
from rating.planned import Planned, planned
from tests.unit.rating.builders import LATER, catalog_of

CUSTOMERS = range(5)
CATALOG = f"""
meters: {{m: {{event_type: t, aggregation: sum, value: data.n, dimensions: {{r: data.r}}}}}}
products: {{p: {{name: P, meter: m}}, fee: {{name: Fee}}}}
pricebooks:
  b:
    currency: USD
    invoicing: {{timing: arrears, every_months: 1}}
    prices:
      - {{product: p, charge: {{model: per_unit, unit_price: '1'}}}}
      - {{product: fee, charge: {{model: flat, amount: '5'}}}}
customers: {{{", ".join(f"c{n}: {{name: C, subjects: [s{n}]}}" for n in CUSTOMERS)}}}
contracts:
  {{{", ".join(f"k{n}: {{customer: c{n}, pricebook: b, start: 2026-01-01}}" for n in CUSTOMERS)}}}
"""


def plans() -> Planned:
    """Two lines of each of five contracts that are alike."""
    accounted = Accounted(PeriodSpec.parse("2026-02"), LATER)
    return planned(plan_lines(catalog_of(CATALOG), accounted))


@pytest.mark.parametrize("few", [0, 64])
def test_ids_as_columns_are_the_ids_one_by_one(few: int, monkeypatch: pytest.MonkeyPatch):
    """With groups and without, asked for at once and again; no two lines share one."""
    monkeypatch.setattr(line_ids, "FEW_LINES", few)
    lines = plans()
    ids = LineIds(lines)
    rows = [
        (line, group)
        for line in range(len(lines))
        for group in (EMPTY_DIMENSIONS, '{"r":"eu"}', '{"r":"ü"}')
    ]
    line, group = (pl.Series(column) for column in zip(*rows, strict=True))
    expected = [lines[number].line_id(named) for number, named in rows]
    assert ids.of(line[:4], group[:4]).to_list() == expected[:4]
    assert ids.of(line, group).to_list() == ids.of(line, group).to_list() == expected
    assert len(set(expected)) == len(rows)


class _Together(LineIds):
    """Two threads make their ids at the same time, and keep them at the same time."""

    def __init__(self, plans: Planned) -> None:
        super().__init__(plans)
        self.both: Barrier | None = Barrier(2)

    def __setattr__(self, name: str, value: object) -> None:
        super().__setattr__(name, value)
        if name == "_whole" and getattr(self, "both", None):
            self.both.wait(10)

    def _made(self, line: pl.Series, group: pl.Series) -> pl.Series:
        if self.both:
            self.both.wait(10)
        return super()._made(line, group)


def test_two_threads_at_once_each_get_their_ids():
    """What one keeps in place of the other's takes nothing from its answer, then or later."""
    lines = plans()
    ids = _Together(lines)
    whole = pl.Series([EMPTY_DIMENSIONS])
    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(lambda line: ids.of(pl.Series([line]), whole)[0], (0, 1)))
    expected = [lines[line].line_id(EMPTY_DIMENSIONS) for line in range(len(lines))]
    assert found == expected[:2]
    ids.both = None
    every = pl.Series(range(len(lines)))
    assert ids.of(every, whole.new_from_index(0, len(lines))).to_list() == expected
