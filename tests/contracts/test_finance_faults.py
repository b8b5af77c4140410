"""Lateness, repetition and change, through rating, close and issue, on both SQL engines.

Rows 15, 22 and 25 of the fault matrix; a kill inside the database is in ``test_books``.
"""

from __future__ import annotations

import copy
import random
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from catalog.clock import Micros, to_micros
from catalog.periods import PeriodSpec
from catalog.snapshot import Catalog
from rating.frames import LINES
from rating.rendering import as_csv, checksum
from storage.arrivals import memory_arrivals
from storage.memory.facts import MemoryFactSource
from tests.finance_world import World
from tests.oracle import Event
from tests.sql import fresh_url
from tests.unit.invoicing.test_books_oracle import catalog_from, facts_of, voids_frame

DAY = 86_400_000_000
JANUARY = to_micros(datetime(2026, 1, 1, tzinfo=UTC))
FEBRUARY = JANUARY + 31 * DAY
USED_AT = FEBRUARY - DAY
LATE_DAYS = (0, 1, 30, 34, 35, 36)
TREE: dict[str, Any] = {
    "meters": {"summed": {"event_type": "t", "aggregation": "sum", "value": "data.v"}},
    "products": {"summed": {"name": "summed", "meter": "summed"}},
    "pricebooks": {
        "b": {
            "currency": "USD",
            "invoicing": {"timing": "arrears", "every_months": 1},
            "prices": [
                {
                    "product": "summed",
                    "charge": {
                        "model": "graduated",
                        "tiers": [{"up_to": "100", "unit_price": "1"}, {"unit_price": "0.5"}],
                    },
                }
            ],
        }
    },
    "customers": {f"c{n}": {"name": f"c{n}", "subjects": [f"s{n}"]} for n in range(4)},
    "contracts": {
        f"k{n}": {"customer": f"c{n}", "pricebook": "b", "start": "2026-01-01"} for n in range(4)
    },
}
NOTHING = voids_frame({})


def event(subject: int, amount: int, *, late_days: int = 0) -> Event:
    """Usage of 31 January, received so many days later."""
    return Event(
        meter="summed",
        subject=f"s{subject}",
        time=USED_AT,
        received_at=USED_AT + late_days * DAY + amount,
        value=Decimal(amount),
        dimensions=(),
    )


def repriced() -> Catalog:
    """The same business, its second tier dearer from the beginning."""
    tree = copy.deepcopy(TREE)
    charge = tree["pricebooks"]["b"]["prices"][0]["charge"]
    charge["tiers"][1]["unit_price"] = "0.75"
    return catalog_from(tree)


def world(url: str, events: Sequence[Event], *, now: int) -> World:
    """A deployment that has received, by each instant, what there was."""
    catalog = catalog_from(TREE)
    facts = facts_of(catalog, list(events))
    found = World(
        url,
        MemoryFactSource(facts, NOTHING),
        now=now,
        arrivals=memory_arrivals(facts, NOTHING),
    )
    found.catalogs.state(JANUARY, catalog)
    return found


def sums(lines: pl.DataFrame) -> dict[str, Decimal]:
    """Amounts by contract."""
    return dict(lines.group_by("contract").agg(pl.col("amount").sum()).sort("contract").rows())


@pytest.mark.parametrize("days", LATE_DAYS)
def test_late_usage_is_in_the_open_month_or_an_adjustment(url: str, days: int) -> None:
    """Row 15: closed after three days; what came by then is in it, the rest beside it, once."""
    there = world(url, [event(0, 90), event(0, 30, late_days=days)], now=FEBRUARY + 2 * DAY)
    try:
        body = there.close("2026-01")
        before = as_csv(there.lines("2026-01").select(list(LINES)))
        there.clock.set(FEBRUARY + 40 * DAY)
        assert as_csv(there.lines("2026-01").select(list(LINES))) == before
        assert checksum(there.lines("2026-01").select(list(LINES))) == body["checksum"]
        adjusted = there.lines("2026-02").filter(pl.col("kind") == "adjustment")
        assert adjusted["cause"].to_list() == ([] if days <= 3 else ["late"])
        assert sums(there.lines("2026")) == {"k0": Decimal(110)}
        there.close("2026-02")
        assert sums(there.lines("2026")) == {"k0": Decimal(110)}
        assert as_csv(there.lines("2026-01").select(list(LINES))) == before
    finally:
        there.end()


@pytest.mark.parametrize("seed", range(4))
def test_the_order_of_arrival_changes_nothing(seed: int, tmp_path: Path) -> None:
    """Row 15: any permutation closes to the same bytes."""
    events = [event(n % 4, 7 * n + 1) for n in range(40)]
    found = []
    for order in (list(events), random.Random(seed).sample(events, len(events))):
        with fresh_url("sqlite", tmp_path) as here:
            there = world(here, order, now=FEBRUARY + DAY)
            there.close("2026-01")
            found.append(as_csv(there.lines("2026-01").select(list(LINES))))
            there.end()
        (tmp_path / "catalog.sqlite").unlink()
    assert found[0] == found[1]


def test_eight_at_once_close_and_issue_to_one_result(url: str) -> None:
    """Row 22: whoever loses gets the winner's bytes; numbers have no gap; a re-run is the same."""
    events = [event(n, 50 + 30 * n) for n in range(4)] + [event(2, 11, late_days=9)]
    there = [world(url, events, now=FEBRUARY + DAY + n) for n in range(8)]
    try:
        with ThreadPoolExecutor(8) as pool:
            bodies = list(pool.map(lambda each: str(each.close("2026-01")), there))
            issued = list(pool.map(lambda each: each.issue_due(PeriodSpec.parse("2026-01")), there))
        assert len(set(bodies)) == 1
        assert sorted(each.issued for each in issued) == [0] * 7 + [4]
        documents = there[0].books.documents(as_of=Micros(2**62))
        assert documents["number"].to_list() == [f"INV-{n:06d}" for n in range(1, 5)]
        written = there[0].rows(), documents["checksum"].to_list()
        there[3].clock.set(FEBRUARY + 12 * DAY)
        assert str(there[3].close("2026-01")) == bodies[0]
        assert there[3].issue_due(PeriodSpec.parse("2026-01")).issued == 0
        documents = there[0].books.documents(as_of=Micros(2**62))
        assert (there[0].rows(), documents["checksum"].to_list()) == written
    finally:
        for each in there:
            each.end()


@pytest.mark.parametrize("step", ["close_month", "issue"])
def test_what_dies_before_it_is_written_is_done_again(
    url: str, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Row 22: an end between rating and writing leaves nothing; the next one does all of it."""
    there = world(url, [event(n, 50 + n) for n in range(4)], now=FEBRUARY + DAY)
    january = PeriodSpec.parse("2026-01")
    does = {
        "close_month": lambda: there.close("2026-01"),
        "issue": lambda: there.issue_due(january),
    }

    def dies(*_: object) -> None:
        raise KeyboardInterrupt

    try:
        if step == "issue":
            there.close("2026-01")
        before = there.books.mark()
        with monkeypatch.context() as patch:
            patch.setattr(there.books, step, dies)
            with pytest.raises(KeyboardInterrupt):
                does[step]()
        assert there.books.mark() == before
        assert there.close("2026-01")["lines"] == 4
        assert there.issue_due(january).issued == 4
    finally:
        there.end()


def test_a_price_that_changes_meanwhile_is_a_later_month(url: str) -> None:
    """Row 25: what was closed is rated with the catalog it names, and reads the same for ever."""
    there = world(url, [event(0, 120)], now=FEBRUARY + DAY)
    try:
        body = there.close("2026-01")
        closed = there.lines("2026-01")
        there.state(repriced())
        assert checksum(there.lines("2026-01").select(list(LINES))) == body["checksum"]
        adjusted = there.lines("2026-02").filter(pl.col("kind") == "adjustment")
        assert adjusted.select("adjusts", "cause", "amount").rows() == [
            (closed["line_id"].item(), "reprice", Decimal(5))
        ]
        at = there.books.line(closed["line_id"].item())["as_of"].item()
        again = there.lines("2026-01", as_of=to_micros(at))
        assert again["amount"].to_list() == closed["amount"].to_list()
        assert again["price_version"].to_list() == closed["price_version"].to_list()
    finally:
        there.end()
