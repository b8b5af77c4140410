"""Runs examples through rating: the grammar, the plan, the facts, and explanations of the lines."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from fractions import Fraction
from typing import Any

import polars as pl

from catalog.changes import plan
from catalog.clock import EPOCH, Micros, to_micros
from catalog.errors import DomainError
from catalog.events import EMPTY_DIMENSIONS, FACTS
from catalog.grammar import InvalidDocument, parse_document
from catalog.ids import MeterId
from catalog.money import plain, round_fraction
from catalog.periods import PeriodSpec
from catalog.snapshot import Catalog
from rating.charges.base import NotCovered
from rating.explain import explain
from rating.explanation import Explanation
from rating.lines import named_in
from rating.pipeline import rate
from rating.support import unsupported
from storage.memory.facts import MemoryFactSource
from tests.vectors.cases import Case, NotSayable
from tests.vectors.models import read

LATER = Micros(to_micros(EPOCH) + 4_000_000_000_000_000)
CENT = Fraction(1, 100)


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What became of one example: ``reproduced``, ``differs`` or ``refused``, and why."""

    number: int
    model: str
    outcome: str
    detail: str = ""

    def __str__(self) -> str:
        """One line."""
        said = f"{self.number:4d}  {self.model:32s} {self.outcome}"
        return f"{said}: {self.detail}" if self.detail else said


def verdicts(text: str) -> Iterator[Verdict]:
    """One for every example of a file of JSON lines; numbers are kept as they are written."""
    for number, line in enumerate(text.splitlines(), start=1):
        if line.strip():
            yield verdict(number, json.loads(line, parse_float=str))


def verdict(number: int, vector: dict[str, Any]) -> Verdict:
    """What becomes of one example."""
    model = str(vector["model"])
    expected = str(vector["expected_amount"])
    try:
        found = amount_of(read(model, vector["params"], vector["usage"]))
    except NotSayable as error:
        return Verdict(number=number, model=model, outcome="refused", detail=str(error))
    except (KeyError, TypeError, ValueError, ArithmeticError) as error:
        detail = f"params or usage in a form that is not known ({type(error).__name__}: {error})"
        return Verdict(number=number, model=model, outcome="refused", detail=detail)
    shown = found if isinstance(found, str) else as_shown(found, expected)
    if shown == expected or _equal(shown, expected):
        return Verdict(number=number, model=model, outcome="reproduced")
    detail = f"expected {expected}, rated {shown}"
    return Verdict(number=number, model=model, outcome="differs", detail=detail)


def as_shown(amount: Fraction, expected: str) -> str:
    """``amount`` with as many decimals as ``expected`` shows, rounded half up."""
    decimals = len(expected.partition(".")[2])
    return f"{round_fraction(amount, decimals):f}"


def _equal(shown: str, expected: str) -> bool:
    return "ERROR" not in (shown, expected) and Decimal(shown) == Decimal(expected)


def amount_of(case: Case) -> Fraction | str:
    """What the lines come to before they are rounded; ``ERROR`` where the usage is refused.

    Raises:
        NotSayable: the catalog does not take the document.
    """
    try:
        document = parse_document(_texts(case.document()))
        catalog = plan(Catalog(), document, unsupported=unsupported).catalog
    except InvalidDocument as error:
        first = error.errors[0]
        raise NotSayable(f"{first.pointer}: {first.detail}") from None
    try:
        found = explanations(case, catalog)
    except NotCovered:
        return "ERROR"
    except DomainError as error:
        raise NotSayable(error.detail) from None
    if case.whole_parts:
        _each_part_is_whole(found)
    told = [_figure(case, explanation) for explanation in found]
    return sum(told, Fraction(0)) - case.less


def explanations(case: Case, catalog: Catalog) -> list[Explanation]:
    """Every line of the case's period, explained; the totals say the same."""
    source = MemoryFactSource(facts_of(case, catalog))
    spec = PeriodSpec.parse(case.period)
    lines = rate(catalog, period=spec, source=source, as_of=LATER, zeros=True).lines
    found = []
    for row in lines.iter_rows(named=True):
        contract, day = named_in(row["line_id"])
        told = explain(
            catalog,
            line_id=row["line_id"],
            period=day,
            contract=contract,
            source=source,
            as_of=LATER,
        )
        assert Decimal(told.amount) == row["amount"], "explained otherwise than billed"
        found.append(told)
    return found


def _figure(case: Case, told: Explanation) -> Fraction:
    if case.quantity:
        return Fraction(told.quantity)
    return Fraction(told.amount if case.rounded else told.exact_amount)


def _each_part_is_whole(found: list[Explanation]) -> None:
    parts = [Fraction(part["amount"] or 0) for told in found for part in told.parts]
    if any((part / CENT).denominator != 1 for part in parts):
        raise NotSayable("rounds every tier; a line is rounded once here")


def facts_of(case: Case, catalog: Catalog) -> pl.DataFrame:
    """FACTS as the catalog's meters and dynamic prices would read the events."""
    rows = []
    for seq, event in enumerate(case.events, start=1):
        meter = catalog.meters[MeterId(event.meter)].last
        time = datetime.fromisoformat(event.time)
        for path, value in (("data.n", event.value), *event.more):
            rows.append(
                {
                    "node": "n1",
                    "seq": seq,
                    "spec": meter.reading(path).id,
                    "subject": "s",
                    "time": time,
                    "received_at": time,
                    "value": Decimal(value),
                    "text": None,
                    "dimensions": EMPTY_DIMENSIONS,
                }
            )
    return pl.DataFrame(rows, schema=FACTS, orient="row")


def _texts(tree: object) -> object:
    """The document with its numbers as text, which is how decimals are written."""
    if isinstance(tree, dict):
        return {key: _texts(value) for key, value in tree.items()}
    if isinstance(tree, list | tuple):
        return [_texts(value) for value in tree]
    if isinstance(tree, bool) or tree is None:
        return tree
    return plain(tree) if isinstance(tree, Decimal) else str(tree)
