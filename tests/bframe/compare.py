"""The two side by side: which invoices are the same, and why the others are not."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

from tests.bframe import ours, rules
from tests.bframe.business import KNOWN, RANGE, Business, tables_of
from tests.bframe.environment import ask
from tests.bframe.rules import ALL, DEPARTURES, Invoices

TOGETHER = "only together"
"""Differences that no departure makes by itself."""


@dataclass(kw_only=True)
class Report:
    """Counts of invoices, by what became of them; ``unexplained`` names those that are wrong."""

    businesses: int = 0
    invoices: int = 0
    same: int = 0
    explained: Counter[str] = field(default_factory=Counter)
    unexplained: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        """The counts, the most common departures first."""
        differ, wrong = self.invoices - self.same, len(self.unexplained)
        told = [f"{self.businesses} businesses, {self.invoices} invoices: {self.same} the same"]
        told += [f"{differ:6d}  differ, {wrong} of them unexplained"]
        told += [f"{count:6d}  {name}" for name, count in self.explained.most_common()]
        return "\n".join(told + self.unexplained[:10])


def compare(businesses: list[Business], python: Path) -> Report:
    """Rate all of them with both, at every instant of system time."""
    question = {"tables": tables_of(businesses), "range": RANGE, "known": KNOWN}
    answer = ask(python, question)
    report = Report()
    for known in KNOWN:
        theirs = _theirs(answer[known]["line_items"])
        _check_totals(answer[known]["invoices"], theirs)
        for business in businesses:
            _add(report, business, known, theirs[business.number])
    report.businesses = len(businesses)
    return report


def _theirs(rows: Iterable[list[Any]]) -> dict[int, Invoices]:
    """Read bframe's line items by business and invoice; those of nothing left out."""
    found: defaultdict[int, Invoices] = defaultdict(lambda: defaultdict(list))
    for contract, delivery, start, end, product, quantity, amount in rows:
        line = product, Fraction(quantity), Fraction(amount or 0)
        if line[1] or line[2]:
            key = (contract, delivery, start[:10], end[:10] if end else None)
            found[product // 1_000][key].append(line)
    for held in found.values():
        for lines in held.values():
            lines.sort()
    return found


def _check_totals(rows: Iterable[list[Any]], theirs: dict[int, Invoices]) -> None:
    """Its invoices are the sums of its line items, so comparing those compares these."""
    totals = {
        key: sum(m for *_, m in lines) for held in theirs.values() for key, lines in held.items()
    }
    for contract, delivery, start, end, total in rows:
        key = (contract, delivery, start[:10], end[:10] if end else None)
        assert Fraction(total) == totals.get(key, 0), key


def _add(report: Report, business: Business, known: str, theirs: Invoices) -> None:
    """Compare one business at one instant; ours and theirs must each be what the rules say."""
    found = ours.invoices(business, known)
    meant, told = rules.invoices(business, known), rules.invoices(business, known, ALL)
    without = {name: rules.invoices(business, known, ALL - {name}) for name in DEPARTURES}
    for key in sorted(set(found) | set(theirs), key=str):
        report.invoices += 1
        here, there = found.get(key), theirs.get(key)
        if here == there:
            report.same += 1
        if here != meant.get(key) or there != told.get(key):
            report.unexplained.append(
                f"business {business.number}, {known}, {key}: {here}, {there}"
            )
        elif here != there:
            names = [name for name in DEPARTURES if without[name].get(key) != there]
            report.explained.update(names or [TOGETHER])
