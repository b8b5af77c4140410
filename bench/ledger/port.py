"""The ledger at its port, without HTTP or a log: one hot account, and filling all of them anew."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import hiredis
import msgspec
import polars as pl
import redis
import uvloop

from bench.gate import expect
from bench.pairing import interleave, middle
from bench.processes import Process, on_core
from bench.registry import Context, Measured
from catalog.clock import Micros, to_datetime
from catalog.events import INSTANT, RECORDS, RecordKind
from entitlements.ports import Demand, Ending, Ledger, Verdict
from storage.redis import spelling
from storage.redis.ledger import RedisLedger
from storage.redis.link import Address
from storage.redis.scripts import (
    CONFIRM,
    END,
    STATE,
    account_keys,
    end_arguments,
    end_keys,
    record_key,
    watermark_of,
)
from storage.redis.valkey import answers, valkey_command
from storage.redis.writer import RedisLedgerWriter
from tests.ledger_world import TOKENS, World, catalog, contract, right

WORKERS = 256
PIPELINE = 256
AMPLE = "1000000000000"


@contextlib.contextmanager
def running_valkey(context: Context) -> Iterator[Path]:
    """A private server on the load generator's core; its socket."""
    path = context.scratch / "v.sock"
    argv = valkey_command(path, memory_max="8gb")
    with Process(argv, core=context.load_core, log=context.scratch / "valkey.log") as process:
        process.wait_until(lambda: answers(path), what="a ledger")
        yield path


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """A reserve and its settle as decisions make them: what every round repeats by other names."""

    reserve: Demand
    settle: Ending

    def numbered(self, name: str) -> tuple[Demand, Ending]:
        """The same under another key and reservation."""
        assert self.reserve.hold is not None
        hold = msgspec.structs.replace(self.reserve.hold, key=f"k-{name}", id=f"r-{name}")
        reserve = msgspec.structs.replace(self.reserve, hold=hold)
        return reserve, msgspec.structs.replace(self.settle, reservation=f"r-{name}")


class Watched:
    """A ledger that remembers what it was asked last; everything else is the ledger's."""

    def __init__(self, ledger: RedisLedger) -> None:
        self._ledger = ledger
        self.demands: list[Demand] = []
        self.endings: list[Ending] = []

    def __getattr__(self, name: str) -> object:
        return getattr(self._ledger, name)

    async def decide_all(self, demands: Sequence[Demand]) -> list[Verdict | None]:
        """Remember, and decide."""
        self.demands += demands
        return await self._ledger.decide_all(demands)

    async def decide(self, demand: Demand) -> Verdict:
        """Remember, and decide."""
        self.demands.append(demand)
        return await self._ledger.decide(demand)

    async def end(self, ending: Ending) -> Verdict:
        """Remember, and end."""
        self.endings.append(ending)
        return await self._ledger.end(ending)


class HotAccount:
    """One customer's account under reserve and settle, by the port and by the bare script."""

    def __init__(self, path: Path, ledger: Ledger, pair: Pair, *, pairs: int) -> None:
        self.pairs = pairs
        self._path = path
        self._ledger = ledger
        self._pair = pair
        self._round = 0

    def _names(self) -> list[str]:
        self._round += 1
        return [f"{self._round}-{number}" for number in range(self.pairs)]

    async def ours(self) -> float:
        """Operations a second at the port: each of many callers reserves, then settles."""
        waiting = iter(self._names())
        allowed = 0

        async def call() -> None:
            nonlocal allowed
            for name in waiting:
                reserve, settle = self._pair.numbered(name)
                held = await self._ledger.decide(reserve)
                assert held.record is not None
                self._ledger.confirm(reserve.customer, held.record)  # as if it were durable now
                ended = await self._ledger.end(settle)
                allowed += held.allowed + ended.allowed

        began_s = time.perf_counter()
        await asyncio.gather(*(call() for _ in range(WORKERS)))
        taken_s = time.perf_counter() - began_s
        expect("allowed at the port", seen=allowed, wanted=2 * self.pairs)
        return 2 * self.pairs / taken_s

    def bare(self) -> float:
        """The same commands, spelled before, sent in pipelines by a client that counts replies."""
        with redis.Redis(unix_socket_path=str(self._path), decode_responses=True) as client:
            epoch, mark = client.hmget(STATE, "epoch", "watermark")  # type: ignore[misc]
        lapse = watermark_of(mark)
        pairs = [self._pair.numbered(name) for name in self._names()]
        commands = [spelling.decide(reserve, epoch=epoch, lapse=lapse) for reserve, _ in pairs]
        commands += [_confirmed(reserve, epoch) for reserve, _ in pairs]
        commands += [_ended(settle, epoch, lapse) for _, settle in pairs]
        taken_s, replies = _pipelined(self._path, commands)
        allowed = sum(isinstance(r, list) and r[:2] == [b"decided", b"1"] for r in replies)
        expect("allowed by the scripts", seen=allowed, wanted=2 * self.pairs)
        return 2 * self.pairs / taken_s


def _confirmed(reserve: Demand, epoch: str) -> bytes:
    assert reserve.hold is not None
    customer, hold = reserve.customer, reserve.hold
    keys = [*account_keys(customer), record_key(customer, hold.key)]
    return hiredis.pack_command(("EVALSHA", CONFIRM.sha, len(keys), *keys, epoch, hold.id))


def _ended(settle: Ending, epoch: str, lapse: Micros) -> bytes:
    keys, arguments = end_keys(settle), end_arguments(settle, lapse=lapse)
    return hiredis.pack_command(("EVALSHA", END.sha, len(keys), *keys, epoch, *arguments))


def _pipelined(path: Path, commands: Sequence[bytes]) -> tuple[float, list[list[bytes]]]:
    """Seconds, and the replies: as many commands under way as a pipeline holds."""
    parts = [b"".join(commands[at : at + PIPELINE]) for at in range(0, len(commands), PIPELINE)]
    replies: list[list[bytes]] = []
    reader = hiredis.Reader()
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(str(path))
        began_s = time.perf_counter()
        for number, part in enumerate(parts):
            connection.sendall(part)
            due = min(len(commands), (number + 1) * PIPELINE)
            while len(replies) < due:
                reader.feed(connection.recv(1 << 18))
                while (reply := reader.gets()) is not False:
                    replies.append(reply)
        return time.perf_counter() - began_s, replies


def measure_hot(context: Context) -> Measured:
    """Reserves and settles of one account a second, at the port and by the bare script."""
    pairs = context.size(50_000, 10_000)
    with (
        running_valkey(context) as path,
        on_core(context.core),
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
    ):
        ledger = RedisLedger(Address(path=str(path)), timeout_s=30)
        pair = runner.run(_prepared(path, ledger))
        hot = HotAccount(path, ledger, pair, pairs=pairs)
        paired = interleave(
            lambda _: runner.run(hot.ours()), lambda _: hot.bare(), rounds=context.rounds
        )
        runner.run(ledger.close())
    return Measured(
        unit="operations/s",
        paired=paired,
        method={
            "operations": f"{pairs:,} reserves a side and round, each confirmed and settled",
            "ours": f"{WORKERS} callers at the port, one after the other each; uvloop",
            "bare": f"commands spelled before, pipelines of {PIPELINE}, replies counted (what "
            "redis-benchmark does; it does not come with the server here)",
            "pinning": f"client on core {context.core}, Valkey on {context.load_core}",
        },
    )


async def _prepared(path: Path, ledger: RedisLedger) -> Pair:
    """Fill the account, and see what a reserve and a settle ask of the port."""
    await ledger.start()
    watched = Watched(ledger)
    writer = RedisLedgerWriter(f"unix://{path}")
    state = catalog(contract("k", right(amount=AMPLE)))
    world = World(ledger=watched, writer=writer, state=state)  # type: ignore[arg-type]
    world.follow()
    await world.refresh()
    reserved = await world.reserve((TOKENS, "1"))
    await world.settle(reserved, (TOKENS, "1"))
    writer.close()
    return Pair(reserve=watched.demands[-1], settle=watched.endings[-1])


def measure_rebuild(context: Context) -> Measured:
    """Balances filled a minute after FLUSHALL, from a log with an event for each."""
    customers = context.size(200_000, 20_000)
    with running_valkey(context) as path, on_core(context.core):
        names = [f"c{number}" for number in range(customers)]
        contracts = [contract(f"k-{name}", right(amount=AMPLE), customer=name) for name in names]
        state = catalog(*contracts, customers={name: (name,) for name in names})
        writer = RedisLedgerWriter(f"unix://{path}")
        world = World(ledger=RedisLedger(Address(path=str(path))), writer=writer, state=state)
        world.tail.records = _used(world, names)
        world.follow()
        taken_s = [_refilled(world, path) for _ in range(min(context.rounds, 3))]
        counted = len(world.reader.recount(names[:1_000]))
        expect("balances that are not as recounted", seen=counted, wanted=0)
        writer.close()
    return Measured(
        unit="balances/minute",
        value=customers / middle(taken_s) * 60,
        method={
            "balances": f"{customers:,} customers with a hard monthly limit and an event each",
            "from": "FLUSHALL until the ledger is ready; without the 1 s in which holds of before "
            "may still become events",
            "pinning": f"reader on core {context.core}, Valkey on {context.load_core}",
        },
        facts={"rounds": ", ".join(f"{each:.1f} s" for each in taken_s)},
    )


def _used(world: World, names: Sequence[str]) -> pl.DataFrame:
    """RECORDS: an event of one unit for each."""
    at = to_datetime(world.clock.now_us())
    count = len(names)
    given = {
        "seq": pl.int_range(1, count + 1, dtype=pl.Int64, eager=True),
        "id": pl.Series(names),
        "subject": pl.Series(names),
    }
    frame = pl.DataFrame(given).with_columns(
        received_at=pl.lit(at, INSTANT) + pl.duration(microseconds=pl.col("seq")),
        kind=pl.lit(RecordKind.EVENT.value, pl.UInt8),
        source=pl.lit("app"),
        type=pl.lit("llm"),
        time=pl.lit(at, INSTANT),
        time_given=pl.lit(value=True),
        data=pl.lit('{"n":"1"}'),
        target=pl.lit(None, pl.Int64),
    )
    return frame.select(list(RECORDS)).cast(RECORDS)  # type: ignore[arg-type]


def _refilled(world: World, path: Path) -> float:
    """Seconds from FLUSHALL until everything is filed again."""
    with redis.Redis(unix_socket_path=str(path)) as client:
        client.flushall()
    began_s = time.perf_counter()
    world.follow()
    return time.perf_counter() - began_s
