"""After the faults: all is repaired, whoever got no answer asks again, and all must agree."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

from api.readers.base import Pace
from storage.log.verify import verify_segments
from tests.simulation.clients import asking
from tests.simulation.gateway import Gateway, unheard
from tests.simulation.oracle import Violation, VoidAttempt, require

if TYPE_CHECKING:
    from tests.simulation.world import World

SETTLING_STEPS = 400


def heal(world: World) -> None:
    """Nothing fails any more, and everybody runs."""
    world.rates.changing = world.rates.syncing = world.rates.reading = 0.0
    world.disk.full = False
    world.disk.calls_left = None
    world.store.faults.clear()
    world.store.queries_fail = 0.0
    while world.store.running:
        world._do_land()
    for gateway in world.gateways:
        if gateway.running:
            gateway.files.calls_left = None
        else:
            world._start(gateway)
        require(gateway.running, f"{gateway.name} does not come up again")
    if world.worker is not None:
        world.worker.files.calls_left = None


def drain(world: World, gateway: Gateway) -> None:
    """Let everybody at this gateway get an answer."""
    for _ in range(SETTLING_STEPS):
        if not gateway.running or not gateway.requests:
            return
        for call in gateway.calls():
            world.loop.calls.remove(call)
            if not call.made:
                call.make()
            call.tell()
        world._after()
    raise Violation(f"{gateway.name} does not answer")


def converge(world: World) -> None:
    """Retries are answered, and the readers follow until there is nothing to do."""
    for gateway in world.gateways:
        drain(world, gateway)
        for attempt in [a for a in world.oracle.attempts if a.node == gateway.name]:
            if attempt.state == "unknown" and not attempt.dry_run:
                world._submit(gateway, world._again(attempt))
                drain(world, gateway)
        for void in [v for v in world.oracle.voids if v.node == gateway.name]:
            if void.state == "unknown":
                void.state = "retried"
                world._void(gateway, VoidAttempt(void.node, void.identities))
                drain(world, gateway)
        gateway.index.maintain()
    beat(world)
    world._do_meter()
    world._working().reader.pace = Pace(rows_max=world.chance.choice([7, 1_000]))
    for _ in range(SETTLING_STEPS):
        worker = world._working()
        if not (worker.seal() | worker.find_copies() | worker.read()):
            break
        world._after()
    else:
        raise Violation("the readers do not converge")


def beat(world: World) -> None:
    """A heartbeat from everybody later than all there is, so that the watermark is past it."""
    latest = max(gateway.log.last_received_at for gateway in world.gateways)
    world.clock.set(max(world.clock.now_us(), latest + 1))
    for gateway in world.gateways:
        gateway.request(gateway.ingestor.heartbeat(), unheard)
        drain(world, gateway)


def final_checks(world: World) -> None:
    """The readers are level, the segments whole, every identity known, the sums the logs'."""
    for gateway in world.gateways:
        view = world.oracle.nodes[gateway.name]
        require(world._working().reader.positions()[gateway.name] == len(view.records), "behind")
        world.oracle.positioned(gateway.name, len(view.records), world.specs)
        difference = verify_segments(gateway.directory, node=gateway.name, files=world.disk)
        require(difference is None, f"{difference}")
        if world.chance.random() < 0.5:  # as it is opened again, or as it runs
            gateway.died()
            world._start(gateway)
        ask_for_all(world, gateway)
    check_sums(world)


def ask_for_all(world: World, gateway: Gateway) -> None:
    """Everything that was accepted is known: a resend is a duplicate, a void stays void."""
    view = world.oracle.nodes[gateway.name]
    values = {identity: record["value"] for identity, record in view.latest.items()}
    if values:
        world._submit(gateway, asking(0, gateway.name, values))
        drain(world, gateway)
    void = [identity for identity, record in view.latest.items() if record["seq"] in view.voids]
    if void:
        world._void(gateway, VoidAttempt(gateway.name, void))
        drain(world, gateway)


def check_sums(world: World) -> None:
    """What the store counts is what the logs say counts."""
    void = {(row["target_node"], row["target_seq"]) for row in world.store.rows("voids")}
    total = Decimal(0)
    for row in world.store.rows("facts"):
        if row["spec"] == world.oracle.summed and (row["node"], row["seq"]) not in void:
            total += row["value"]
    expected = world.oracle.worth(copies=world.scratch is not None)
    world.oracle.checked["after healing: the store's sums are those of the logs"] += 1
    require(total == expected, f"the store counts {total}, the logs say {expected}")
