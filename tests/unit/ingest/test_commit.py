"""Group commit: durable before it answers, counted once, and nothing vanishes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator

import polars as pl
import pytest
import pytest_asyncio
from hypothesis import given, settings
from hypothesis import strategies as st

from catalog.events import RecordKind
from ingest.batch import APPENDED, IngestLimits
from ingest.commit import Backpressure, Ingestor
from ingest.group import AtomicRejected, Outcome
from ingest.ports import LogUnavailable
from ingest.voids import VoidItem
from tests.unit.ingest.fakes import TIME, MemoryIndex, MemoryLog, checked, event


class Pipe:
    """An ingestor over fakes."""

    def __init__(self, limits: IngestLimits | None = None) -> None:
        self.log, self.index = MemoryLog(), MemoryIndex()
        self.ingestor = Ingestor(log=self.log, index=self.index, reader=self.log, limits=limits)


@pytest_asyncio.fixture
async def pipe() -> AsyncIterator[Pipe]:
    """A fresh pipe, closed afterwards."""
    fresh = Pipe()
    yield fresh
    await fresh.ingestor.close()


def kept(log: MemoryLog) -> list[str]:
    """The ids of all events in the log, in order."""
    return log.records.filter(kind=RecordKind.EVENT.value)["id"].to_list()


async def test_an_answer_means_durable(pipe):
    """What was accepted is synced, numbered and has a time when the answer comes."""
    outcome = await pipe.ingestor.submit(checked(event(), event(id="e2", time=None)))
    assert outcome == Outcome(accepted=2, duplicates=0, rejected=[])
    assert pipe.log.durable == 2
    assert pipe.log.records["time_given"].to_list() == [True, False]
    assert pipe.log.records["data"].to_list() == ['{"tokens": 5}'] * 2


async def test_requests_share_a_group(pipe):
    """Many requests at once need few syncs, and each hears of its own events only."""
    bodies = [checked(event(id=f"e{n}"), event(id="shared")) for n in range(50)]
    outcomes = await asyncio.gather(*(pipe.ingestor.submit(body) for body in bodies))
    assert [outcome.accepted for outcome in outcomes] == [2] + [1] * 49
    assert [outcome.duplicates for outcome in outcomes] == [0] + [1] * 49
    assert pipe.log.frames <= 2
    assert sorted(kept(pipe.log)) == sorted(["shared", *(f"e{n}" for n in range(50))])


@pytest.mark.parametrize("together", [True, False])
@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, "duplicate"),
        ({"data": {"tokens": 5.0}}, "duplicate"),
        ({"data": {"tokens": 6}}, "conflict"),
        ({"data": {"tokens": "5"}}, "conflict"),
        ({"data": {"tokens": 5, "more": None}}, "conflict"),
        ({"type": "other"}, "conflict"),
        ({"subject": "other"}, "conflict"),
        ({"time": "2026-11-03T10:15:00.12+01:00"}, "duplicate"),
        ({"time": "2026-11-03T09:15:00.121Z"}, "conflict"),
        ({"time": None}, "conflict"),
        ({"source": "other"}, "new"),
    ],
)
async def test_copies(pipe, changes, expected, together):
    """A copy that says the same counts once; one that does not is refused, sooner or later."""
    first, second = event(), event(**changes)
    if together:
        outcome = await pipe.ingestor.submit(checked(first, second))
        accepted = outcome.accepted - 1
    else:
        await pipe.ingestor.submit(checked(first))
        outcome = await pipe.ingestor.submit(checked(second))
        accepted = outcome.accepted
    conflicts = [rejection.code.value for rejection in outcome.rejected]
    assert (accepted, outcome.duplicates, conflicts) == {
        "duplicate": (0, 1, []),
        "conflict": (0, 0, ["conflict"]),
        "new": (1, 0, []),
    }[expected]


async def test_digits_beyond_a_double_still_differ(pipe):
    """Numbers that are one float and two values are a conflict."""
    texts = ["9007199254740993", "9007199254740992"]
    bodies = [checked(event(data={"n": int(text)})) for text in texts]
    assert (await pipe.ingestor.submit(bodies[0])).accepted == 1
    assert (await pipe.ingestor.submit(bodies[1])).rejected[0].code == "conflict"


async def test_atomic_keeps_all_or_nothing(pipe):
    """A conflict anywhere keeps the rest out; the other requests of the group stand."""
    await pipe.ingestor.submit(checked(event()))
    bad = checked(event(id="a1"), event(subject="else"), event(id="a2"))
    good = checked(event(id="a1"), event(id="g1"))
    tasks = [pipe.ingestor.submit(bad, atomic=True), pipe.ingestor.submit(good, atomic=True)]
    refused, taken = await asyncio.gather(*tasks, return_exceptions=True)
    assert isinstance(refused, AtomicRejected)
    assert [each["index"] for each in refused.members["rejected"]] == [1]
    assert taken == Outcome(accepted=2, duplicates=0, rejected=[])
    assert kept(pipe.log) == ["e1", "a1", "g1"]


async def test_atomic_counts_the_decoder_and_validator_too(pipe):
    """An event that was never valid is a rejection like any other."""
    with pytest.raises(AtomicRejected):
        await pipe.ingestor.submit(checked(event(), event(id="")), atomic=True)
    assert kept(pipe.log) == []


async def test_dry_run_tells_and_keeps_nothing(pipe):
    """The answer is what a real run would say, and the next run is not changed by it."""
    await pipe.ingestor.submit(checked(event()))
    body = checked(event(), event(id="new"), event(subject="else"), event(id=""))
    runs = [pipe.ingestor.submit(body, dry_run=True) for _ in range(2)]
    told = await asyncio.gather(*runs, pipe.ingestor.submit(body))
    assert told[0] == told[1] == told[2]
    assert [(each.accepted, each.duplicates, len(each.rejected)) for each in told] == [
        (1, 1, 2)
    ] * 3
    assert kept(pipe.log) == ["e1", "new"]


async def test_a_dry_run_in_company_keeps_nothing(pipe):
    """It sees what came before it, and what comes after it does not see it."""
    told = await asyncio.gather(
        pipe.ingestor.submit(checked(event())),
        pipe.ingestor.submit(checked(event(), event(id="e2")), dry_run=True),
        pipe.ingestor.submit(checked(event(id="e2"))),
    )
    assert [(each.accepted, each.duplicates) for each in told] == [(1, 0), (1, 1), (1, 0)]
    assert kept(pipe.log) == ["e1", "e2"]


async def test_a_failed_sync_acknowledges_nothing(pipe):
    """Waiters fail, and the identities may be sent again."""
    pipe.log.fail = True
    with pytest.raises(LogUnavailable):
        await pipe.ingestor.submit(checked(event()))
    assert pipe.index.known == {}


async def test_an_index_that_breaks_stops_the_pipeline(pipe, monkeypatch):
    """After a sync whose outcome cannot be remembered nothing more is taken."""
    monkeypatch.setattr(pipe.index, "insert", lambda *_, **__: 1 / 0)
    with pytest.raises(LogUnavailable):
        await pipe.ingestor.submit(checked(event()))
    monkeypatch.undo()
    with pytest.raises(LogUnavailable, match="ZeroDivisionError"):
        await pipe.ingestor.submit(checked(event(id="e2")))


async def test_a_bug_before_the_log_fails_one_group_only(pipe, monkeypatch):
    """What has not touched the log leaves it usable."""
    monkeypatch.setattr(pipe.index, "probe", lambda _: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        await pipe.ingestor.submit(checked(event()))
    monkeypatch.undo()
    assert (await pipe.ingestor.submit(checked(event()))).accepted == 1


async def test_a_full_queue_says_so():
    """Beyond the limit nothing is taken; what was taken is kept."""
    pipe = Pipe(IngestLimits(queue_events_max=3))
    bodies = [checked(event(id=f"e{n}")) for n in range(6)]
    told = await asyncio.gather(*map(pipe.ingestor.submit, bodies), return_exceptions=True)
    assert [isinstance(each, Backpressure) for each in told] == [False] * 3 + [True] * 3
    assert kept(pipe.log) == ["e0", "e1", "e2"]
    pipe.ingestor.check_room()
    await pipe.ingestor.close()


async def test_groups_are_bounded():
    """A group ends at its limit, and one larger body is a group of its own."""
    pipe = Pipe(IngestLimits(group_events_max=4))
    bodies = [
        checked(*(event(id=f"{n}-{m}") for m in range(size))) for n, size in enumerate([3, 2, 9, 1])
    ]
    told = await asyncio.gather(*map(pipe.ingestor.submit, bodies))
    assert [each.accepted for each in told] == [3, 2, 9, 1]
    assert pipe.log.frames == 4
    await pipe.ingestor.close()


async def test_close_drains_and_refuses():
    """What waits is committed, what comes later is refused."""
    pipe = Pipe()
    tasks = [asyncio.create_task(pipe.ingestor.submit(checked(event(id=f"{n}")))) for n in range(5)]
    await asyncio.sleep(0)
    await pipe.ingestor.close()
    assert [(await task).accepted for task in tasks] == [1] * 5
    with pytest.raises(LogUnavailable):
        await pipe.ingestor.submit(checked(event()))


async def test_a_caller_that_leaves_changes_nothing(pipe):
    """Its events are kept, and the others are answered."""
    left = asyncio.create_task(pipe.ingestor.submit(checked(event(id="left"))))
    stays = asyncio.create_task(pipe.ingestor.submit(checked(event(id="stays"))))
    await asyncio.sleep(0)
    left.cancel()
    assert (await stays).accepted == 1
    assert kept(pipe.log) == ["left", "stays"]


def made(*rows: dict[str, object]) -> pl.DataFrame:
    """Records the service makes."""
    return pl.DataFrame(list(rows), schema=APPENDED)


USED = {
    "kind": RecordKind.EVENT.value,
    "source": "tallyman",
    "id": "h1",
    "type": "t",
    "subject": "acme",
    "time_given": False,
    "data": "{}",
}
SETTLED = {"kind": RecordKind.SETTLE.value, "id": "h1", "subject": "c", "data": "{}"}


async def test_own_records_join_the_group(pipe):
    """Each caller hears where its records are, whatever else was in the frame."""
    told = await asyncio.gather(
        pipe.ingestor.append_records(made(SETTLED, USED)),
        pipe.ingestor.submit(checked(event(), event(id="e2"))),
        pipe.ingestor.heartbeat(),
        pipe.ingestor.append_records(made(SETTLED)),
    )
    records = pipe.log.records.with_columns(at=pl.col("received_at").to_physical())
    at = dict(records.select("seq", "at").iter_rows())
    for appended, kinds in ((told[0], [4, 1]), (told[3], [4])):
        rows = records.filter(pl.col("seq") >= appended.first_seq).head(appended.count)
        assert rows["kind"].to_list() == kinds
        assert at[appended.first_seq] == appended.received_at
    assert records.filter(kind=RecordKind.HEARTBEAT.value)["at"].to_list() == [told[2]]


async def test_own_events_count_once(pipe):
    """A consume that is written again after a crash adds nothing, and can be voided."""
    first = await pipe.ingestor.append_records(made(USED))
    again = await pipe.ingestor.append_records(made(USED))
    assert (again.first_seq, again.received_at, again.count) == (
        first.first_seq,
        first.received_at,
        0,
    )
    partly = await pipe.ingestor.append_records(made(USED, SETTLED))
    assert (partly.first_seq, partly.count) == (first.first_seq + 1, 1)
    voided = await pipe.ingestor.void([VoidItem(index=0, source="tallyman", id="h1", reason="")])
    assert voided.voided == 1


async def test_voids(pipe):
    """A void names a known event once, says so in the log, and a resend stays void."""
    await pipe.ingestor.submit(checked(event(), event(id="e2")))
    items = [
        VoidItem(index=n, source="s", id=identity, reason='ke"ying error')
        for n, identity in enumerate(["e2", "nobody", "e2"])
    ]
    told = await pipe.ingestor.void(items)
    assert told.as_json() == {
        "voided": 1,
        "already_void": 1,
        "rejected": [{"index": 1, "id": "nobody", "code": "unknown_event"}],
    }
    record = pipe.log.records.filter(kind=RecordKind.VOID.value).row(0, named=True)
    assert (record["source"], record["id"], record["target"]) == ("s", "e2", 2)
    assert json.loads(record["data"]) == {"reason": 'ke"ying error'}
    assert (await pipe.ingestor.void(items[:1])).already_void == 1
    assert (await pipe.ingestor.submit(checked(event(id="e2")))).duplicates == 1


async def test_two_voids_at_once_void_once(pipe):
    """Within one group the second of two voids finds it void."""
    await pipe.ingestor.submit(checked(event()))
    item = VoidItem(index=0, source="s", id="e1", reason="")
    told = await asyncio.gather(pipe.ingestor.void([item]), pipe.ingestor.void([item]))
    assert [(each.voided, each.already_void) for each in told] == [(1, 0), (0, 1)]


def naive(bodies: list[list[tuple[str, int]]]) -> list[tuple[int, int, int]]:
    """What a dictionary makes of bodies of (id, tokens), one after another."""
    said: dict[str, int] = {}
    told = []
    for body in bodies:
        counts = [0, 0, 0]
        for identity, tokens in body:
            counts[0 if identity not in said else 1 if said[identity] == tokens else 2] += 1
            said.setdefault(identity, tokens)
        told.append(tuple(counts))
    return told


small = st.lists(st.tuples(st.sampled_from("abcdef"), st.integers(0, 1)), max_size=6)


@settings(max_examples=60, deadline=None)
@given(bodies=st.lists(small, max_size=6), group_events_max=st.sampled_from([1, 4, 100]))
def test_any_grouping_counts_like_a_dictionary(bodies, group_events_max):
    """However bodies fall into groups, each event is accepted, a duplicate or rejected, once."""

    async def run() -> list[tuple[int, int, int]]:
        pipe = Pipe(IngestLimits(group_events_max=group_events_max))
        ready = [checked(*(event(id=i, data={"tokens": n}) for i, n in body)) for body in bodies]
        told = await asyncio.gather(*map(pipe.ingestor.submit, ready))
        await pipe.ingestor.close()
        assert len(kept(pipe.log)) == len(set(kept(pipe.log)))
        return [(each.accepted, each.duplicates, len(each.rejected)) for each in told]

    told = asyncio.run(run())
    assert told == naive(bodies)
    assert [sum(counts) for counts in told] == [len(body) for body in bodies]


def test_times_in_fakes_are_valid():
    """The usual event is accepted, or every test above would prove nothing."""
    assert len(checked(event(time=TIME))) == 1
