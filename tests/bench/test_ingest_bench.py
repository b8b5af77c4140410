"""The harness end to end, tiny: real gateway, real sink, the compiled generator."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import polars as pl
import pytest

from bench.gate import BenchFailed
from bench.ingest.against_sink import Shape, measure_throughput
from bench.ingest.servers import KEY, running_sink
from bench.load.business import business
from bench.load.events import arrow_bodies, json_bodies, make_events, write_requests
from bench.load.generator import Generator, Load
from bench.registry import Context

pytestmark = pytest.mark.skipif(
    not any(map(shutil.which, ("cc", "gcc", "clang"))), reason="the load generator is C"
)


@pytest.fixture
def context(tmp_path_factory: pytest.TempPathFactory) -> Context:
    """Two rounds on one core, in directories short enough for sockets."""
    base = Path(tmp_path_factory.getbasetemp())
    cache, scratch = base / "bench-cache", base / "b"
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir()
    return Context(scratch=scratch, cache=cache, load_core=0, rounds=2, quick=True)


def test_events_are_all_different():
    """No identity twice, within a seed and between two."""
    both = make_events(2_000, seed=1)["id"].extend(make_events(2_000, seed=2)["id"])
    assert both.n_unique() == 4_000


def test_every_kind_of_body_says_the_same_events():
    """Those whom JSON and Arrow bodies name are the customers that the readers serve."""
    events = make_events(200, seed=3)
    (array,) = json_bodies(events, batch=200)
    singles = [json.loads(body) for body in json_bodies(events, batch=1)]
    (stream,) = arrow_bodies(events, batch=200)
    said = json.loads(array)
    assert said == singles
    named = pl.DataFrame([{name: event[name] for name in ("id", "subject")} for event in said])
    assert named.equals(pl.read_ipc_stream(stream).select("id", "subject"))
    assert not set(business()["customers"]).isdisjoint(named["subject"])


def test_json_against_the_sink(context: Context):
    """The gateway accepts each event once, and the log says so too."""
    shape = Shape(
        batch=50,
        connections=4,
        events=500,
        bodies=json_bodies,
        content_type="application/cloudevents-batch+json",
    )
    measured = measure_throughput(context, shape)
    assert measured.paired is not None
    assert len(measured.paired.ours) == 2
    assert 0 < measured.figure < 10
    assert measured.method["batch"].startswith("50 a request")


def test_arrow_bodies_are_bodies(context: Context):
    """The gateway reads what the benchmark writes."""
    shape = Shape(
        batch=100,
        connections=2,
        events=300,
        bodies=arrow_bodies,
        content_type="application/vnd.apache.arrow.stream",
    )
    assert measure_throughput(context, shape).figure > 0


def test_the_generator_keeps_to_its_schedule(context: Context):
    """Open loop: about as long as the arrivals take, and a latency for each."""
    events = make_events(200, seed=5)
    requests = write_requests(
        context.scratch / "requests",
        json_bodies(events, batch=1),
        events=200,
        key=KEY,
        content_type="application/json",
    )
    generator = Generator.compiled(context.cache, core=0)
    with running_sink(context.scratch / "sink", core=0) as sink:
        load = Load(connections=8, rate=400)
        sent = generator.send(requests.path, port=sink.port, load=load)
    assert (sent.answered, sent.statuses) == (200, {"200": 200})
    assert 0.2 < sent.elapsed_s < 2
    assert (sent.latencies_ns > 0).all()


def test_a_generator_without_a_server_says_so(context: Context):
    """Not a figure of zero."""
    requests = write_requests(
        context.scratch / "requests", [b"{}"], events=1, key=KEY, content_type="application/json"
    )
    generator = Generator.compiled(context.cache, core=0)
    with pytest.raises(BenchFailed, match="connect"):
        generator.send(requests.path, port=1, load=Load(connections=1))
