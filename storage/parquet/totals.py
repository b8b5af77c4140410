"""Totals of facts: added up piece by piece of each file, reading no column that statistics say.

A file is in the order of subjects and dimensions, so rows of one group are neighbours: they are
added up as runs, without a hash of their texts. Nothing but speed depends on that order.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import polars as pl

from catalog.clock import Micros, to_datetime
from catalog.errors import OutOfRange
from catalog.events import FACTS
from storage.parquet.files import FactsFile
from storage.parquet.known import Known, Names, Range, known_rows, together

KEYS = ("subject", "piece", "dimensions")
FACTS_MAX = 10**12
"""So many facts of one group or more might wrap a sum: a value is below 10^17."""
EDGES_COMPARED_MAX = 8
"""With so many bounds or fewer each is compared with every time: the scan stays in one language."""
FOLDED_ROWS = 2_000_000
"""Parts are put together when there are so many rows of them."""
_NEVER_ENDING: Range = (-(2**63), 2**63 - 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Piece:
    """Rows of files that are read at once, and the seqs among them that do not count."""

    paths: tuple[Path, ...]
    known: Known
    gone: pl.Series | None


@dataclass(frozen=True, kw_only=True)
class Totals:
    """What to add up of one spec: facts received up to ``as_of`` that are not in ``gone``.

    ``edges`` are the bounds (µs, ascending) that cut time into pieces: piece n begins at the n-th
    of them. Facts before the first or after the last are left out. ``gone`` are the ``node`` and
    ``seq`` of events that do not count. ``extremes`` asks also for what EXTREMES say more.
    ``subjects`` are the only ones that are asked for (null: all of them).
    """

    edges: pl.Series
    as_of: Micros
    extremes: bool
    gone: pl.DataFrame = field(default_factory=pl.DataFrame)
    subjects: Sequence[str] | None = None

    def of(self, files: Sequence[FactsFile], frames: Iterable[pl.DataFrame]) -> pl.DataFrame:
        """One row per :data:`KEYS` over ``files`` and ``frames`` (FACTS) together.

        Raises:
            OutOfRange: a sum might have wrapped.
        """
        parts: list[pl.DataFrame] = []
        for part in self._parts(files, frames):
            parts.append(part)
            if len(parts) > 1 and sum(each.height for each in parts) > FOLDED_ROWS:
                parts = [self._folded(parts)]
        if len(parts) == 1 and not files:
            return _checked(parts[0])  # a frame is added up by its keys
        return self._folded(parts)

    def _parts(
        self, files: Iterable[FactsFile], frames: Iterable[pl.DataFrame]
    ) -> Iterator[pl.DataFrame]:
        """Part after part: a piece of a file keeps one core busy, so several are read at once."""
        found = list(self._pieces_in(files))
        if len(found) > 1:
            with ThreadPoolExecutor(pl.thread_pool_size()) as pool:
                yield from pool.map(self._of_piece, found)
        else:
            yield from map(self._of_piece, found)
        for frame in frames:
            known = Known(first=0, count=frame.height)
            standing = frame
            if self.gone.height:
                standing = frame.join(self.gone, on=["node", "seq"], how="anti")
            yield self._added(standing.lazy(), known, None, ordered=False)

    def _pieces_in(self, files: Iterable[FactsFile]) -> Iterator[_Piece]:
        """The rows to read. Small files that are alike are read as one."""
        held: _Piece | None = None
        for file in files:
            gone = self._gone_of(file)
            for known in known_rows(file.path, self._may_count):
                piece = _Piece(paths=(file.path,), known=known, gone=gone)
                joined = None if held is None else self._joined(held, piece)
                if held is not None and joined is None:
                    yield held
                held = piece if joined is None else joined
        if held is not None:
            yield held

    def _joined(self, one: _Piece, other: _Piece) -> _Piece | None:
        """Both as one piece; null where something has to be read of one and not of the other."""
        known = together(one.known, other.known)
        if known is None or one.gone is not None or other.gone is not None:
            return None
        if self._needs(one.known) != self._needs(other.known):
            return None
        return _Piece(paths=(*one.paths, *other.paths), known=known, gone=None)

    def _needs(self, known: Known) -> tuple[object, ...]:
        """What of the times of some facts has to be read, and which piece they are in."""
        low, high = self._pieces_of(known.time)
        late = known.received is None or known.received[1] > self.as_of
        return (late, low) if low == high else (late, None)

    def _of_piece(self, piece: _Piece) -> pl.DataFrame:
        known, rows = piece.known, pl.scan_parquet(list(piece.paths))
        if not known.whole:
            rows = rows.slice(known.first, known.count)
        return self._added(rows, known, piece.gone)

    def _gone_of(self, file: FactsFile) -> pl.Series | None:
        """The seqs in a file that do not count; null for none."""
        if self.gone.is_empty():
            return None
        within = pl.col("seq").is_between(file.first, file.last)
        seqs = self.gone.filter(pl.col("node") == file.node, within)["seq"]
        return seqs if len(seqs) else None

    def _may_count(self, known: Known) -> bool:
        low, high = self._pieces_of(known.time)
        received = known.received or _NEVER_ENDING
        inside = high >= 1 and low < len(self.edges)
        return inside and received[0] <= self.as_of and self._may_hold(known.subjects)

    def _may_hold(self, names: Names | None) -> bool:
        """Whether a subject that is asked for may be between two names."""
        if self.subjects is None or names is None:
            return True
        return any(names[0] <= subject <= names[1] for subject in self.subjects)

    def _pieces_of(self, times: Range | None) -> Range:
        """The first and the last piece that there may be a fact in."""
        low, high = times or _NEVER_ENDING
        found = np.searchsorted(self._bounds, [low, high], side="right")
        return int(found[0]), int(found[1])

    @cached_property
    def _bounds(self) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
        return self.edges.to_numpy()

    def _added(
        self, rows: pl.LazyFrame, known: Known, gone: pl.Series | None, *, ordered: bool = True
    ) -> pl.DataFrame:
        """Rows of :data:`KEYS`, some of them maybe more than once, of part of the facts."""
        if self.subjects is not None:
            rows = rows.filter(pl.col("subject").is_in(self.subjects))
        if gone is not None:
            rows = rows.filter(~pl.col("seq").is_in(gone.implode()))
        if known.received is None or known.received[1] > self.as_of:
            rows = rows.filter(pl.col("received_at") <= pl.lit(to_datetime(self.as_of)))
        low, high = self._pieces_of(known.time)
        keys, said = ["subject"], {"piece": pl.lit(low, pl.Int32)}
        if low != high:
            rows = rows.with_columns(piece=_pieces(self._bounds))
            rows = rows.filter(pl.col("piece").is_between(1, len(self.edges) - 1))
            keys.append("piece")
            said.pop("piece")
        if known.dimensions is None:
            keys.append("dimensions")
        else:
            said["dimensions"] = pl.lit(known.dimensions)
        wanted = self._wanted(known)
        sums = _runs(rows, keys, wanted) if ordered else rows.group_by(keys).agg(**wanted)
        return sums.with_columns(**said).select(*KEYS, *self._columns).collect()

    def _wanted(self, known: Known) -> dict[str, pl.Expr]:
        """What is to be known of each group of rows."""
        value = pl.col("value")
        if known.valueless:
            zero, none = pl.lit(0).cast(FACTS["value"]), pl.lit(None, FACTS["value"])
            found = {"sum": zero, "valued": pl.lit(0, pl.Int64), "low": none, "high": none}
        else:
            found = {
                "sum": value.sum(),
                "valued": value.count().cast(pl.Int64),
                "low": value.min(),
                "high": value.max(),
            }
        found["count"] = pl.len().cast(pl.Int64)
        return {name: found[name] for name in self._columns}

    @property
    def _columns(self) -> tuple[str, ...]:
        return ("sum", "count", "valued", "low", "high") if self.extremes else ("sum", "count")

    def _folded(self, parts: list[pl.DataFrame]) -> pl.DataFrame:
        """``parts`` with one row per :data:`KEYS`."""
        if not parts:
            types = {"piece": pl.Int32, "count": pl.Int64, "valued": pl.Int64}
            decimals = dict.fromkeys(("sum", "low", "high"), FACTS["value"])
            schema = {name: pl.String() for name in KEYS} | decimals | types
            return pl.DataFrame(schema={n: schema[n] for n in (*KEYS, *self._columns)})
        added = [n for n in ("sum", "count", "valued") if n in self._columns]
        more = [pl.col("low").min(), pl.col("high").max()] if self.extremes else []
        return _checked(pl.concat(parts).group_by(KEYS).agg(pl.col(added).sum(), *more))


def _checked(sums: pl.DataFrame) -> pl.DataFrame:
    if sums.filter(pl.col("count") >= FACTS_MAX).height:
        raise OutOfRange("the usage of a line has over 18 digits")
    return sums


def _runs(rows: pl.LazyFrame, keys: list[str], wanted: dict[str, pl.Expr]) -> pl.LazyFrame:
    """``wanted`` of each run of rows that are alike in ``keys``."""
    begins = pl.any_horizontal(pl.col(key).ne_missing(pl.col(key).shift()) for key in keys)
    numbered = rows.with_columns(run=begins.cum_sum().set_sorted())
    sums = numbered.group_by("run", maintain_order=True)
    return sums.agg(*(pl.col(key).first() for key in keys), **wanted)


def _pieces(bounds: np.ndarray[tuple[int], np.dtype[np.int64]]) -> pl.Expr:
    """How many of ``bounds`` lie at or before ``time``."""
    times = pl.col("time").to_physical()
    if len(bounds) <= EDGES_COMPARED_MAX:
        return pl.sum_horizontal((times >= int(bound)).cast(pl.Int32) for bound in bounds)

    def places(times: pl.Series) -> pl.Series:
        found = np.searchsorted(bounds, times.to_numpy(), side="right")
        return pl.Series(times.name, found.astype(np.int32))

    return times.map_batches(places, return_dtype=pl.Int32, is_elementwise=True)
