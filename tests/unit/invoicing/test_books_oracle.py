"""The books against an oracle that rates everything from scratch: random months of a business.

Events arrive late, are voided, prices and claims are rewritten, contracts end, months are closed,
invoices issued and voided, in any order. Whatever happened: closed lines are the bytes they were,
closed + open is what rating from scratch says, and what was answered once is answered again.
"""

from __future__ import annotations

import contextlib
import itertools
from collections import Counter
from dataclasses import replace
from decimal import Decimal
from typing import Any

import polars as pl
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from catalog.clock import to_datetime, to_micros
from catalog.errors import OutOfRange
from catalog.events import VOIDS
from catalog.grammar import InvalidDocument
from catalog.periods import PeriodSpec
from catalog.snapshot import Catalog
from invoicing.closing import PeriodNotEnded
from invoicing.documents import Grouping
from rating.charges.base import NotCovered
from rating.frames import LINES
from rating.pipeline import rate
from rating.rendering import checksum
from storage.arrivals import memory_arrivals
from storage.memory.facts import MemoryFactSource
from tests.finance_world import ALL_TIME, World, database_url
from tests.oracle import Event, Line, Refused, oracle
from tests.unit.rating.businesses import (
    START,
    Tree,
    catalog_from,
    events,
    facts_of,
    pricebooks,
    trees,
)

DAY = 86_400_000_000
MONTHS = ("2025-11", "2025-12", "2026-01", "2026-02", "2026-03")
BEGIN = to_micros(START)
REFUSALS = (Refused, NotCovered, OutOfRange)
databases = itertools.count()


@st.composite
def histories(draw: Any) -> tuple[list[Event], dict[int, int]]:
    """Events of the first four months, each received up to 70 days late; voids by index."""
    found, voids = [], {}
    for index, event in enumerate(draw(events())):
        when = BEGIN + (event.time - BEGIN) * 120 // 220
        late = draw(st.sampled_from([0, 0, 0, 1, 20, 34, 36, 70])) * DAY
        value = event.value if event.value is None or event.value < 10**9 else Decimal(7)
        cost = event.cost if event.cost is None or event.cost < 10**9 else Decimal(7)
        received_at = when + late + index
        found.append(replace(event, time=when, received_at=received_at, value=value, cost=cost))
        if draw(st.integers(0, 4)) == 0:
            voids[index] = received_at + draw(st.integers(1, 60)) * DAY
    return found, voids


def monthly(tree: Any) -> Any:
    """The same with every cadence a month and no price for some periods only: much is closed."""
    if isinstance(tree, list):
        return [monthly(item) for item in tree]
    if not isinstance(tree, dict):
        return tree
    skipped = {"from_period", "to_period", "effective_from", "effective_until"}
    plain = {key: monthly(value) for key, value in tree.items() if key not in skipped}
    if "timing" in plain and plain["timing"] != "once":
        plain = {"timing": plain["timing"], "every_months": 1}
    if "amendments" in plain:
        del plain["amendments"]
    return plain


@st.composite
def businesses(draw: Any) -> list[Tree]:
    """A business, and up to two corrections of it."""
    tree = draw(trees())
    found = [tree, *(draw(rewritten(tree)) for _ in range(2))]
    return found if draw(st.integers(0, 3)) == 0 else [monthly(each) for each in found]


@st.composite
def rewritten(draw: Any, tree: Tree) -> Tree:
    """The same business after a correction: other prices, another end, other claims."""
    match draw(st.sampled_from(["prices", "prices", "end", "claims"])):
        case "prices":
            names, meters = sorted(tree["products"]), tree["meters"]
            book = draw(pricebooks(names, meters))
            return tree | {"pricebooks": tree["pricebooks"] | {"b1": book}}
        case "end":
            name = draw(st.sampled_from(sorted(tree["contracts"])))
            body = dict(tree["contracts"][name])
            end = draw(st.sampled_from([None, "2026-01-20", "2026-02-01", "2027-01-01"]))
            body.pop("end", None)
            body |= {} if end is None else {"end": end}
            return tree | {"contracts": tree["contracts"] | {name: body}}
        case _:
            since = draw(st.sampled_from(["2026-01-15", "2026-01-20", "2026-03-01"]))
            until = draw(st.sampled_from(["2025-12-01", "2026-01-15"]))
            first = {"name": "c1", "subjects": ["s1", {"subject": "s2", "until": until}]}
            second = {"name": "c2", "subjects": [{"subject": "s2", "from": since}]}
            return tree | {"customers": {"c1": first, "c2": second}}


steps = st.lists(
    st.tuples(
        st.sampled_from([0, 1, 12, 30]),
        st.sampled_from(
            ["close", "close", "rewrite", "rewrite", "issue all", "issue", "void", "nothing"]
        ),
        st.integers(0, 9),
    ),
    min_size=4,
    max_size=8,
)
"""Days that pass, then what is done."""


class Business:
    """A world, and what the oracle knows of it."""

    def __init__(self, world: World, found: list[Event], voids: dict[int, int]) -> None:
        self.world = world
        self.found = found
        self.voids = voids
        self.rows: list[tuple[int, str]] = []
        self.answers: list[tuple[int, str, str]] = []
        self.lists: list[tuple[int, list[dict[str, Any]]]] = []

    def take(self, step: tuple[int, str, int], catalogs: list[Catalog]) -> None:
        """Do one thing, as far as it is allowed then."""
        world, (days, what, number) = self.world, step
        world.tick(days * DAY)
        match what:
            case "close":
                self.close()
            case "rewrite":
                world.state(catalogs[number % len(catalogs)])
            case "issue all":
                world.issue_due(PeriodSpec.parse("2026"))
            case "issue":
                drafts = [d["id"] for d in world.listed(status=None) if d["status"] == "draft"]
                if drafts:
                    try:
                        world.issue(drafts[number % len(drafts)])
                    except PeriodNotEnded:
                        return
            case "void":
                issued = [d["id"] for d in world.listed() if d["status"] == "issued"]
                if issued:
                    world.void(issued[number % len(issued)])

    def close(self) -> None:
        """Close every month that is over."""
        for month in MONTHS:
            if self.world.books.month(month) is None:
                try:
                    said = self.world.close(month)
                except PeriodNotEnded:
                    return
                assert said == self.world.close(month)

    def check(self) -> None:
        """Every promise, now."""
        rows = self.world.rows()
        assert rows[: len(self.rows)] == self.rows, "a closed line changed"
        assert [sequence for sequence, _ in rows] == list(range(1, len(rows) + 1))
        self.rows = rows
        self.check_against_the_oracle()
        self.check_documents()
        self.check_answers()

    def check_against_the_oracle(self) -> None:
        now = self.world.tick()
        standing = self.world.lines(ALL_TIME, as_of=now)
        base = pl.coalesce("adjusts", "line_id").alias("line_id")
        sums = (
            standing.group_by(base)
            .agg(pl.col("quantity").sum(), pl.col("amount").sum())
            .filter((pl.col("quantity") != 0) | (pl.col("amount") != 0))
        )
        catalog = self.world.catalogs.current()
        scratch = rate(catalog, period=ALL_TIME, source=self.world.view._source, as_of=now).lines
        names = scratch.select(set(scratch.columns) - {"quantity", "amount"})
        told = sums.join(names, on="line_id", how="left")
        assert told.filter(pl.col("contract").is_null()).is_empty(), "more is billed than there is"
        assert as_lines(told) == as_lines(scratch)
        here = [event for i, event in enumerate(self.found) if self.voids.get(i, now + 1) > now]
        expected = oracle(catalog, here, first=ALL_TIME.first, until=ALL_TIME.until, as_of=now)
        assert as_lines(told) == sorted(replace(line, events=0) for line in expected)

    def check_documents(self) -> None:
        closed = self.world.books.closed_after(0, limit=1_000_000)
        issued = self.world.books.issued_after(0, limit=1_000_000)
        heads = self.world.listed() + self.world.listed("2025")
        pages = self.world.pages(of=2)
        assert list(itertools.chain(*pages)) == self.world.listed()
        standing = [head for head in heads if head["status"] == "issued"]
        billed = closed.filter(pl.col("invoice").is_not_null())
        assert sum((Decimal(head["subtotal"]) for head in standing), Decimal(0)) == (
            billed["amount"].sum() or 0
        )
        assert len({head["id"] for head in standing}) == billed["invoice"].n_unique()
        series: Counter[str] = Counter()
        for number in issued["number"]:
            prefix = number.rpartition("-")[0]
            series[prefix] += 1
            assert int(number.rpartition("-")[2]) == series[prefix]

    def check_answers(self) -> None:
        for month in MONTHS:
            held = self.world.books.month(month)
            if held is not None:
                lines = self.world.lines(month).select(list(LINES))
                assert f'"checksum": "{checksum(lines)}"' in held.body
        as_of = self.world.tick()
        lines = self.world.lines("2026-01", as_of=as_of).select(list(LINES))
        self.answers.append((as_of, "2026-01", checksum(lines)))
        self.lists.append((as_of, self.world.listed(as_of=as_of)))
        self.world.remember_nothing()
        for instant, listed in self.lists[:: max(1, len(self.lists) // 3)]:
            assert self.world.listed(as_of=instant) == listed
        for as_of, period, before in self.answers[:: max(1, len(self.answers) // 3)]:
            again = self.world.lines(period, as_of=as_of).select(list(LINES))
            assert checksum(again) == before


def as_lines(frame: pl.DataFrame) -> list[Line]:
    """LINES in the oracle's form, events left out."""
    return sorted(
        Line(
            contract=row["contract"],
            product=row["product"],
            start=to_micros(row["period_start"]),
            end=to_micros(row["period_end"]) if row["period_end"] else 10**18,
            dimensions=row["dimensions"],
            kind=row["kind"],
            timing=row["timing"],
            currency=row["currency"],
            quantity=row["quantity"],
            amount=row["amount"],
            events=0,
        )
        for row in frame.iter_rows(named=True)
    )


def voids_frame(voids: dict[int, int]) -> pl.DataFrame:
    """VOIDS of events by their index."""
    rows = [
        {
            "node": "n1",
            "seq": 10_000 + index,
            "target_node": "n1",
            "target_seq": index + 1,
            "received_at": to_datetime(at),
        }
        for index, at in voids.items()
    ]
    return pl.DataFrame(rows, schema=VOIDS, orient="row")


@pytest.mark.slow
@pytest.mark.timeout(400)
@settings(
    max_examples=8,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(
    trees=businesses(),
    history=histories(),
    taken=steps,
    grouping=st.sampled_from(list(Grouping)),
)
def test_closed_plus_open_is_what_rating_from_scratch_says(
    trees, history, taken, grouping, tmp_path_factory
):
    """After every step of a random history of a random business."""
    found, voids = history
    catalogs = []
    for tree in trees:
        with contextlib.suppress(InvalidDocument):
            catalogs.append(catalog_from(tree))
    assume(catalogs)
    facts, gone = facts_of(catalogs[0], found), voids_frame(voids)
    source, arrivals = MemoryFactSource(facts, gone), memory_arrivals(facts, gone)
    folder = tmp_path_factory.getbasetemp()
    url = database_url(folder, f"books-{next(databases)}")
    world = World(url, source, now=BEGIN + 50 * DAY, grouping=grouping, arrivals=arrivals)
    try:
        world.state(catalogs[0])
        business = Business(world, found, voids)
        for step in [(0, "close", 0), *taken]:
            business.take(step, catalogs)
            business.check()
    except REFUSALS:
        return
    finally:
        world.end()
