"""A gateway's process: the real log, index and group commit on the simulated disk."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from catalog.clock import DAY_US, FixedClock
from catalog.ids import NodeId
from ingest.batch import Body, IngestLimits
from ingest.commit import Backpressure, Ingestor
from ingest.ports import LogUnavailable
from ingest.scan import BodyReader, plain_body
from ingest.values import IngestRules
from storage.log.home import LogLimits
from storage.log.identity.checkpoint import CHECKPOINT_NAME, NoCheckpoint, read_checkpoint
from storage.log.identity_index import DiskIdentityIndex, IndexLimits
from storage.log.node_log import NodeLog
from storage.memory.files import PowerCut
from tests.simulation.files import Disk, ProcessFiles, Rates
from tests.simulation.loop import SteppedLoop

LIMITS = IngestLimits(queue_events_max=40, group_events_max=12)


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewaySettings:
    """How one node is set up."""

    home: Path
    window_days: int
    log: LogLimits
    index: IndexLimits


class Interleaved:
    """The index's own thread, which may come in between any two lines once a table is full."""

    def __init__(self, index: DiskIdentityIndex, disk: Disk, seen: Counter[str]) -> None:
        self._index = index
        self._disk = disk
        self._seen = seen

    def wake(self) -> None:
        """Work at once, or later in a step of its own."""
        if self._disk.chance.random() < 0.5:
            self._seen["index maintained inside of a group"] += 1
            with suppress(OSError):
                self._index.maintain()


class Gateway:
    """One node. It is started, dies and is started again; the disk and the clock stay."""

    def __init__(
        self, name: str, settings: GatewaySettings, *, loop: SteppedLoop, clock: FixedClock
    ) -> None:
        self.name = NodeId(name)
        self.settings = settings
        self.directory = settings.home / name
        self.running = False
        self._loop = loop
        self._clock = clock
        self._waiting: dict[asyncio.Task[Any], Callable[[Any], None]] = {}

    def start(self, disk: Disk, rates: Rates, seen: Counter[str]) -> bool:
        """Recover and serve; whether it came up. A :class:`PowerCut` is the process's own end."""
        self.files = ProcessFiles(disk, rates)
        checkpoint = self._checkpoint(disk)
        try:
            self.log = NodeLog.open(
                self.directory,
                node=self.name,
                clock=self._clock,
                files=self.files,
                limits=self.settings.log,
            )
            self.index = DiskIdentityIndex.open(
                self.log.index_directory,
                self.log,
                window_days=self.settings.window_days,
                files=self.files,
                limits=self.settings.index,
                background=False,
            )
        except (LogUnavailable, PowerCut) as error:
            seen[f"start failed: {type(error).__name__}"] += 1
            self.files.die()
            return False
        except BaseException:
            self.files.die()
            raise
        self._note(checkpoint, seen)
        self.index._background = Interleaved(self.index, disk, seen)
        bodies = BodyReader(limits=LIMITS, rules=IngestRules, clock=self._clock)
        self.bodies = bodies
        self.ingestor = Ingestor(
            log=self.log,
            index=self.index,
            reader=self.log,
            bodies=bodies,
            limits=LIMITS,
            between=self.log.roll_if_due,
        )
        self.running = True
        return True

    def _checkpoint(self, disk: Disk) -> tuple[int, int] | str | None:
        """The key of the index's checkpoint; None without one, "bad" where it is no use."""
        directory = self.directory / "index"
        if CHECKPOINT_NAME not in disk.names(directory):
            return None
        try:
            return read_checkpoint(directory, node=self.name, files=disk).key
        except NoCheckpoint:
            return "bad"

    def _note(self, checkpoint: tuple[int, int] | str | None, seen: Counter[str]) -> None:
        recovered = self.log.recovered
        seen["torn tail cut"] += bool(recovered.cut_bytes)
        seen["durable without a mark"] += bool(recovered.unmarked_records)
        key = tuple(map(int, self.index.key))
        seen["checkpoint discarded"] += checkpoint is not None and checkpoint != key
        seen["checkpoint used"] += checkpoint == key

    # -- requests --------------------------------------------------------------------------

    def request(self, made: Coroutine[Any, Any, Any], answer: Callable[[Any], None]) -> None:
        """Begin a request; ``answer`` gets its outcome or its error, or None if nobody answers."""
        self._waiting[self._loop.create_task(made)] = answer
        self._loop.settle()

    def body(self, text: bytes) -> Any:
        """A JSON body, plain or not."""
        body = Body(content=text, content_type="application/json")
        return plain_body(body) or self.bodies.read(body)

    @property
    def requests(self) -> int:
        """How many wait for an answer."""
        return len(self._waiting)

    def deliver(self) -> bool:
        """Hand out what was answered; whether the process lives on."""
        self._loop.settle()
        if self.files.dead or self.files.disk.is_off:
            return False
        for task in [task for task in self._waiting if task.done()]:
            answer = self._waiting.pop(task)
            error = None if task.cancelled() else task.exception()
            if isinstance(error, PowerCut):
                answer(None)
                return False
            answer(error if error is not None else task.result())
        return True

    def died(self) -> None:
        """The process ended, however: nobody gets an answer, nothing of it goes on."""
        self.files.die()
        self.running = False
        self._loop.calls = [
            call for call in self._loop.calls if call.owner is not self.ingestor._thread
        ]
        for task in [*self._waiting, self.ingestor._task]:
            if task is not None:
                task.cancel()
        self._loop.settle()
        for task in [*self._waiting, self.ingestor._task]:
            if task is not None and task.done() and not task.cancelled():
                task.exception()
        for answer in self._waiting.values():
            answer(None)
        self._waiting.clear()

    @property
    def failed(self) -> bool:
        """Whether it takes nothing more, and has to be started again."""
        return self.log._broken is not None or self.ingestor._failure is not None

    def calls(self) -> list[Any]:
        """What waits for its thread, or to be told of."""
        return [call for call in self._loop.calls if call.owner is self.ingestor._thread]


def limits(window_days: int, table_rows: int, hot_bytes: int, home: Path) -> GatewaySettings:
    """Small files and tables, so that little is needed to fill them."""
    return GatewaySettings(
        home=home,
        window_days=window_days,
        log=LogLimits(hot_bytes_max=hot_bytes, hot_age_us_max=DAY_US),
        index=IndexLimits(table_rows=table_rows, backlog_max=2),
    )


def unheard(outcome: Any) -> None:
    """For whom the answer does not matter, unless it is a bug."""
    if not isinstance(outcome, int | LogUnavailable | Backpressure | None):
        raise outcome
