"""From the numbers that were counted to what lines are priced by."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from fractions import Fraction

import numpy as np
import polars as pl

from catalog.charges import Capacity, Charge, Dynamic, Matrix, Percentage
from catalog.events import EMPTY_DIMENSIONS
from catalog.ids import MeterId
from catalog.money import round_quantity
from rating.cells import exact, something
from rating.charges.base import NotCovered
from rating.charges.capacity import fitting
from rating.charges.dynamic import priced_by
from rating.charges.events import band_prices
from rating.charges.matrix import NO_ROW, is_fee, refuses
from rating.pieces import PIECES, USAGE, Measured
from rating.plan import LinePlan, Part
from rating.planned import Planned, lines_where, planned
from rating.probes import Question, Role
from rating.terms import Terms
from rating.uncovered import Missed, refuse_if_any

_WHOLE = {"divisor": pl.lit(1, pl.Int64), "rest": pl.lit(None, pl.Int64)}
"""What stands beside a number that its quantity says in full."""


@dataclass
class _Charges:
    """The charges that pieces name, each distinct one once."""

    numbers: dict[Charge, int] = field(default_factory=dict)

    def of(self, charge: Charge) -> int:
        """The number of ``charge``."""
        return self.numbers.setdefault(charge, len(self.numbers))


def assemble(plans: Sequence[LinePlan], asked: Question, cells: pl.DataFrame) -> Measured:
    """USAGE and PIECES of the metered lines among ``plans`` from the CELLS of their probes.

    Raises:
        NotCovered: usage that no row or plan of a charge covers.
    """
    charges = _Charges()
    answers = cells.hstack(asked.frame.select("line", "role")[cells["probe"]])
    usage = [
        _counted(answers.filter(pl.col("role") == Role.USAGE.value)),
        _bucketed(answers, plans),
    ]
    fitted = _capacity(answers, asked, plans, charges)
    used = pl.concat([*usage, fitted.usage])
    cells = pl.concat([answers, _unanswered(asked, answers)])
    return Measured(
        usage=pl.concat([used, _zeros(asked, plans, used)]),
        pieces=pl.concat([_pieces(cells, plans, charges), fitted.pieces]),
        charges=tuple(charges.numbers),
    )


def _counted(answers: pl.DataFrame) -> pl.DataFrame:
    """USAGE as it was counted."""
    return answers.rename({"group": "dimensions"}).select(list(USAGE))


def _bucketed(answers: pl.DataFrame, plans: Sequence[LinePlan]) -> pl.DataFrame:
    """USAGE of lines priced by the window: what their windows come to together."""
    lines = lines_where(plans, _is_bucketed)
    if not lines:
        return USAGE.to_frame()
    rowed = [i for i in lines if isinstance(plans[i].terms.price.charge, Matrix)]
    windows = pl.when(pl.col("line").is_in(rowed)).then(pl.lit(Role.WINDOWS.value))
    wanted = pl.col("role") == windows.otherwise(pl.lit(Role.CELLS.value))
    cells = answers.filter(pl.col("line").is_in(lines) & wanted)
    plain = cells.filter(pl.col("divisor") == 1)
    totals = plain.group_by("line", "group").agg(pl.col("quantity", "event_count").sum())
    if plain.height == cells.height:
        return _counted(totals.with_columns(**_WHOLE))
    return _counted(_fractional(cells))


def _is_bucketed(terms: Terms) -> bool:
    return terms.price.bucket is not None


def _fractional(cells: pl.DataFrame) -> pl.DataFrame:
    """The same where windows are fractions: what is shown is rounded, what is priced is not."""
    totals: dict[tuple[int, str], tuple[Fraction, int]] = {}
    columns = ("line", "group", "quantity", "divisor", "event_count")
    for line, group, quantity, divisor, count in cells.select(columns).iter_rows():
        total, events = totals.get((line, group), (Fraction(0), 0))
        totals[line, group] = total + Fraction(quantity) / divisor, events + count
    made = [
        (line, group, round_quantity(total), 1, events, None)
        for (line, group), (total, events) in totals.items()
    ]
    schema = {("group" if name == "dimensions" else name): t for name, t in USAGE.items()}
    return pl.DataFrame(made, schema=schema, orient="row")


def _zeros(asked: Question, plans: Sequence[LinePlan], used: pl.DataFrame) -> pl.DataFrame:
    """USAGE of nothing, for lines that are one group and whose meter is 0 for nothing."""
    additive = [index for index, shape in enumerate(asked.shapes) if shape.additive]
    own = pl.col("role") == Role.USAGE.value
    bucketed = lines_where(plans, _is_bucketed)
    own |= (pl.col("role") == Role.CELLS.value) & pl.col("line").is_in(bucketed)
    due = asked.frame.filter(own & pl.col("whole") & pl.col("shape").is_in(additive))
    unused = due.join(used, on="line", how="anti")
    return unused.select(
        "line",
        dimensions=pl.lit(EMPTY_DIMENSIONS),
        quantity=pl.lit(Decimal(0), pl.Decimal(38, 9)),
        event_count=pl.lit(0, pl.Int64),
        **_WHOLE,
    ).select(list(USAGE))


_CHARGED = {"line": pl.Int64(), "row": pl.Int64(), "charge": pl.Int64(), "fee": pl.Boolean()}


def _unanswered(asked: Question, answers: pl.DataFrame) -> pl.DataFrame:
    """Zeros for spans of tiers in which nothing was used: a fee may be due for that too."""
    additive = [index for index, shape in enumerate(asked.shapes) if shape.additive]
    plain = [index for index, selector in enumerate(asked.selectors) if selector.rows is None]
    spans = asked.frame.filter(
        pl.col("role").is_in([Role.UP_TO.value, Role.BEFORE.value]),
        pl.col("whole") & pl.col("shape").is_in(additive) & pl.col("selector").is_in(plain),
    )
    nothing = spans.join(answers, on="probe", how="anti").select(
        "probe",
        group=pl.lit(EMPTY_DIMENSIONS),
        row=pl.lit(0, pl.Int64),
        bucket=pl.lit(0, pl.Int64),
        quantity=pl.lit(Decimal(0), pl.Decimal(38, 9)),
        event_count=pl.lit(0, pl.Int64),
        **_WHOLE,
    )
    return nothing.join(spans.select("probe", "line", "role"), on="probe").select(answers.columns)


def _pieces(cells: pl.DataFrame, plans: Sequence[LinePlan], charges: _Charges) -> pl.DataFrame:
    """PIECES of lines whose cells are what is priced."""
    columns = planned(plans)
    pieced = columns.where(lambda part: part.terms.pieced and not part.terms.capacity)
    if not pieced.any():
        return PIECES.to_frame()
    shown = [Role.USAGE.value, Role.WINDOWS.value]
    own = cells.filter(pl.Series(pieced[cells["line"]]), ~pl.col("role").is_in(shown))
    banded = columns.where(lambda part: part.terms.per_event)
    own = own.filter(~pl.Series(banded[own["line"]]) | something())
    _covered(own, plans)
    charged = _charged(planned(plans), own["line"], charges)
    fee = pl.col("fee") & something()
    taken = pl.col("role") == Role.BEFORE.value
    found = own.join(charged, on=["line", "row"]).with_columns(
        quantity=pl.when(fee).then(pl.lit(Decimal(1), pl.Decimal(38, 9))).otherwise("quantity"),
        divisor=pl.when(fee).then(_WHOLE["divisor"]).otherwise("divisor"),
        rest=pl.when(~fee).then("rest"),
        sign=pl.when(taken).then(-1).otherwise(1).cast(pl.Int64),
    )
    return found.rename({"group": "dimensions"}).select(list(PIECES))


def _charged(plans: Planned, line: pl.Series, charges: _Charges) -> pl.DataFrame:
    """One row a row (or band) of each of ``line``: what prices it."""
    lines = line.unique().sort()
    part = plans.part[lines.to_numpy()]
    rows = [
        (place, row, charges.of(charge), is_fee(charge))
        for place in np.unique(part).tolist()
        for row, charge in _charges(plans.parts[place].terms)
    ]
    schema = {"part": pl.Int64(), **{name: _CHARGED[name] for name in ("row", "charge", "fee")}}
    known = pl.DataFrame(rows, schema=schema, orient="row")
    named = pl.DataFrame({"line": lines, "part": part})
    return named.join(known, on="part").select(list(_CHARGED))


def _charges(terms: Terms) -> Iterator[tuple[int, Charge]]:
    """What each row (or band) of a line's cells is priced by."""
    match terms.price.charge:
        case Matrix(rows=rows):
            for index, row in enumerate(rows):
                yield index, row.charge
        case Dynamic() as dynamic:
            yield 0, priced_by(dynamic)
        case Percentage() as percentage if terms.per_event:
            yield from enumerate(band_prices(percentage))
        case charge:
            yield 0, charge


def _covered(cells: pl.DataFrame, plans: Sequence[LinePlan]) -> None:
    """Raise where usage matches no row of a matrix that refuses it."""
    refusing = planned(plans).where(_refuses)
    unmatched = cells.filter(pl.col("row") == NO_ROW, something())
    refused = unmatched.filter(pl.Series(refusing[unmatched["line"]]))
    pairs = refused.select("line", "group").unique().sort("line", "group")
    reason = "some usage matches no row of the matrix"
    refuse_if_any(
        [Missed(plan=plans[line], group=group, reason=reason) for line, group in pairs.iter_rows()]
    )


def _refuses(part: Part) -> bool:
    charge = part.terms.price.charge
    return isinstance(charge, Matrix) and refuses(charge)


def _capacity(
    answers: pl.DataFrame, asked: Question, plans: Sequence[LinePlan], charges: _Charges
) -> Measured:
    """Lines that pay for the plan their meters fit into: one plan each, used or not."""
    limited = lines_where(plans, lambda terms: bool(terms.capacity))
    if not limited:
        return Measured(usage=USAGE.to_frame(), pieces=PIECES.to_frame(), charges=())
    held: dict[int, dict[MeterId, Fraction]] = {line: {} for line in limited}
    events = dict.fromkeys(held, 0)
    columns = ("probe", "line", "event_count", "quantity", "divisor", "rest")
    metered = answers.filter(pl.col("role") == Role.METER.value)
    for probe, line, count, *number in metered.select(columns).iter_rows():
        held[line][asked.probes[probe].meter] = exact(*number)
        events[line] += count
    usage, pieces, missed, one = [], [], [], Decimal(1)
    for line, used in held.items():
        charge = plans[line].terms.price.charge
        assert isinstance(charge, Capacity)
        try:
            index, fee = fitting(charge, used)
        except NotCovered as error:
            missed.append(Missed(plan=plans[line], group=EMPTY_DIMENSIONS, reason=error.detail))
            continue
        usage.append((line, EMPTY_DIMENSIONS, one, 1, events[line], None))
        pieces.append((line, EMPTY_DIMENSIONS, index, 0, charges.of(fee), 1, one, 1, None))
    refuse_if_any(missed)
    return Measured(
        usage=pl.DataFrame(usage, schema=USAGE, orient="row"),
        pieces=pl.DataFrame(pieces, schema=PIECES, orient="row"),
        charges=(),
    )
