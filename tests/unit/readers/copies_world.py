"""Some gateways' logs on a real disk and the copies reader over them, with a plain model beside."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import polars as pl
import pytest

from api.readers.base import Pace
from api.readers.copies import CopiesHome, CopiesReader
from api.readers.tails import LogTails, gateways_on_disk, nodes_on_disk
from catalog.clock import DAY_US, SECOND_US, FixedClock, Micros
from catalog.events import RecordKind
from catalog.ids import NodeId
from ingest.batch import APPENDED, to_records
from ingest.ports import LogUnavailable
from storage.copies.log import Out, outs_in
from storage.copies.names import compensations_node
from storage.log.files import OsFile
from storage.log.follower import LogFollower
from storage.log.home import LogLimits
from storage.log.node_log import NodeLog

T0_US = 1_767_225_600 * SECOND_US
Place = tuple[str, int]


class World:
    """Nodes ``n1``… with one clock. Whatever is appended is durable at once."""

    def __init__(self, home: Path, nodes: int, *, window_us: int = 3 * DAY_US) -> None:
        self.home = home
        self.window_us = window_us
        self.clock = FixedClock(T0_US)
        self.logs: dict[str, NodeLog] = {}
        for number in range(1, nodes + 1):
            self.add_node(f"n{number}")
        self.rows_max = 50
        self.start()

    def add_node(self, name: str) -> None:
        """One more gateway's log."""
        self.logs[name] = NodeLog.open(
            self.home / "nodes" / name,
            node=NodeId(name),
            clock=self.clock,
            limits=LogLimits(hot_bytes_max=2_000),
        )

    def start(self, *, opened: Callable[[NodeId], bool] = lambda _: True) -> None:
        """A reader that knows nothing but what is on disk."""
        nodes = self.home / "nodes"
        self.reader = CopiesReader(
            home=CopiesHome(
                nodes=nodes,
                node=compensations_node(nodes_on_disk(nodes), prefix="n"),
                scratch=self.home / "copies",
                clock=self.clock,
                window_us=self.window_us,
            ),
            tails=LogTails(nodes, lambda: gateways_on_disk(nodes)),
            earlier=LogTails(nodes, lambda: gateways_on_disk(nodes)),
            watermark=self.watermark,
            opened=opened,
            pace=Pace(rows_max=self.rows_max),
        )

    def restart(self, *, opened: Callable[[NodeId], bool] = lambda _: True) -> None:
        """The worker ends, however, and is started again."""
        self.reader.close()
        self.start(opened=opened)

    def watermark(self) -> Micros:
        """Up to where every log is complete."""
        return Micros(min(log.durable.received_at for log in self.logs.values()))

    def append(self, node: str, *rows: dict[str, object]) -> list[int]:
        """Append one frame to a node's log; the seqs it got."""
        appended = self.logs[node].append(to_records(pl.DataFrame(list(rows), schema=APPENDED)))
        self.logs[node].sync()
        self.logs[node].roll_if_due()
        return list(range(appended.first_seq, appended.first_seq + appended.count))

    def beat(self) -> None:
        """A heartbeat from every node, so that the watermark is past all there is."""
        self.clock.set(self.clock.now_us() + SECOND_US)
        for node in self.logs:
            self.append(node, {"kind": RecordKind.HEARTBEAT.value})

    def seal(self) -> None:
        """Seal what is closed."""
        for node in self.logs:
            LogFollower(self.home / "nodes" / node, NodeId(node)).seal_closed()

    def settle(self) -> None:
        """Step until there is nothing to do."""
        while self.reader.step():
            pass

    def settle_failing(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Step once with a disk that takes the bytes and then fails to sync them."""
        with monkeypatch.context() as patched:
            patched.setattr(OsFile, "fdatasync", _refuse)
            with pytest.raises(LogUnavailable):
                self.reader.step()

    def outs(self) -> list[Out]:
        """Everything that was written, in order."""
        name = self.reader.node
        follower = LogFollower(self.home / "nodes" / name, name)
        found: list[Out] = []
        seq = 0
        while (records := follower.read_after(seq, rows_max=1_000)).height:
            found += outs_in(records)
            seq = int(records["seq"][-1])
        return found

    def records(self) -> list[dict]:
        """Every record of every log in order of receipt."""
        parts = [RECORDS_WITH_NODE]
        for node, log in self.logs.items():
            seq = 0
            while (records := log.read_after(seq, rows_max=10_000)).height:
                parts.append(
                    records.with_columns(node=pl.lit(node)).select(RECORDS_WITH_NODE.columns)
                )
                seq = int(records["seq"][-1])
        return pl.concat(parts).sort("received_at", "node", "seq").to_dicts()


def _refuse(_: object) -> None:
    raise OSError(5, "refused")


RECORDS_WITH_NODE = pl.DataFrame(
    schema={"seq": pl.Int64, "received_at": pl.Datetime("us", "UTC"), **APPENDED, "node": pl.String}
)


def event(name: str, *, time_us: int | None = None, data: str = "{}") -> dict[str, object]:
    """An event of one source, with or without a time of its own."""
    time = None if time_us is None else pl.Series([time_us]).cast(pl.Datetime("us", "UTC"))[0]
    return {
        "kind": RecordKind.EVENT.value,
        "source": "s",
        "id": name,
        "type": "call",
        "subject": "acme",
        "time": time,
        "time_given": time_us is not None,
        "data": data,
    }


def void(name: str, target: int) -> dict[str, object]:
    """The void of an event of the same log."""
    row = {"kind": RecordKind.VOID.value, "source": "s", "id": name, "target": target}
    return row | {"data": '{"reason":""}'}


def out_by_hand(records: Iterable[dict], *, window_us: int) -> tuple[set[Place], set[Place]]:
    """What is collapsed and what is void, by the rule as one would say it. Quadratic."""
    counted: list[dict] = []
    instead: dict[Place, Place] = {}
    void_places: set[Place] = set()
    for record in records:
        place = record["node"], record["seq"]
        if record["kind"] == RecordKind.EVENT:
            for other in counted:
                same = (other["source"], other["id"]) == (record["source"], record["id"])
                near = (record["received_at"] - other["received_at"]).total_seconds() * 1e6
                if same and (near <= window_us or other["time"].date() == record["time"].date()):
                    instead[place] = other["node"], other["seq"]
                    break
            else:
                counted.append(record)
        elif record["kind"] == RecordKind.VOID:
            target = record["node"], record["target"]
            void_places.add(instead.get(target, target))
    return set(instead), void_places
