"""ParquetFacts: one file per sealed segment and spec, and the hot tail in memory.

The position of a spec on a node is what its file names say plus what follows in memory; nothing
else records it. A restart forgets the tail, which is then read from the log again.
"""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import polars as pl

from catalog.clock import Micros
from catalog.events import FACTS, VOIDS
from catalog.ids import NodeId, Seq, SpecId
from rating.ports import EXTREMES, SUMS
from storage.parquet.files import FactsFile, file_name, list_files, write_durably
from storage.parquet.order import in_file_order
from storage.parquet.query import (
    EDGES_MAX,
    bounded,
    combined,
    compensated,
    edges_of,
    in_spans,
    met,
    pushed,
    standing,
    summed,
    within_range,
)
from storage.parquet.totals import Totals

VOIDS_KEY = SpecId("voids")
"""Compensations are kept like the facts of one more spec."""
TAIL_FRAMES_MAX = 64


class NotContiguous(AssertionError):
    """A caller tried to leave a gap or to write a range twice: a bug, never input."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeFacts:
    """What one spec holds of one node: files up to ``sealed``, frames up to ``reached``."""

    files: tuple[FactsFile, ...] = ()
    tail: tuple[pl.DataFrame, ...] = ()
    sealed: Seq = Seq(0)
    reached: Seq = Seq(0)


EMPTY = NodeFacts()


class ParquetFacts:
    """Facts and compensations under one directory. One writer thread, any number of readers."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._lock = threading.Lock()
        self._held: dict[SpecId, dict[NodeId, NodeFacts]] = {}
        self._load()

    def _load(self) -> None:
        self._directory.mkdir(parents=True, exist_ok=True)
        for path in self._directory.iterdir():
            if path.is_dir():
                self._held[SpecId(path.name)] = {
                    node: NodeFacts(files=files, sealed=files[-1].last, reached=files[-1].last)
                    for node, files in list_files(path).items()
                    if files
                }

    @property
    def keys(self) -> tuple[SpecId, ...]:
        """The specs (and :data:`VOIDS_KEY`) that anything is held for."""
        with self._lock:
            return tuple(self._held)

    def state(self, key: SpecId, node: NodeId) -> NodeFacts:
        """What is held of ``node`` for ``key``: one consistent view."""
        with self._lock:
            return self._held.get(key, {}).get(node, EMPTY)

    def nodes(self, key: SpecId) -> tuple[NodeId, ...]:
        """The nodes that anything is held of for ``key``."""
        with self._lock:
            return tuple(self._held.get(key, {}))

    def reached(self, key: SpecId, node: NodeId) -> Seq:
        """The last record of ``node`` that is in the facts of ``key`` or the compensations."""
        return max(self.state(key, node).reached, self.state(VOIDS_KEY, node).reached)

    def extend(self, key: SpecId, node: NodeId, *, last: Seq, rows: pl.DataFrame) -> None:
        """Take what the log says after the position up to ``last`` into memory.

        ``rows`` may be empty: the position moves all the same.
        """
        held = self.state(key, node)
        if last < held.reached:
            raise NotContiguous(f"{key} of {node} is at {held.reached}, beyond {last}")
        tail = held.tail if rows.is_empty() else (*held.tail, rows)
        if len(tail) > TAIL_FRAMES_MAX:
            tail = (pl.concat(tail),)
        self._put(key, node, replace(held, tail=tail, reached=last))

    def tail_until(self, key: SpecId, node: NodeId, *, last: Seq) -> pl.DataFrame | None:
        """What is in memory after the last file up to ``last``; None if it does not reach it."""
        held = self.state(key, node)
        if held.reached < last:
            return None
        return pl.concat([_empty(key), *held.tail]).filter(pl.col("seq") <= last)

    def seal(self, key: SpecId, node: NodeId, *, last: Seq, rows: pl.DataFrame) -> None:
        """Write the file of the segment that ends at ``last`` and drop its part of the tail.

        ``rows`` are all the log says after the last file up to ``last``.

        Raises:
            OSError: nothing changed.
        """
        held = self.state(key, node)
        first = Seq(held.sealed + 1)
        if last < first:
            raise NotContiguous(f"{key} of {node} is sealed to {held.sealed}, beyond {last}")
        path = self._directory / key / file_name(node=node, first=first, last=last)
        write_durably(rows.sort("seq") if key == VOIDS_KEY else in_file_order(rows), path)
        file = FactsFile(node=node, first=first, last=last, path=path)
        kept = (frame.filter(pl.col("seq") > last) for frame in held.tail)
        tail = tuple(frame for frame in kept if frame.height)
        reached = max(held.reached, last)
        files = (*held.files, file)
        self._put(key, node, NodeFacts(files=files, tail=tail, sealed=last, reached=reached))

    def forget(self, key: SpecId) -> None:
        """Drop what is held for one spec that nobody asks for any more."""
        with self._lock:
            self._held.pop(key, None)
        shutil.rmtree(self._directory / key, ignore_errors=True)

    def drop(self) -> None:
        """Forget everything: files and tails. What reads meanwhile fails or finds less."""
        with self._lock:
            self._held = {}
        shutil.rmtree(self._directory, ignore_errors=True)
        self._directory.mkdir(parents=True, exist_ok=True)

    def scan(self, key: SpecId) -> pl.LazyFrame:
        """Everything held for ``key``: FACTS of a spec, VOIDS of :data:`VOIDS_KEY`."""
        files, frames = self._all_held(key)
        scans = [pl.scan_parquet([file.path for file in files])] if files else []
        return _all(key, [*scans, *(frame.lazy() for frame in frames)])

    def any_held(self, key: SpecId, node: NodeId, *, first: int) -> bool:
        """Whether there may be a row of records from ``first`` on; nothing is read for it."""
        held = self.state(key, node)
        return bool(held.tail) or bool(held.files and held.files[-1].last >= first)

    def rows(self, key: SpecId, node: NodeId, *, first: int, last: int) -> pl.DataFrame:
        """What is held for records ``[first, last]`` of ``node``, unordered."""
        return self.stretch(key, node, first=first, last=last).collect()

    def stretch(self, key: SpecId, node: NodeId, *, first: int, last: int) -> pl.LazyFrame:
        """The same, not read yet."""
        held = self.state(key, node)
        files = [f.path for f in held.files if f.last >= first and f.first <= last]
        parts = [_empty(key).lazy(), *(frame.lazy() for frame in held.tail)]
        if files:
            parts.append(pl.scan_parquet(files))
        return pl.concat(parts).filter(pl.col("seq").is_between(first, last))

    def named(self, key: SpecId, node: NodeId, seqs: pl.Series) -> pl.DataFrame:
        """The facts of these records of ``node``, read from the files that they lie in."""
        if seqs.is_empty():
            return _empty(key)
        held, wanted = self.state(key, node), seqs.sort()
        files = [f.path for f in held.files if _any_between(wanted, f.first, f.last)]
        parts = [_empty(key).lazy(), *(frame.lazy() for frame in held.tail)]
        if files:
            parts.append(pl.scan_parquet(files))
        return pl.concat(parts).filter(pl.col("seq").is_in(wanted.implode())).collect()

    def sums(self, spans: pl.DataFrame, *, as_of: Micros) -> pl.DataFrame:
        """SUMS of ``spans``: see :class:`rating.ports.FactSource`."""
        parts = self._added(spans, as_of, extremes=False)
        return within_range(pl.concat([SUMS.to_frame(), *(p.select(list(SUMS)) for p in parts)]))

    def extremes(self, spans: pl.DataFrame, *, as_of: Micros) -> pl.DataFrame:
        """EXTREMES of ``spans``: see :class:`rating.ports.FactSource`."""
        parts = self._added(spans, as_of, extremes=True)
        return pl.concat([EXTREMES.to_frame(), *(part.select(list(EXTREMES)) for part in parts)])

    def _added(
        self, spans: pl.DataFrame, as_of: Micros, *, extremes: bool
    ) -> Iterator[pl.DataFrame]:
        """Spec by spec, EXTREMES (else SUMS) of its spans; no sum has wrapped.

        Where spans begin and end together, as billing periods do, facts are first added up by
        subject and by the piece of time between two bounds, in memory for the sums only.
        """
        if spans.is_empty():
            return
        gone = compensated(self.scan(VOIDS_KEY), as_of=as_of)
        for spec, own in _by_spec(spans):
            edges = edges_of(own)
            if len(edges) > EDGES_MAX:
                facts = standing(bounded(self.scan(spec), own), gone, as_of=as_of)
                yield summed(in_spans(facts, own), ("span", "dimensions"), extremes=extremes)
                continue
            totals = Totals(
                edges=edges, as_of=as_of, gone=gone, extremes=extremes, subjects=pushed(own)
            )
            yield combined(met(totals.of(*self._all_held(spec)), own, edges))

    def _all_held(self, key: SpecId) -> tuple[list[FactsFile], list[pl.DataFrame]]:
        """Files and frames of all nodes: one consistent view."""
        with self._lock:
            held = tuple(self._held.get(key, {}).values())
        files = [file for part in held for file in part.files]
        return files, [frame for part in held for frame in part.tail]

    def facts(self, spans: pl.DataFrame, *, as_of: Micros) -> pl.LazyFrame:
        """FACTS plus ``span``: see :class:`rating.ports.FactSource`."""
        parts = [in_spans(facts, own) for facts, own in self._counted(spans, as_of)]
        nothing = _empty(SpecId("")).with_columns(span=pl.lit(None, pl.Int64)).lazy()
        return pl.concat([nothing, *parts])

    def _counted(
        self, spans: pl.DataFrame, as_of: Micros
    ) -> Iterator[tuple[pl.LazyFrame, pl.DataFrame]]:
        """Spec by spec, the facts that count and may be in its spans, and these."""
        if spans.is_empty():
            return
        gone = compensated(self.scan(VOIDS_KEY), as_of=as_of)
        for spec, own in _by_spec(spans):
            yield standing(bounded(self.scan(spec), own), gone, as_of=as_of), own

    def _put(self, key: SpecId, node: NodeId, held: NodeFacts) -> None:
        with self._lock:
            self._held.setdefault(key, {})[node] = held


def _any_between(ordered: pl.Series, first: int, last: int) -> bool:
    return int(ordered.search_sorted(first)) < int(ordered.search_sorted(last, side="right"))


def _empty(key: SpecId) -> pl.DataFrame:
    return (VOIDS if key == VOIDS_KEY else FACTS).to_frame()


def _all(key: SpecId, parts: list[pl.LazyFrame]) -> pl.LazyFrame:
    """``parts`` as one; a scan by itself stays one, which streams twice as fast."""
    if len(parts) == 1:
        return parts[0]
    return pl.concat([_empty(key).lazy(), *parts])


def _by_spec(spans: pl.DataFrame) -> Iterable[tuple[SpecId, pl.DataFrame]]:
    for (spec,), own in spans.group_by("spec", maintain_order=True):
        yield SpecId(str(spec)), own
