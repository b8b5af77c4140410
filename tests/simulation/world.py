"""Gateways, a worker, clients, a disk, a store and a clock: one seed decides every step.

First anything may fail, at any call; then everything is healed and must converge. After every step
the oracle reads what became visible and compares.
"""

from __future__ import annotations

import shutil
import tempfile
from collections import Counter
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import Any

from catalog.clock import DAY_US, SECOND_US, FixedClock
from ingest.commit import Backpressure
from ingest.group import AtomicRejected, Outcome
from ingest.ports import LogUnavailable
from ingest.voids import VoidItem, VoidOutcome
from storage.clickhouse.client import StoreUnavailable
from storage.clickhouse.store import StoreInconsistent
from storage.copies.log import CompensationsAhead
from storage.log.follower import LogFollower
from storage.log.layout import read_layout
from storage.log.node_log import LogFull
from storage.memory.files import PowerCut
from tests.logs_in_memory import spec, specs
from tests.simulation.clients import Clients, again, written
from tests.simulation.corruption import flip_and_find
from tests.simulation.files import Disk, Rates
from tests.simulation.gateway import Gateway, limits, unheard
from tests.simulation.healing import converge, drain, final_checks, heal
from tests.simulation.loop import SteppedLoop
from tests.simulation.oracle import Attempt, Identity, Oracle, Violation, VoidAttempt, require
from tests.simulation.store import FAULTS, MemoryClickHouse
from tests.simulation.worker import CopiesPlace, Worker

HOME = Path("/nodes")
T0_US = 1_769_817_600 * SECOND_US  # 31 January: months end soon
SUM, COUNT = spec("data.n"), spec(None)
CHECKED = "checked: "
"""What begins the names that count comparisons rather than what was come across."""

WEIGHTS = {
    "send": 24,
    "sync": 22,
    "answer": 22,
    "send_again": 4,
    "void": 5,
    "heartbeat": 2,
    "maintain": 8,
    "tick": 7,
    "start": 10,
    "kill": 1,
    "kill_soon": 1.5,
    "power": 1,
    "power_soon": 2,
    "kill_worker": 0.7,
    "kill_worker_soon": 1,
    "seal": 6,
    "read": 10,
    "find_copies": 6,
    "store_fault": 3,
    "land": 3,
    "fill_disk": 0.7,
    "free_disk": 2,
    "flip": 0.7,
    "meter": 0.4,
}


class World:
    """One seed's world. :meth:`run` raises :class:`Violation` where a promise was broken."""

    def __init__(self, seed: int) -> None:
        self.chance = Random(seed)
        self.seen: Counter[str] = Counter()
        self.trace: list[str] = []
        chance = self.chance
        self.steps = chance.choice([20, 50, 80])
        self.window_us = chance.choice([1, 3]) * DAY_US
        self.rates = Rates(
            changing=chance.choice([0, 0, 0.003, 0.02]),
            syncing=chance.choice([0, 0, 0.03, 0.2]),
            reading=chance.choice([0, 0, 0.003]),
        )
        self.weights = {name: w * chance.choice([0.3, 1, 1, 2]) for name, w in WEIGHTS.items()}
        self.disk = Disk(chance, self.seen)
        self.clock = FixedClock(T0_US)
        self.loop = SteppedLoop()
        settings = limits(
            self.window_us // DAY_US,
            chance.choice([2, 4, 12]),
            chance.choice([1_500, 2_500, 8_000]),
            HOME,
        )
        names = ["n1", "n2"][: chance.choice([1, 1, 2])]
        self.gateways = [
            Gateway(name, settings, loop=self.loop, clock=self.clock) for name in names
        ]
        self.oracle = Oracle(names, window_us=self.window_us, summed=SUM.id, seen=self.seen)
        self.store = MemoryClickHouse(chance, self.seen)
        self.specs = specs(SUM)
        copies = chance.random() < 0.3
        self.scratch = Path(tempfile.mkdtemp()) if copies else None
        self.clients = Clients(chance, wrong=chance.choice([0, 0.1]), astray=0.2 if copies else 0.0)
        self.home: dict[Identity, str] = {}
        self.worker: Worker | None = None
        self.auditors: dict[str, LogFollower] = {}

    def describe(self) -> str:
        """How this seed's world is set up."""
        nodes = ", ".join(gateway.name for gateway in self.gateways)
        return (
            f"{self.steps} steps, nodes {nodes}, window {self.window_us // DAY_US} d, "
            f"{self.rates}, {self.gateways[0].settings}"
        )

    # -- the run ---------------------------------------------------------------------------

    def run(self) -> Counter[str]:
        """Faults, then healing; what was come across."""
        try:
            self._run()
        finally:
            for gateway in self.gateways:
                if gateway.running:
                    gateway.died()
            self._bury_worker()
            if self.scratch is not None:
                shutil.rmtree(self.scratch)
            self.loop.close()
        return self.seen + Counter({CHECKED + k: n for k, n in self.oracle.checked.items()})

    def _run(self) -> None:
        for gateway in self.gateways:
            self._start(gateway)
        for _ in range(self.steps):
            possible = self._possible()
            name = self.chance.choices(list(possible), list(possible.values()))[0]
            self.trace.append(name)
            getattr(self, f"_do_{name}")()
            self._after()
        heal(self)
        converge(self)
        final_checks(self)

    def _possible(self) -> dict[str, float]:
        """The steps that would do something now, and how likely each is."""
        calls = [call for g in self.gateways if g.running for call in g.calls()]
        idle = {
            "sync": all(call.made for call in calls),
            "answer": not any(call.made for call in calls),
            "start": all(gateway.running for gateway in self.gateways),
            "free_disk": not self.disk.full,
            "land": not self.store.running,
            "kill_worker": self.worker is None,
            "find_copies": self.scratch is None,
            "send_again": not any(a.state == "unknown" for a in self.oracle.attempts),
        }
        return {name: w for name, w in self.weights.items() if not idle.get(name)}

    def _after(self) -> None:
        """Bury who died, read what is new, hand out answers, compare."""
        self.loop.settle()
        if self.disk.is_off:
            self._power_cut()
        self._audit()
        for gateway in self.gateways:
            if gateway.running and (not gateway.deliver() or gateway.failed):
                if self.disk.is_off:
                    self._power_cut()
                    break
                gateway.died()
        if self.worker is not None and self.worker.files.dead:
            self._bury_worker()
        self._check_store()
        self.oracle.conserve()

    def _audit(self) -> None:
        for gateway in self.gateways:
            name = gateway.name
            seen = len(self.oracle.nodes[name].records)
            auditor = self.auditors.get(name)
            if auditor is None:
                auditor = LogFollower(gateway.directory, name, files=self.disk)
                self.auditors[name] = auditor
            while auditor.durable().seq > seen:
                rows = auditor.read_after(seen, rows_max=1_000).to_dicts()
                self.oracle.reads(name, rows)
                seen += len(rows)

    def _check_store(self) -> None:
        fresh, self.store.fresh = self.store.fresh, []
        for table, part in fresh:
            self.oracle.stores(table, part.filter(~part["marker"]).to_dicts())
        if self.worker is None:
            return
        failing, self.store.queries_fail = self.store.queries_fail, 0.0
        try:
            positions = self.worker.reader.positions()
        except StoreInconsistent as error:
            raise Violation(str(error)) from error
        except (StoreUnavailable, OSError):
            return
        finally:
            self.store.queries_fail = failing
        for node, position in positions.items():
            self.oracle.positioned(node, position, self.specs)

    # -- clients ---------------------------------------------------------------------------

    def _up(self) -> Gateway | None:
        up = [gateway for gateway in self.gateways if gateway.running]
        return self.chance.choice(up) if up else None

    def _do_send(self) -> None:
        gateway = self._up()
        if gateway is not None:
            self._submit(gateway, self.clients.attempt(gateway.name, home=self.home))

    def _do_send_again(self) -> None:
        gateway = self._up()
        lost = [a for a in self.oracle.attempts if a.state == "unknown" and not a.dry_run]
        mine = [a for a in lost if gateway is not None and a.node == gateway.name]
        if gateway is not None and mine:
            self._submit(gateway, self._again(self.chance.choice(mine)))

    def _again(self, attempt: Attempt) -> Attempt:
        attempt.state = "retried"
        return again(attempt)

    def _submit(self, gateway: Gateway, attempt: Attempt) -> None:
        try:
            body = gateway.body(written(attempt))
        except PowerCut:
            return
        self.oracle.sends(attempt, self.clock.now_us())

        def answer(outcome: Any) -> None:
            match outcome:
                case Outcome():
                    self.oracle.answered(attempt, outcome, self.clock.now_us())
                case AtomicRejected():
                    require(attempt.atomic and outcome.rejected, "refused as a whole")
                    self.seen["refused as a whole"] += 1
                    self.oracle.refused(attempt)
                case LogFull() | Backpressure():
                    self.seen[type(outcome).__name__] += 1
                    self.oracle.refused(attempt)
                case None | LogUnavailable():
                    self.oracle.unknown(attempt)
                case _:
                    raise outcome

        submitted = gateway.ingestor.submit(body, atomic=attempt.atomic, dry_run=attempt.dry_run)
        gateway.request(submitted, answer)

    def _do_void(self) -> None:
        gateway = self._up()
        if gateway is not None:
            identities = self.clients.known(gateway.name, self.chance.choice([1, 3]))
            self._void(gateway, VoidAttempt(gateway.name, identities))

    def _void(self, gateway: Gateway, attempt: VoidAttempt) -> None:
        self.oracle.voids.append(attempt)
        items = [
            VoidItem(index=index, source=source, id=name, reason="")
            for index, (source, name) in enumerate(attempt.identities)
        ]

        def answer(outcome: Any) -> None:
            match outcome:
                case VoidOutcome():
                    unknown = [(item.source, item.id) for item in outcome.unknown]
                    told = outcome.voided, outcome.already_void, unknown
                    self.oracle.void_answered(attempt, told)
                case None | LogUnavailable() | Backpressure():
                    attempt.state = "unknown"
                case _:
                    raise outcome

        gateway.request(gateway.ingestor.void(items), answer)

    def _do_heartbeat(self) -> None:
        gateway = self._up()
        if gateway is not None:
            gateway.request(gateway.ingestor.heartbeat(), unheard)

    # -- gateways --------------------------------------------------------------------------

    def _do_sync(self) -> None:
        waiting = [call for g in self.gateways if g.running for call in g.calls() if not call.made]
        if waiting:
            self.chance.choice(waiting).make()

    def _do_answer(self) -> None:
        made = [call for g in self.gateways if g.running for call in g.calls() if call.made]
        if made:
            call = self.chance.choice(made)
            self.loop.calls.remove(call)
            call.tell()

    def _do_maintain(self) -> None:
        gateway = self._up()
        if gateway is not None:
            runs = gateway.index._older.runs.runs
            with suppress(OSError, PowerCut):
                gateway.index.maintain()
            gone = set(runs) - set(gateway.index._older.runs.runs)
            new = set(gateway.index._older.runs.runs) - set(runs)
            self.seen["run of identities written"] += bool(new)
            self.seen["runs merged"] += any(run.count > r.count for run in new for r in gone)
            self.seen["run expired"] += bool(gone) and not new

    def _do_start(self) -> None:
        down = [gateway for gateway in self.gateways if not gateway.running]
        if down:
            self._start(self.chance.choice(down))

    def _start(self, gateway: Gateway) -> None:
        if gateway.start(self.disk, self.rates, self.seen):
            self._recheck(gateway)
            self._audit()

    def _recheck(self, gateway: Gateway) -> None:
        """What was visible before is what the recovered log says, byte for byte."""
        before = self.oracle.nodes[gateway.name].records
        follower = LogFollower(gateway.directory, gateway.name, files=self.disk)
        require(follower.durable().seq >= len(before), f"{gateway.name}: the log is shorter")
        place, rows = 0, list[dict[str, Any]]()
        while place < len(before):
            rows += follower.read_after(place, rows_max=1_000).to_dicts()
            place = rows[-1]["seq"]
        for now, then in zip(rows, before, strict=False):
            self.oracle.checked["recovered records: as they were before"] += 1
            same = all(then[name] == value for name, value in now.items())
            require(same, f"{gateway.name}: record {now['seq']} was {then} and is {now}")

    def _do_kill(self) -> None:
        gateway = self._up()
        if gateway is not None:
            self.seen["gateway killed"] += 1
            self.seen["gateway killed with requests"] += bool(gateway.requests)
            gateway.died()

    def _do_kill_soon(self) -> None:
        gateway = self._up()
        if gateway is not None:
            gateway.files.calls_left = self.chance.randint(1, 12)

    def _do_power(self) -> None:
        self.disk.power_off()

    def _do_power_soon(self) -> None:
        self.disk.calls_left = self.chance.randint(1, 20)
        self.chance.choice([self._do_seal, self._do_maintain, lambda: None])()

    def _power_cut(self) -> None:
        self.seen["power cut"] += 1
        for gateway in self.gateways:
            if gateway.running:
                gateway.died()
        self._bury_worker()
        self.auditors.clear()
        self.disk.restart(power_cut=True)
        self.disk.calls_left = None

    # -- the disk, the clock ---------------------------------------------------------------

    def _do_fill_disk(self) -> None:
        self.disk.full = True

    def _do_free_disk(self) -> None:
        self.disk.full = False

    def _do_tick(self) -> None:
        step = self.chance.choice([1, 1_000, SECOND_US, 3_600 * SECOND_US, 12 * 3_600 * SECOND_US])
        if self.chance.random() < 0.15:
            step = self.window_us + DAY_US
        if self.chance.random() < 0.2:
            step = -min(step, 6 * 3_600 * SECOND_US)
            self.seen["clock stepped back"] += 1
        self.clock.set(self.clock.now_us() + step)

    def _do_flip(self) -> None:
        gateway = self._up()
        if gateway is None or self.disk.calls_left is not None:
            return
        drain(self, gateway)
        if gateway.running:
            gateway.died()
            flip_and_find(self.disk, gateway, self.chance, self.seen)
            self._start(gateway)

    # -- the worker and the store ----------------------------------------------------------

    def _working(self) -> Worker:
        if self.worker is None:
            self.worker = Worker(
                self.disk,
                self.rates,
                home=HOME,
                nodes=[gateway.name for gateway in self.gateways],
                clickhouse=self.store,
                specs=self.specs,
                rows_max=self.chance.choice([2, 5, 40]),
                copies=self._copies_place(),
            )
        return self.worker

    def _copies_place(self) -> CopiesPlace | None:
        if self.scratch is None:
            return None
        return CopiesPlace(directory=self.scratch, clock=self.clock, window_us=self.window_us)

    def _bury_worker(self) -> None:
        if self.worker is not None:
            self.worker.died()
        self.worker = None

    def _do_find_copies(self) -> None:
        try:
            self._working().find_copies()
        except CompensationsAhead as error:
            # After a power cut the mark may be an older one until the node has been recovered.
            if all(gateway.running for gateway in self.gateways):
                raise Violation(str(error)) from error
            self.seen["copies waited for a log to be recovered"] += 1
        except (OSError, PowerCut):
            pass

    def _do_seal(self) -> None:
        covered = sum(
            len(read_layout(gateway.directory, files=self.disk).covered)
            for gateway in self.gateways
        )
        self.seen["sealing cut short before the unlink"] += bool(covered)
        with suppress(OSError, PowerCut):
            self.seen["sealed"] += self._working().seal()

    def _do_read(self) -> None:
        try:
            self._working().read()
        except StoreInconsistent as error:
            raise Violation(str(error)) from error
        except (OSError, PowerCut, StoreUnavailable):
            pass

    def _do_kill_worker(self) -> None:
        self.seen["worker killed"] += self.worker is not None
        self._bury_worker()

    def _do_kill_worker_soon(self) -> None:
        self._working().files.calls_left = self.chance.randint(1, 20)
        self._do_seal()

    def _do_store_fault(self) -> None:
        self.store.faults.append(self.chance.choice(FAULTS))
        self.store.queries_fail = self.chance.choice([0.0, 0.0, 0.3])

    def _do_land(self) -> None:
        if self.store.running:
            self.store.land(succeed=self.chance.random() < 0.7)

    def _do_meter(self) -> None:
        self.seen["a meter appeared"] += COUNT.id not in self.specs
        self.specs = specs(SUM, COUNT)
        self._bury_worker()


def simulate(seed: int) -> Counter[str]:
    """Run one seed; answers what it came across. A failure names the seed and its last steps."""
    world = World(seed)
    try:
        return world.run()
    except BaseException as error:
        error.add_note(
            f"seed {seed}, step {len(world.trace)} of {world.steps}, last: {world.trace[-12:]}; "
            f"again: python -m tests.simulation --seed {seed}"
        )
        raise
