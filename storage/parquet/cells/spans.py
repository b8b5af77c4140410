"""Cells met by spans: those wholly inside, and what is left to be counted from facts."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from dataclasses import dataclass

import polars as pl

from catalog.ids import SpecId
from rating.ports import SPANS
from storage.parquet.cells.rows import CELLS
from storage.parquet.query import SUBJECTS_PUSHED_MAX

_ASKED = ("span", "asked", "since", "until")
"""One row of SPANS: ``asked`` is its subject, null for whoever it was."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Met:
    """CELLS inside spans with their ``span``, and SPANS of the pieces they leave out."""

    cells: pl.DataFrame
    pieces: pl.DataFrame


def near(cells: pl.DataFrame, spans: pl.DataFrame) -> pl.DataFrame:
    """Those of ``cells`` (sorted by subject) that may be in ``spans``, without reading them all."""
    subjects = spans["subject"].unique()
    if subjects.null_count() or len(subjects) > SUBJECTS_PUSHED_MAX:
        return cells
    return pl.concat([cells.clear(), *looked_up(cells, subjects)])


def few(spans: pl.DataFrame) -> bool:
    """Whether ``spans`` are of so few subjects that cells are better looked up than read."""
    subjects = spans["subject"]
    return subjects.null_count() == 0 and subjects.n_unique() <= SUBJECTS_PUSHED_MAX


def looked_up(cells: pl.DataFrame, subjects: pl.Series) -> list[pl.DataFrame]:
    """The slices of ``cells`` (sorted by subject) that are of ``subjects``; none are copied."""
    keys = cells["subject"]
    # Bytes of UTF-8 are in the order of code points, which is Python's.
    bounds = ((bisect_left(keys, name), bisect_right(keys, name)) for name in subjects)
    return [cells[low:high] for low, high in bounds if low < high]


def meet_whole(cells: pl.DataFrame, spans: pl.DataFrame, *, extremes: bool) -> pl.DataFrame | None:
    """CELLS with their ``spec`` inside spans of any specs, with ``span``; null if one is cut.

    As :func:`meet`, for all specs at once; the subjects of ``spans`` are named.
    """
    asked = spans.rename({"start": "since", "end": "until"})
    met = cells.join(asked, on=["spec", "subject"]).filter(
        pl.col("start") < pl.col("until"), pl.col("end") > pl.col("since")
    )
    outside = (pl.col("start") < pl.col("since")) | (pl.col("end") > pl.col("until"))
    if extremes:
        outside |= pl.col("taken") > 0
    return None if met.select(outside.any()).item() else met.select("span", *CELLS)


def meet(cells: pl.DataFrame, spans: pl.DataFrame, spec: SpecId, *, extremes: bool) -> Met:
    """What of ``cells`` is in ``spans``, all of one spec.

    Where a span cuts a cell, that and every cell that overlaps it is left to the facts; for
    ``extremes``, which cannot be subtracted, also where something was taken back.
    """
    asked = spans.rename({"subject": "asked", "start": "since", "end": "until"}).drop("spec")
    named = asked.filter(pl.col("asked").is_not_null())
    joined = [cells.join(named, left_on="subject", right_on="asked", coalesce=False)]
    if asked["asked"].null_count():
        anyone = asked.filter(pl.col("asked").is_null())
        joined.append(cells.join(anyone, how="cross").select(joined[0].columns))
    met = pl.concat(joined).filter(
        pl.col("start") < pl.col("until"), pl.col("end") > pl.col("since")
    )
    inside = (pl.col("start") >= pl.col("since")) & (pl.col("end") <= pl.col("until"))
    outside = (~inside | (pl.col("taken") > 0)) if extremes else ~inside
    cut = met.filter(outside).select(_ASKED).unique()
    if cut.is_empty():
        return Met(cells=met.select("span", *CELLS), pieces=SPANS.to_frame())
    whole = met.join(cut, on=_ASKED, how="anti", nulls_equal=True)
    blocks = _blocks(met.join(cut, on=_ASKED, how="semi", nulls_equal=True), outside)
    kept = pl.concat([whole, blocks.filter(~pl.col("cut")).select(whole.columns)])
    return Met(cells=kept.select("span", *CELLS), pieces=_pieces(blocks, spec))


def _blocks(met: pl.DataFrame, cut: pl.Expr) -> pl.DataFrame:
    """``met`` with its ``block``: cells of a span that overlap, and whether one of them is cut."""
    ends = pl.col("end").cum_max().shift(1).over(_ASKED)
    begins = ends.is_null() | (pl.col("start") >= ends)
    return (
        met.sort(*_ASKED, "start")
        .with_columns(block=begins.cum_sum())
        .with_columns(cut=cut.any().over("block"))
    )


def _pieces(blocks: pl.DataFrame, spec: SpecId) -> pl.DataFrame:
    pieces = (
        blocks.filter("cut")
        .group_by("block", *_ASKED)
        .agg(pl.col("start").min(), pl.col("end").max())
        .select(
            "span",
            spec=pl.lit(spec),
            subject="asked",
            start=pl.max_horizontal("start", "since"),
            end=pl.min_horizontal("end", "until"),
        )
    )
    return pieces.select(list(SPANS)).cast(SPANS)
