"""The identity index beside a dictionary while time passes: exact for the window, no longer."""

from __future__ import annotations

from pathlib import Path

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from catalog.clock import DAY_US, FixedClock
from catalog.ids import Seq
from ingest.batch import to_records
from storage.log.identity_index import DiskIdentityIndex, IndexLimits
from storage.memory.files import SimFiles
from storage.memory.log import MemoryLog
from tests.log_samples import NODE, T0_US, events, identified

INDEX = Path("/log/index")
LIMITS = IndexLimits(table_rows=16, backlog_max=3)
WINDOW_DAYS = 4
SEGMENT_ROWS = 23


class CoarseLog(MemoryLog):
    """A log that finds its place in time by segments, as the one on disk does."""

    def seq_before(self, received_at: int) -> Seq:
        """The end of the last whole segment before the instant."""
        exact = super().seq_before(received_at)
        return Seq(exact - exact % SEGMENT_ROWS)


class WindowMachine(RuleBasedStateMachine):
    """Accepts what the index does not know, as a gateway does, and remembers when."""

    @initialize()
    def begin(self) -> None:
        """Open an empty index."""
        self.clock = FixedClock(T0_US)
        self.log = CoarseLog(NODE, self.clock)
        self.files = SimFiles()
        self.open()
        self.accepted: dict[int, tuple[int, int]] = {}

    def open(self) -> None:
        """The index as it comes back."""
        self.index = DiskIdentityIndex.open(
            INDEX,
            self.log,
            window_days=WINDOW_DAYS,
            files=self.files,
            limits=LIMITS,
            background=False,
        )

    @rule(start=st.integers(0, 80), count=st.integers(1, 40))
    def submit(self, start: int, count: int) -> None:
        """What was received within the window is known by its seq; the rest may be."""
        group = events(count, start=start)
        probed = self.index.probe(identified(self.index, group)).seq.tolist()
        now_us = max(self.clock.now_us(), self.log.last_received_at + 1)
        for number, found in enumerate(probed, start):
            seq, received_at = self.accepted.get(number, (0, 0))
            if seq and now_us - received_at <= WINDOW_DAYS * DAY_US:
                assert found == seq
            else:
                assert found in {0, seq}
        fresh = np.flatnonzero(np.array(probed) == 0).tolist()
        if not fresh:
            return
        appended = self.log.append(to_records(group[fresh]))
        self.log.sync()
        self.index.insert(
            identified(self.index, group[fresh]),
            first_seq=appended.first_seq,
            received_at=appended.received_at,
        )
        for place, row in enumerate(fresh):
            self.accepted[start + row] = (
                appended.first_seq + place,
                appended.received_at + place,
            )

    @rule(quarters=st.integers(1, 24))
    def wait(self, quarters: int) -> None:
        """Hours or days pass."""
        self.clock.set(self.clock.now_us() + quarters * DAY_US // 4)

    @rule()
    def maintain(self) -> None:
        """Write, expire and merge."""
        self.index.maintain()

    @rule(power_cut=st.booleans(), flush=st.booleans())
    def restart(self, *, power_cut: bool, flush: bool) -> None:
        """Open it again after a kill or a power cut."""
        if flush:
            self.index.maintain()
        self.files.restart(power_cut=power_cut)
        self.open()

    @rule()
    def lose_it(self) -> None:
        """Its files are gone: it is made again from the window's part of the log."""
        for name in self.files.names(INDEX):
            self.files.unlink(INDEX / name)
        self.open()


WindowMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=50, deadline=None)
TestTheWindow = pytest.mark.slow(WindowMachine.TestCase)
