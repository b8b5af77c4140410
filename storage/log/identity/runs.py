"""All runs of an index, looked up together, and which of them to merge."""

from __future__ import annotations

import numpy as np

from ingest.kernels import identities as kernels
from storage.log.identity.keys import Found, Keys
from storage.log.identity.run import PAIRS, SEQ_SPAN_MAX, Run, RunRange

FAN_IN = 4
RUN_ROWS_MAX = 1 << 26


class RunSet:
    """Runs in order of seq. Immutable; their filters are read where they are, in one gather."""

    def __init__(self, runs: tuple[Run, ...] = ()) -> None:
        self.runs = runs
        self._words = np.array([len(run.filter) for run in runs], np.uint64)
        self._filters = np.array([run.filter.ctypes.data for run in runs], np.int64)

    def probe(self, keys: Keys, found: Found) -> None:
        """Fill ``found`` for the rows that have nothing yet and are in a run."""
        if not self.runs:
            return
        room = len(keys.low) * len(self.runs) + 1
        rows, runs = np.empty(room, np.int64), np.empty(room, np.int64)
        filters = (self._filters, self._words)
        hits = kernels.bloom_hits(keys.low, keys.high, found.seq, *filters, PAIRS, rows, runs)
        for number in np.unique(runs[:hits]).tolist():
            self.runs[number].probe(keys, found, rows[:hits][runs[:hits] == number])

    def without(self, gone: tuple[Run, ...], *, instead: tuple[Run, ...] = ()) -> RunSet:
        """The set with ``gone`` replaced by ``instead``."""
        kept = [run for run in self.runs if run not in gone]
        return RunSet(tuple(sorted([*kept, *instead], key=lambda run: run.covers.first_seq)))

    def expired(self, horizon: int) -> tuple[Run, ...]:
        """The runs of which everything was received before ``horizon``."""
        return tuple(run for run in self.runs if run.covers.last_received_at < horizon)

    def to_merge(self, *, smallest: int, span_us_max: int, after: int = 0) -> tuple[Run, ...]:
        """Neighbours of about one size that are worth merging now; none when there are not.

        ``smallest`` is the size of a run as it is first written. Runs never span more than
        ``span_us_max`` of receipt, so that whole runs leave the window soon enough. Only runs
        behind the record ``after`` are looked at.
        """
        runs = [run for run in self.runs if run.covers.first_seq > after]
        for at in range(len(runs) - FAN_IN + 1):  # oldest first, or one is left behind
            group = tuple(runs[at : at + FAN_IN])
            tiers = {_tier(run.count, smallest) for run in group}
            if len(tiers) == 1 and _may_merge(group, span_us_max):
                return group
        return ()


def _tier(count: int, smallest: int) -> int:
    """0 for a run as first written, one more for every factor of FAN_IN."""
    return max(0, (max(1, count // smallest).bit_length() - 1) // (FAN_IN.bit_length() - 1))


def covering(runs: tuple[Run, ...]) -> RunRange:
    """What a merged run covers."""
    ranges = [run.covers for run in runs]
    return RunRange(
        first_seq=ranges[0].first_seq,
        last_seq=ranges[-1].last_seq,
        first_received_at=ranges[0].first_received_at,
        last_received_at=ranges[-1].last_received_at,
    )


def _may_merge(runs: tuple[Run, ...], span_us_max: int) -> bool:
    covers = covering(runs)
    return (
        sum(run.count for run in runs) <= RUN_ROWS_MAX
        and covers.last_seq - covers.first_seq < SEQ_SPAN_MAX
        and covers.last_received_at - covers.first_received_at <= span_us_max
    )
