"""The compiled scanner in several threads at once, as gateways read packed and large bodies."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

from catalog.clock import FixedClock
from ingest.batch import Body, IngestLimits
from ingest.scan import BodyReader
from ingest.values import IngestRules

THREADS, TURNS, EVENTS = 6, 60, 300
JSON = "application/cloudevents-batch+json"
NOW_US = 1_770_000_000_000_000


def body_of(thread: int, turn: int) -> Body:
    """A body that no other thread or turn has."""
    events = ",".join(
        f'{{"id":"{thread}-{turn}-{number}","source":"s","type":"t","subject":"c-{number}",'
        f'"time":"2026-01-15T12:00:00Z","data":{{"n":{number},"nested":{{"list":[1,[2,"x"]]}}}}}}'
        for number in range(EVENTS)
    )
    return Body(content=f"[{events}]".encode(), content_type=JSON)


def test_threads_do_not_see_each_other() -> None:
    """Each body is read as it was sent: a thread's scratch memory is its own until it is done."""
    begin = threading.Barrier(THREADS)

    def read_all(thread: int) -> None:
        reader = BodyReader(limits=IngestLimits(), rules=IngestRules, clock=FixedClock(NOW_US))
        begin.wait()
        for turn in range(TURNS):
            checked = reader.read(body_of(thread, turn))
            ids = checked.records.column("id").to_pylist()
            assert ids == [f"{thread}-{turn}-{number}" for number in range(EVENTS)]

    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(read_all, range(THREADS)))
