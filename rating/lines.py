"""Lines as they are shown: what the plan says beside what was counted and priced."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import date, datetime
from typing import Any

import numpy as np
import polars as pl

from catalog.clock import to_datetime
from catalog.errors import NotFound
from catalog.ids import ContractId, is_id
from catalog.money import round_quantity
from catalog.periods import FOREVER
from rating.cells import exact
from rating.frames import BILLING, LINES, QUANTITY, LineStatus
from rating.line_ids import FEW_LINES, LineIds
from rating.plan import LinePlan, Part
from rating.planned import Numbers, Planned, once

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
    facts, ids = once(plans, _plan_rows), once(plans, LineIds)
    rows = (
        priced.drop("line")
        .hstack(facts[priced["line"]])
        .with_columns(
            ids.of(priced["line"], priced["dimensions"]),
            _quantities(priced),
            status=pl.lit(LineStatus.OPEN.value),
            adjusts=pl.lit(None, pl.String),
            cause=pl.lit(None, pl.String),
        )
    )
    return rows.select(pl.col(name).cast(dtype) for name, dtype in _SHOWN.items())


def in_order(plans: Sequence[LinePlan], usage: pl.DataFrame) -> tuple[pl.DataFrame, bool]:
    """``usage`` (rows by ``line`` and ``dimensions``) in the order that its lines are shown in.

    Says also whether that is their whole order: it is not where only the ids tell lines apart, nor
    where there are few of them, which are sorted in one step later.
    """
    if usage.height <= FEW_LINES:
        return usage, False
    ranks = once(plans, _ranks)
    ranked = usage.with_columns(pl.Series("rank", ranks[usage["line"]]))
    shared = ranked["rank"].is_duplicated()
    tied = ranked.filter(shared).sort("rank", "dimensions")
    told = not tied.select("rank", "dimensions").is_duplicated().any()
    alone = ranked.filter(~shared)
    return pl.concat([alone, tied]).sort("rank", maintain_order=True).drop("rank"), told


def _ranks(plans: Planned) -> Numbers:
    """The place of each line among all by :data:`rating.frames.LINES_ORDER`, but for its group."""
    owners = [(owner.customer, owner.contract) for owner in plans.owners]
    parts = [(p.start, p.terms.product, p.terms.kind.value) for p in plans.parts]
    ranks: Numbers = _places(owners)[plans.owner] * (len(parts) + 1) + _places(parts)[plans.part]
    return ranks


def _places(keys: Sequence[tuple[Any, ...]]) -> Numbers:
    """The place of each key among all that differ."""
    places = {key: place for place, key in enumerate(sorted(set(keys)))}
    return np.array([places[key] for key in keys], dtype=np.int64)


def _plan_rows(plans: Planned) -> pl.DataFrame:
    """What each line shows of its plan, one row a line: of its contract, and of its part."""
    terms = {id(part.terms): part.terms for part in plans.parts}
    versions = {key: found.version for key, found in terms.items()}
    parts = pl.DataFrame(
        [_part_row(part, versions[id(part.terms)]) for part in plans.parts],
        schema={name: _SHOWN[name] for name in _FROM_PART},
        orient="row",
    )
    named = [(owner.contract, owner.customer) for owner in plans.owners]
    names = {"contract": pl.String, "customer": pl.String}
    owners = pl.DataFrame(named, schema=names, orient="row")
    return owners[plans.owner].hstack(parts[plans.part])


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
    """The exact quantities, to 9 decimals where there is a divisor."""
    if priced.filter(pl.col("divisor") != 1).is_empty():
        return priced["quantity"]
    shown = [
        number[0] if number[1] == 1 else round_quantity(exact(*number))
        for number in _columns(priced, "quantity", "divisor", "rest")
    ]
    return pl.Series("quantity", shown, dtype=QUANTITY)


def _columns(frame: pl.DataFrame, *names: str) -> list[tuple[Any, ...]]:
    return frame.select(names).rows()
