"""A business on the real components, moved forward step by step: log, facts, statements, rating.

Nothing is faked but the clock. ``World`` is what a gateway and a worker have between them, in one
process: events are committed to a node's log on disk, the reader extracts facts, documents are
applied to SQLite, and totals are asked of :class:`api.totals.RatedTotals` as the routes do.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self
from zoneinfo import ZoneInfo

from api.editing import Editor
from api.freshness import Freshness
from api.models.catalog import ApplyRequest
from api.readers.facts import FactsReader
from api.readers.sealing import Sealer
from api.readers.tails import LogTails
from api.specs import SpecsEver
from api.totals import Question, RatedTotals, Totals
from catalog.clock import FixedClock, LogicalClock, Micros
from catalog.errors import DomainError
from catalog.ids import NodeId
from catalog.periods import PeriodSpec
from ingest.batch import Body, IngestLimits
from ingest.commit import Ingestor
from ingest.decode import decode
from ingest.validate import Standard, validate
from ingest.values import IngestRules
from ingest.voids import VoidItem
from rating.rendering import as_csv, checksum
from rating.support import unsupported
from storage.log.home import LogLimits
from storage.log.identity_index import DiskIdentityIndex
from storage.log.node_log import NodeLog
from storage.parquet.facts import ParquetFacts
from storage.sql.database import open_database
from storage.sql.statements import StatementStore

NODE = NodeId("n1")


@dataclass(frozen=True)
class Answer:
    """What was told: the bytes finance gets, or the error that was the answer."""

    as_of: Micros
    checksum: str
    csv: bytes


async def _no_heartbeats() -> None:
    """For questions from another event loop: what was acknowledged is durable already."""


class World:
    """One deployment in one process; use as a context manager."""

    def __init__(self, directory: Path, *, now_us: int) -> None:
        self.machine = FixedClock(now_us)
        self.clock = LogicalClock(self.machine)
        self._runner = asyncio.Runner()
        self._nodes, self._facts_directory = directory / "nodes", directory / "facts"
        self._database = open_database(f"sqlite:///{directory}/catalog.sqlite")
        self.statements = StatementStore(self._database, self.clock, ZoneInfo("UTC"))
        self.editor = Editor(
            self.statements, clock=self.clock, unsupported=unsupported, answered=self._newest
        )
        self.log = NodeLog.open(
            self._nodes / NODE, node=NODE, clock=self.clock, limits=LogLimits(hot_bytes_max=4_000)
        )
        self._index = DiskIdentityIndex.open(self._nodes / NODE / "index", self.log)
        self._ingestor = self._runner.run(self._started())
        self.restart_readers()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._runner.run(self._ingestor.close())
        self._index.close()
        self.log.close()
        self._database.close()
        self._runner.close()

    def restart_readers(self, *, drop: bool = False) -> None:
        """As after a crash of the worker: what was in memory is gone; ``drop`` all facts."""
        tails = LogTails(self._nodes, lambda: [NODE])
        facts = ParquetFacts(self._facts_directory)
        if drop:
            facts.drop()
        self.reader = FactsReader(tails=tails, specs=SpecsEver(self.statements), facts=facts)
        self._sealer = Sealer(tails=tails)
        self.facts, self.specs = facts, SpecsEver(self.statements)
        self.settling = Freshness(
            watermark_tails=tails, positions=self.reader, heartbeats=_no_heartbeats
        )
        fresh = Freshness(watermark_tails=tails, positions=self.reader, heartbeats=self._beat)
        self.totals = RatedTotals(catalogs=self.statements, source=facts, freshness=fresh)

    def forward(self, micros: int) -> None:
        """Let time pass."""
        self.machine.set(self.machine.now_us() + micros)

    def send(self, events: Sequence[Mapping[str, Any]]) -> int:
        """Post events; how many were accepted."""
        body = Body(content=json.dumps(events).encode(), content_type="application/json")
        standard = Standard(
            limits=IngestLimits(),
            rules=IngestRules.from_catalog(self.statements.current()),
            now_us=self.clock.now_us(),
        )
        outcome = self._runner.run(self._ingestor.submit(validate(decode(body), standard)))
        return outcome.accepted

    def void(self, source: str, id_: str) -> int:
        """Void one event; 1 if it was there and not void yet."""
        item = VoidItem(index=0, source=source, id=id_, reason="")
        return self._runner.run(self._ingestor.void([item])).voided

    def apply(self, document: Mapping[str, Any]) -> None:
        """Apply a document."""
        self.editor.apply(ApplyRequest(document=document), actor=None)
        self.clock.observe(self.statements.current().recorded_at)

    def seal(self) -> None:
        """Let the sealer and the facts reader do all there is to do."""
        while self._sealer.step() or self.reader.step():
            pass

    def ask(self, period: str, as_of: Micros | None = None) -> Answer:
        """The totals of a period; an error is an answer too, as long as it stays the same."""
        question = Question(period=PeriodSpec.parse(period), as_of=as_of)
        while self.reader.step():
            pass
        try:
            totals: Totals = self._runner.run(self._asked(question))
        except DomainError as error:
            return Answer(as_of=as_of or self._newest(), checksum=error.code, csv=b"")
        return Answer(as_of=totals.as_of, checksum=checksum(totals.lines), csv=as_csv(totals.lines))

    def explained(self, period: str, as_of: Micros) -> list[dict[str, Any]]:
        """Every line of the period, explained as of an instant."""
        question = Question(period=PeriodSpec.parse(period), as_of=as_of)
        lines = self._runner.run(self._asked(question)).lines["line_id"]
        told = (self._runner.run(self.totals.explain(line, as_of=as_of)) for line in lines)
        return [explanation.as_dict() for explanation, _ in told]

    async def _asked(self, question: Question) -> Totals:
        settling = asyncio.ensure_future(self.totals.ask(question))
        while not settling.done():
            if not await asyncio.to_thread(self.reader.step):
                await asyncio.sleep(0.002)
        return await settling

    async def _started(self) -> Ingestor:
        return Ingestor(
            log=self.log, index=self._index, reader=self.log, between=self.log.roll_if_due
        )

    async def _beat(self) -> None:
        await self._ingestor.heartbeat()

    def _newest(self) -> Micros:
        return Micros(self.log.durable.received_at)
