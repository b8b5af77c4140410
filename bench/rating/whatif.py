"""A month under other prices: what somebody waits for who tries one price after another."""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from bench.gate import expect
from bench.rating.month import CUSTOMERS, PERIOD, Month
from bench.rating.world import tree
from catalog.changes import plan
from catalog.clock import Micros
from catalog.grammar import parse_document
from rating.pipeline import Asked, rate
from rating.whatif import Comparison, Simulator

BOOKS = 4


@dataclass
class Tried:
    """Every contract of a month, under a pricebook that nobody has stated."""

    month: Month

    @cached_property
    def simulator(self) -> Simulator:
        """As the service keeps one."""
        return Simulator(self.month.source)

    def compared(self, number: int) -> tuple[float, Comparison]:
        """Milliseconds from a patch to what it changes for every customer, and that.

        Each patch asks another price for calls in all books, as of another instant.
        """
        month = self.month
        month.as_of = Micros(month.as_of + 1)
        patch = self._patch(number)
        began_s = time.perf_counter()
        planned = plan(month.known, parse_document(patch), prune=False, unsupported=lambda _: [])
        asked = Asked(period=PERIOD, as_of=month.as_of)
        found = self.simulator.compare(month.known, planned.catalog, asked)
        return (time.perf_counter() - began_s) * 1_000, found

    def _patch(self, number: int) -> dict[str, Any]:
        books: dict[str, Any] = tree(range(0), self.month.start)["pricebooks"]
        for book in books.values():
            charge = {"model": "per_unit", "unit_price": f"0.0{3 + number % 6}{number % 10}"}
            others = [price for price in book["prices"] if price["product"] != "calls"]
            book["prices"] = [*others, {"product": "calls", "charge": charge}]
        return {"pricebooks": books}

    def check(self) -> None:
        """Fail unless both sides are what rating either catalog comes to.

        Raises:
            BenchFailed: they are not.
        """
        month, (_, found) = self.month, self.compared(99)
        expect("contracts rated again", seen=found.touched, wanted=CUSTOMERS)
        patched = plan(
            month.known, parse_document(self._patch(99)), prune=False, unsupported=lambda _: []
        )
        for name, catalog in (("before", month.known), ("after", patched.catalog)):
            lines = rate(catalog, period=PERIOD, source=month.facts, as_of=month.as_of).lines
            expect(f"total {name}", seen=found.rows[name].sum(), wanted=lines["amount"].sum())
