"""The load test's parts: bodies are the client's, figures add up, the verdict is what was seen."""

from __future__ import annotations

import json
import math
import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tallyman_client import Event
from tallyman_client._encoding import batch_body as client_body
from tallyman_client._encoding import encode_event

from bench.traffic.business import EVENT_TYPE
from bench.traffic.events import SOURCE, batch_body, event_text
from bench.traffic.page import CHARTS, DATA, PAGE, Report, write_report
from bench.traffic.samples import GROWTH, Samples, Tally, bucket_of, percentile_ms
from bench.traffic.verdict import DEFAULT_LIMITS, Counted, InvalidLimits, Limit, judge, read_limits

LIMIT = Limit(kind="check", p99_ms=10, failed_share=0.5)
TIME = "2026-11-03T10:15:00.120000Z"


def test_an_event_is_byte_by_byte_the_clients():
    """The fast writer and ``tallyman_client`` agree, so the load is what products send."""
    data = {"run": "run-1", "model": "gpt-4", "tokens": 7}
    event = Event(id="a-0", source=SOURCE, type=EVENT_TYPE, subject="load-3", time=TIME, data=data)
    ours = event_text(id="a-0", subject="load-3", time=TIME, run="run-1", model="gpt-4", tokens=7)
    assert ours.encode() == encode_event(event, allow_floats=False)


def test_a_body_has_as_many_new_events_as_asked():
    """A batch is the client's batch of its events, each with an identity of its own."""
    body = batch_body(50, run="r", customers=3, rng=random.Random(1))
    events = json.loads(body)
    assert len({event["id"] for event in events}) == 50
    again = client_body([json.dumps(event, separators=(",", ":")).encode() for event in events])
    assert body == again


@given(st.lists(st.floats(0.05, 60_000), min_size=1), st.sampled_from([1, 50, 90, 99, 100]))
def test_a_percentile_is_never_better_than_it_was(latencies: list[float], percent: int):
    """A bucket answers its upper bound: at most its width above the percentile by sorting."""
    samples = Samples()
    for ms in latencies:
        samples.answered(1, "check", ms)
    exact = sorted(latencies)[math.ceil(len(latencies) * percent / 100) - 1]
    found = percentile_ms(samples.histogram("check"), percent)
    assert exact * 0.999_999 <= found <= exact * GROWTH * 1.000_001


def test_what_processes_saw_adds_up():
    """Samples of two processes, sent as JSON, are those of one that saw everything."""
    one, other, both = Samples(), Samples(), Samples()
    for number in range(100):
        for samples in (both, one if number % 3 else other):
            samples.answered(number, f"kind {number % 2}", 1.5 ** (number % 9))
            samples.count(number, Tally.EVENTS, "acknowledged", number)
    one.add(Samples.of_json(json.loads(json.dumps(other.to_json()))))
    assert one == both
    assert one.total(Tally.EVENTS, "acknowledged") == sum(range(100))
    assert one.span() == (0, 99)


def seen(*, well: int = 0, ms: float = 1.0, failed: int = 0) -> Samples:
    """So many answers of a kind."""
    samples = Samples()
    for _ in range(well):
        samples.answered(1, "check", ms)
    if failed:
        samples.count(1, Tally.FAILED, "check", failed)
    return samples


@pytest.mark.parametrize(
    ("samples", "missed"),
    [
        (seen(well=100), []),
        (seen(well=100, ms=50), ["check: p99 5"]),
        (seen(well=4, failed=5), ["check: 55.56% failed, 50.00% may"]),
        (seen(failed=1), ["check: 100.00% failed, 50.00% may"]),
        (seen(), ["check: never asked for"]),
    ],
)
def test_a_limit_is_kept_or_missed(samples: Samples, missed: list[str]):
    """Too slow, too many failures, nothing at all: each is named."""
    verdict = judge(samples, [LIMIT])
    assert verdict.passed == (not missed)
    assert [
        line[: len(start)] for line, start in zip(verdict.missed, missed, strict=True)
    ] == missed


@pytest.mark.parametrize(
    ("acknowledged", "unanswered", "counted", "agrees"),
    [
        (10, 0, 10, True),
        (10, 3, 12, True),
        (10, 0, 9, False),
        (10, 3, 14, False),
        (0, 0, None, False),
    ],
)
def test_everything_acknowledged_is_counted_once(
    acknowledged: int, unanswered: int, counted: int | None, agrees: bool
):
    """Fewer is a loss, more is an invention; only what got no answer may be either."""
    said = Counted(what="events", acknowledged=acknowledged, unanswered=unanswered, counted=counted)
    assert said.agrees == agrees
    assert judge(seen(well=1), [LIMIT], [said]).passed == agrees


def test_limits_are_read_from_a_file(tmp_path: Path):
    """The default ones are valid; a file that is not as they are is refused, by its name."""
    assert {limit.kind for limit in read_limits(DEFAULT_LIMITS)} >= {"post one", "consume"}
    for wrong in ("", "kinds = 1", "[kinds.check]\np99_ms = -1\nfailed_share = 0", "[kinds"):
        path = tmp_path / "limits.toml"
        path.write_text(wrong)
        with pytest.raises(InvalidLimits):
            read_limits(path)


def test_a_report_of_an_idle_run_can_be_read(tmp_path: Path):
    """Nothing was answered: the page says so instead of failing."""
    samples = seen(failed=3)
    report = Report(title="<idle>", samples=samples, verdict=judge(samples, [LIMIT]), facts={})
    page = write_report(tmp_path / "out", report).read_text()
    assert "&lt;idle&gt;" in page
    assert {each.name for each in (tmp_path / "out").iterdir()} == {PAGE, CHARTS, DATA}
    assert bucket_of(0) == 0
