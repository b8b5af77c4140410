"""Which of the copies that several gateways accepted count."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from api.checks.copies import check_copies
from api.checks.report import Check, Status
from catalog.events import RecordKind
from catalog.ids import NodeId
from ingest.ports import LogUnavailable
from storage.copies.log import CompensationsAhead
from storage.log.follower import LogFollower
from storage.log.layout import MARK_NAME
from tests.unit.readers.copies_world import DAY_US, T0_US, World, event, out_by_hand, void

NODE, NAME = st.integers(0, 2), st.integers(0, 3)
EVENTS = st.tuples(st.just("event"), NODE, NAME, st.integers(-1, 2) | st.none())
OTHERS = st.one_of(
    st.tuples(st.just("void"), NODE, st.integers(0, 200), st.none()),
    st.tuples(st.just("pass"), NODE, st.integers(20, 100), st.none()),
    st.sampled_from([(name, 0, 0, None) for name in ("step", "restart", "seal", "beat", "forget")]),
)
ACTIONS = st.lists(st.tuples(st.lists(EVENTS, min_size=1, max_size=4), OTHERS), max_size=25)


def perform(world: World, action: tuple[str, int, int, int | None]) -> None:
    """Do one thing to the world."""
    what, node, number, days = action
    name = f"n{node % len(world.logs) + 1}"
    match what:
        case "event":
            # Absolute, so that copies long after each other have the same time; 1: an hour ahead.
            now_us = world.clock.now_us()
            time_us = None if days is None else min(T0_US + days * DAY_US, now_us + 3_600_000_000)
            world.append(name, event(f"e{number}", time_us=time_us, data=f'{{"v":{node}}}'))
        case "void":
            seqs = [r["seq"] for r in world.records() if r["node"] == name and r["kind"] == 1]
            if seqs:
                world.append(name, void("-", seqs[number % len(seqs)]))
        case "pass":
            world.clock.set(world.clock.now_us() + number * DAY_US // 20)
        case "step":
            world.reader.step()
        case "restart":
            world.restart()
        case "seal":
            world.seal()
        case "beat":
            world.beat()
        case "forget":
            shutil.rmtree(world.home / "copies", ignore_errors=True)
            world.restart()


@pytest.mark.slow
@settings(max_examples=100, deadline=None)
@given(nodes=st.integers(1, 3), actions=ACTIONS, rows_max=st.integers(1, 9))
def test_what_is_out_is_what_the_rule_says(nodes: int, actions: list, rows_max: int) -> None:
    """Whatever the order, the pace and the restarts: each event is out once, or counts."""
    with tempfile.TemporaryDirectory(prefix="copies-", dir="/tmp") as directory:
        world = World(Path(directory), nodes)
        world.rows_max = rows_max
        world.restart()
        for action in (one for events, other in actions for one in (*events, other)):
            if nodes == 1 and action[0] == "event" and refused(world, action):
                continue
            perform(world, action)
        world.beat()
        world.settle()
        outs = world.outs()
        collapsed = [out.place for out in outs if out.cause is RecordKind.COLLAPSED]
        voids = [out.place for out in outs if out.cause is RecordKind.VOID]
        expected = out_by_hand(world.records(), window_us=world.window_us)
        assert (set(collapsed), set(voids)) == expected
        assert recounted(world).status is Status.OK
        assert len(collapsed) + len(voids) == len(set(collapsed)) + len(set(voids)), "each once"
        world.reader.close()
        for log in world.logs.values():
            log.close()


def recounted(world: World) -> Check:
    """What verify says."""
    nodes = world.home / "nodes"
    tails = {NodeId(name): LogFollower(nodes / name, NodeId(name)) for name in world.logs}
    name = world.reader.node
    written = LogFollower(nodes / name, name)
    return check_copies(tails, written, window_us=world.window_us)


def refused(world: World, action: tuple[str, int, int, int | None]) -> bool:
    """Whether the one gateway there is knows the identity: it refuses a copy for the window."""
    now_us = world.clock.now_us()
    return any(
        record["id"] == f"e{action[2]}"
        and now_us - record["received_at"].timestamp() * 1e6 <= world.window_us + 2_000_000
        for record in world.records()
        if record["kind"] == RecordKind.EVENT
    )


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """Two gateways' logs."""
    made = World(tmp_path, 2)
    yield made
    made.reader.close()
    for log in made.logs.values():
        log.close()


def test_a_copy_is_out_from_when_it_was_received(world: World):
    """The first counts, the other says since when it does not and for whom it stands."""
    (first,) = world.append("n2", event("e"))
    world.clock.set(T0_US + 5)
    (second,) = world.append("n1", event("e"))
    world.beat()
    world.settle()
    (out,) = world.outs()
    assert (out.place, out.counted) == (("n1", second), ("n2", first))
    assert (out.since, out.conflict) == (T0_US + 5, False)


def test_nothing_is_decided_before_every_log_is_complete(world: World):
    """What the slower log still brings may be the first copy."""
    world.append("n1", event("e", time_us=T0_US))
    world.settle()
    assert not world.reader.covered(world.logs["n1"].durable.received_at)
    world.beat()
    world.settle()
    assert world.reader.covered(world.watermark())
    assert world.outs() == []


def test_a_void_of_a_copy_is_one_of_the_event_that_counts(world: World):
    """Whichever copy a gateway knows: the identity does not count, and is out once."""
    (first,) = world.append("n1", event("e", time_us=T0_US))
    (second,) = world.append("n2", event("e", time_us=T0_US))
    world.append("n2", void("e", second))
    world.append("n1", void("e", first))
    world.beat()
    world.settle()
    outs = [(out.cause, out.place) for out in world.outs()]
    assert outs == [(RecordKind.COLLAPSED, ("n2", second)), (RecordKind.VOID, ("n1", first))]


def test_a_copy_after_the_window_is_found_by_its_day(world: World):
    """In a segment long sealed, in one log; another day's event of that name counts."""
    world.append("n1", *(event(f"e{n}", time_us=T0_US) for n in range(50)))
    world.beat()
    world.settle()
    world.seal()
    world.clock.set(T0_US + 9 * DAY_US)
    (copy,) = world.append("n1", event("e7", time_us=T0_US + 3_600_000_000))
    world.append("n1", event("e8", time_us=T0_US + 2 * DAY_US))
    world.restart()
    world.beat()
    world.settle()
    assert [(out.place, out.conflict) for out in world.outs()] == [(("n1", copy), True)]


@pytest.mark.parametrize(
    ("reader_us", "verify_us", "said"), [(1, DAY_US, "counts twice"), (DAY_US, 1, "is no copy")]
)
def test_verify_names_a_compensation_too_few_or_too_many(
    tmp_path: Path, reader_us: int, verify_us: int, said: str
):
    """As if the reader had applied another rule than the recount."""
    world = World(tmp_path, 2, window_us=reader_us)
    world.append("n1", event("e", time_us=T0_US))
    world.clock.set(T0_US + 10)
    (copy,) = world.append("n2", event("e", time_us=T0_US - DAY_US))
    world.append("n1", event("f", time_us=T0_US))
    world.append("n2", event("f", time_us=T0_US))  # by its day: both rules say so
    world.beat()
    world.settle()
    assert recounted(world).status is Status.OK
    world.window_us = verify_us
    told = recounted(world)
    assert told.first_difference is not None
    assert told.first_difference.seq == copy
    assert said in told.detail
    world.reader.close()


def test_a_write_that_fails_is_made_again(world: World, monkeypatch: pytest.MonkeyPatch):
    """Nothing is lost or said twice when the disk refuses in the middle."""
    world.append("n1", event("e", time_us=T0_US))
    world.append("n2", event("e", time_us=T0_US))
    world.beat()
    world.settle_failing(monkeypatch)
    world.settle()
    assert len(world.outs()) == 1


def test_a_log_put_back_is_noticed(world: World):
    """Compensations of records that are gone are not followed any further."""
    world.append("n1", event("e", time_us=T0_US))
    world.append("n2", event("e", time_us=T0_US))
    world.beat()
    world.settle()
    world.logs.pop("n2").close()
    shutil.rmtree(world.home / "nodes" / "n2")
    world.restart()
    with pytest.raises(CompensationsAhead, match="n2"):
        world.reader.step()


def test_nothing_is_said_before_the_logs_are_there_again(world: World):
    """Every step is refused until then, not only the first; and then nothing is said twice."""
    world.append("n1", event("e", time_us=T0_US))
    world.append("n2", event("e", time_us=T0_US))
    world.beat()
    world.settle()
    before, log = world.outs(), world.home / "nodes" / "n2"
    aside = log.rename(world.home / "n2")
    world.restart()
    for _ in range(2):
        with pytest.raises(CompensationsAhead, match="n2"):
            world.reader.step()
    aside.rename(log)
    world.settle()
    assert world.outs() == before


def test_a_log_that_is_not_open_yet_is_waited_for(world: World):
    """After a power cut a mark is an older one until the gateway has recovered its log."""
    world.append("n1", event("e", time_us=T0_US))
    world.append("n2", event("e", time_us=T0_US))
    mark = world.home / "nodes" / "n2" / MARK_NAME
    old = mark.read_bytes()
    world.beat()
    world.settle()
    before, new = world.outs(), mark.read_bytes()
    world.restart(opened=lambda node: node != "n2")
    mark.write_bytes(old)
    for _ in range(2):
        with pytest.raises(LogUnavailable, match=r"n2, whose gateway has not opened its log yet"):
            world.reader.step()
    mark.write_bytes(new)
    world.settle()
    assert world.outs() == before


def test_a_log_that_opens_while_it_is_looked_at_is_no_loss(world: World):
    """Between the look at its mark and the question whether it is open it was recovered."""
    world.append("n1", event("e", time_us=T0_US))
    mark = world.home / "nodes" / "n1" / MARK_NAME
    old = mark.read_bytes()
    world.beat()
    world.settle()
    new = mark.read_bytes()
    world.restart(opened=lambda _: bool(mark.write_bytes(new)))
    mark.write_bytes(old)
    world.settle()


def test_rebuilt_it_says_the_same(world: World):
    """Under another name, so that nobody takes the new log for the old one."""
    world.append("n1", *(event(f"e{n}", time_us=T0_US) for n in range(30)))
    world.append("n2", *(event(f"e{n}", time_us=T0_US) for n in range(20, 50)))
    world.beat()
    world.settle()
    before, name = world.outs(), world.reader.node
    world.reader.drop()
    world.settle()
    assert world.outs() == before
    assert len(before) == 10
    assert world.reader.node > name


def test_copies_long_after_each_other_are_found_in_one_stretch(world: World):
    """A log that is read late: the window lies between two records read together."""
    world.logs.pop("n2").close()
    shutil.rmtree(world.home / "nodes" / "n2")
    world.append("n1", event("e", time_us=T0_US))
    world.clock.set(T0_US + 2 * DAY_US)
    world.window_us = DAY_US
    (copy,) = world.append("n1", event("e", time_us=T0_US))
    world.restart()
    world.beat()
    world.settle()
    assert [out.place for out in world.outs()] == [("n1", copy)]
