"""Lines as they are shown: what the plan says beside what was counted and priced."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import date, datetime
from fractions import Fraction
from typing import Any

import polars as pl

from catalog.clock import to_datetime
from catalog.errors import NotFound
from catalog.ids import ContractId, is_id
from catalog.money import round_quantity
from catalog.periods import FOREVER
from rating.frames import BILLING, LINES, QUANTITY, LineStatus
from rating.plan import LinePlan, Part
from rating.planned import once

_SHOWN = {**LINES, **BILLING}
_DAY = re.compile(r"[0-9]{8}")
_DIGEST = re.compile(r"[0-9a-f]{20}")
_FROM_PART = (
    "product",
    "meter",
    "timing",
    "period_start",
    "period_end",
    "currency",
    "kind",
    "price_version",
    "billing_start",
    "billing_end",
    "accounting_date",
)


def shown_lines(plans: Sequence[LinePlan], priced: pl.DataFrame) -> pl.DataFrame:
    """LINES and BILLING columns of ``priced`` (USAGE with rounded ``amount``), row by row."""
    facts, known = once(plans, _plan_rows), once(plans, _Ids)
    ids = [known[key] for key in _columns(priced, "line", "dimensions")]
    rows = priced.join(facts, on="line", how="left", maintain_order="left").with_columns(
        pl.Series("line_id", ids, dtype=pl.String()),
        _quantities(priced),
        status=pl.lit(LineStatus.OPEN.value),
        adjusts=pl.lit(None, pl.String),
        cause=pl.lit(None, pl.String),
    )
    return rows.select(pl.col(name).cast(dtype) for name, dtype in _SHOWN.items())


class _Ids(dict[tuple[int, str], str]):
    """The ids of lines by plan and group, each made when it is first asked for."""

    def __init__(self, plans: Sequence[LinePlan]) -> None:
        super().__init__()
        self._plans = plans

    def __missing__(self, key: tuple[int, str]) -> str:
        line, group = key
        found = self[key] = self._plans[line].line_id(group)
        return found


def _plan_rows(plans: Sequence[LinePlan]) -> pl.DataFrame:
    """What the plan of each line says, one row a line; what lines share is worked out once."""
    parts = {id(plan.part): plan.part for plan in plans}
    versions = {id(part.terms): part.terms for part in parts.values()}
    named = {key: terms.version for key, terms in versions.items()}
    facts = pl.DataFrame(
        [(key, *_part_row(part, named[id(part.terms)])) for key, part in parts.items()],
        schema={"part": pl.UInt64, **{name: _SHOWN[name] for name in _FROM_PART}},
        orient="row",
    )
    lines = pl.DataFrame(
        {
            "line": range(len(plans)),
            "part": [id(plan.part) for plan in plans],
            "customer": [plan.customer for plan in plans],
            "contract": [plan.contract for plan in plans],
        },
        schema={"line": pl.Int64, "part": pl.UInt64, "customer": pl.String, "contract": pl.String},
    )
    return lines.join(facts, on="part", how="left", maintain_order="left").drop("part")


def named_in(line_id: str) -> tuple[ContractId, date]:
    """The contract a line id is of, and the UTC day on which its billing period starts.

    Raises:
        NotFound: no line has such an id.
    """
    contract, _, rest = line_id.partition("~")
    day, _, digest = rest.partition("~")
    if not (is_id(contract) and _DAY.fullmatch(day) and _DIGEST.fullmatch(digest)):
        raise NotFound(f"no line {line_id[:200]!r}")
    try:
        return ContractId(contract), date(int(day[:4]), int(day[4:6]), int(day[6:]))
    except ValueError:
        raise NotFound(f"no line {line_id[:200]!r}") from None


def _part_row(part: Part, version: str) -> tuple[object, ...]:
    terms, meter = part.terms, part.terms.metered
    return (
        terms.product,
        meter.id if meter else None,
        terms.invoicing.timing.value,
        _moment(part.start),
        _moment(part.end),
        terms.currency,
        terms.kind.value,
        version,
        _moment(part.period.start),
        _moment(part.period.end),
        part.accounting,
    )


def _moment(instant: int) -> datetime | None:
    return None if instant >= FOREVER else to_datetime(instant)


def _quantities(priced: pl.DataFrame) -> pl.Series:
    """``quantity`` / ``divisor``, to 9 decimals where there is a divisor."""
    if priced.filter(pl.col("divisor") != 1).is_empty():
        return priced["quantity"]
    shown = [
        quantity if divisor == 1 else round_quantity(Fraction(quantity) / divisor)
        for quantity, divisor in _columns(priced, "quantity", "divisor")
    ]
    return pl.Series("quantity", shown, dtype=QUANTITY)


def _columns(frame: pl.DataFrame, *names: str) -> list[tuple[Any, ...]]:
    return frame.select(names).rows()
