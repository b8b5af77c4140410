"""The copies reader: finds the copies that no gateway could see, and says of each that it is out.

It reads all logs as one, in order of receipt and never past the watermark, so that what it writes
depends on the logs alone and not on when they were read. One log by itself holds no copies within
the window, as its gateway refuses them: identities are remembered here only from the second log on.
What comes back after the window is looked for among events of its own time day.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from api.readers.base import Pace, Reader
from api.readers.copy_search import CopySearch
from api.readers.earlier import Earlier, SealedTail
from api.readers.merged import Stretch, next_stretch
from api.readers.pages import Gathering
from catalog.clock import Clock, Micros
from catalog.events import RecordKind
from catalog.ids import NodeId, Seq
from ingest.copies import Copied, Place
from ingest.ports import LogUnavailable
from storage.copies.days import DayFiles
from storage.copies.log import CompensationLog, CompensationsAhead, Known, Out
from storage.copies.names import renewed

NOTE_RECORDS = 250_000
"""Where nothing is found the position is written this often: so much is read again at a start."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CopiesHome:
    """Where things are: the nodes' directories, and what is remembered beside them.

    ``node`` names the log of compensations. ``scratch`` may be removed at any time: it is made
    from the logs.
    """

    nodes: Path
    node: NodeId
    scratch: Path
    clock: Clock
    window_us: int


class CopiesReader(Reader):
    """Follows every gateway's log into the log of compensations.

    ``tails`` are the gateways' logs; ``earlier`` the same for looking back. ``watermark`` says up
    to where all of them are complete, null: as far as they go (nobody writes any more).
    ``opened`` says whether a node's log is as its gateway has recovered it: after a power cut its
    mark may be an older one until then.
    """

    def __init__(
        self,
        *,
        home: CopiesHome,
        tails: Callable[[], Mapping[NodeId, SealedTail]],
        earlier: Callable[[], Mapping[NodeId, SealedTail]],
        watermark: Callable[[], Micros | None],
        opened: Callable[[NodeId], bool] = lambda _: True,
        pace: Pace | None = None,
    ) -> None:
        super().__init__(name="copies", tails=tails, pace=pace or Pace(poll_s=0.01))
        self._gathering = Gathering(rows=self.pace.rows_max, age_s=self.pace.gather_s)
        self._home = home
        self.node = home.node
        self._logs = tails
        self._watermark = watermark
        self._opened_by_gateway = opened
        self._search = CopySearch(
            earlier=Earlier(tails=earlier, days=DayFiles(home.scratch / "days")),
            directory=home.scratch / "seen",
            window_us=home.window_us,
        )
        self._log: CompensationLog | None = None
        self._positions: dict[NodeId, Seq] = {}
        self._through = Micros(0)
        self._unnoted = 0

    @property
    def through(self) -> Micros:
        """Every record received up to here has been looked at."""
        return self._through

    def positions(self) -> dict[NodeId, Seq]:
        """The last record looked at, by node."""
        return dict(self._positions)

    def reach(self) -> dict[NodeId, Seq]:
        """The last record to look at now: what is behind the watermark may still have siblings."""
        watermark = self._watermark()
        if watermark is not None and self._through >= watermark:
            return self.positions()
        return super().reach()

    def covered(self, as_of: Micros) -> bool:
        """Whether every copy received up to ``as_of`` is among the compensations."""
        if self._through >= as_of:
            return True
        self._gathering.ask()
        self.wake()
        return False

    def step(self) -> bool:
        """Look at the next stretch of all logs."""
        with self._gathering.turn():
            log, tails = self._opened(), self._logs()
            waiting = sum(t.durable().seq - self._positions.get(n, 0) for n, t in tails.items())
            if not self._gathering.is_due(self.node, waiting=waiting):
                return False
            self._gathering.taken(self.node)
            return self._look(log, tails)

    def _look(self, log: CompensationLog, tails: Mapping[NodeId, SealedTail]) -> bool:
        self._search.prepare(
            list(tails), log.known, through=self._through, positions=self._positions
        )
        stretch = self._next(tails)
        events = stretch.records.filter(pl.col("kind") == RecordKind.EVENT.value)
        copied = self._search.copies(events, self._positions) if events.height else []
        outs = _outs(copied, stretch.records, log.known)
        self._unnoted += stretch.records.height
        try:
            if outs or self._unnoted >= NOTE_RECORDS:
                through = max(self._through, stretch.through)
                log.write(outs, positions=stretch.positions, through=through)
                self._unnoted = 0
            self._search.remember(events, copied)
        except BaseException:
            self.close()  # what was written and remembered is uncertain: the logs tell
            raise
        self._positions = dict(stretch.positions)
        self._through = max(self._through, stretch.through)
        return bool(stretch.records.height)

    def stop(self, *, timeout_s: float = 30.0) -> None:
        """End the loop and release the log."""
        super().stop(timeout_s=timeout_s)
        self.close()

    def close(self) -> None:
        """Release the log; the next step opens it again."""
        if self._log is not None:
            self._log.close()
            self._log = None

    def drop(self) -> None:
        """Forget every compensation. Only while the loop is paused; who follows must begin anew."""
        self.close()
        shutil.rmtree(self._home.nodes / self.node, ignore_errors=True)
        self.node = renewed(self.node)
        shutil.rmtree(self._home.scratch, ignore_errors=True)
        self._positions, self._through = {}, Micros(0)
        self._gathering.clear()

    def _opened(self) -> CompensationLog:
        if self._log is None:
            home = self._home
            log = CompensationLog.open(home.nodes / self.node, self.node, clock=home.clock)
            known = log.known
            try:
                self._check_behind(known.positions)
            except BaseException:
                log.close()  # the next step checks again, instead of reading from the beginning
                raise
            self._log = log
            self._positions, self._through = dict(known.positions), known.through
            self._search.forget()
            self._unnoted = 0
        return self._log

    def _check_behind(self, positions: Mapping[NodeId, Seq]) -> None:
        tails = self._logs()
        for node, seq in positions.items():
            tail = tails.get(node)
            if tail is not None and tail.durable().seq >= seq:
                continue
            looked = f"copies were looked for up to record {seq} of {node}"
            if tail is not None and not self._opened_by_gateway(node):
                raise LogUnavailable(f"{looked}, whose gateway has not opened its log yet")
            if tail is None or tail.durable().seq < seq:  # it may just have been opened
                raise CompensationsAhead(f"{looked}, whose log ends before; rebuild copies")

    def _next(self, tails: Mapping[NodeId, SealedTail]) -> Stretch:
        watermark = self._watermark()
        if watermark is None:
            watermark = max((t.durable().received_at for t in tails.values()), default=Micros(0))
        return next_stretch(
            tails,
            self._positions,
            until=watermark,
            rows_max=self.pace.rows_max,
            era_us=self._home.window_us,
        )


def _outs(copied: Sequence[Copied], records: pl.DataFrame, known: Known) -> list[Out]:
    """What a stretch puts out, each event once, in order of the instant it holds from."""
    outs = [_collapsed(one) for one in copied]
    counted = {one.copy.place: one.counted.place for one in copied}
    void = set[Place]()
    for out in _voids(records):
        place = counted.get(out.place) or known.copies.get(out.place) or out.place
        if place not in known.voids and place not in void:
            void.add(place)
            outs.append(out._replace(place=place))
    return sorted(outs, key=lambda out: out.since)


def _collapsed(one: Copied) -> Out:
    return Out(
        cause=RecordKind.COLLAPSED,
        identity=one.copy.identity,
        place=one.copy.place,
        since=one.copy.received_at,
        counted=one.counted.place,
        conflict=one.conflict,
    )


def _voids(records: pl.DataFrame) -> Iterator[Out]:
    """The voids as the gateways wrote them: of whatever copy they knew."""
    voids = records.filter(
        pl.col("kind") == RecordKind.VOID.value, pl.col("target").is_not_null()
    ).select(
        pl.col("source").fill_null(""),
        pl.col("id").fill_null(""),
        pl.col("type").fill_null(pl.col("node")),
        "target",
        pl.col("received_at").dt.epoch("us"),
    )
    for source, event_id, node, seq, since in voids.iter_rows():
        place = Place(node, seq)
        yield Out(cause=RecordKind.VOID, identity=(source, event_id), place=place, since=since)
