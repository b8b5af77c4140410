"""The compiled scan says of any bodies what the careful decoder says, or leaves them to it."""

from __future__ import annotations

import io
import json
import random
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from catalog.clock import FixedClock
from catalog.errors import DomainError
from ingest.batch import Body, Checked, IngestLimits
from ingest.decode import decode
from ingest.group import EventsJob, Group, Outcome
from ingest.kernels.json_events import CAREFUL
from ingest.scan import BodyReader, Plain, Scanned, plain_body
from ingest.validate import Standard, validate
from ingest.values import IngestRules
from tests.unit.ingest.fakes import NOW, TIME, MemoryIndex, MemoryLog, event, rows_of
from tests.unit.ingest.test_decode_json import events as spelled_events
from tests.unit.ingest.test_decode_json import spaces
from tests.unit.ingest.test_validate import TOKENS, rules

JSON, LINES = "application/json", "application/x-ndjson"
ONE, BATCH = "application/cloudevents+json", "application/cloudevents-batch+json"
LIMITS = IngestLimits(events_max=20, event_bytes_max=4_000)


def reader(held: IngestRules | None = None, limits: IngestLimits = LIMITS) -> BodyReader:
    """A reader whose clock stands still."""
    found = held or rules(TOKENS)
    return BodyReader(limits=limits, rules=lambda: found, clock=FixedClock(NOW))


def body(content: str | bytes, media: str = JSON) -> Body:
    """A body of the given type."""
    return Body(
        content=content.encode("utf-8", "surrogatepass") if isinstance(content, str) else content,
        content_type=media,
    )


def carefully(given: Body, held: IngestRules | None = None) -> list[dict[str, Any]] | None:
    """What the careful way keeps of a body; None unless it keeps all of it."""
    standard = Standard(rules=held or rules(TOKENS), limits=LIMITS, now_us=NOW)
    try:
        checked = validate(decode(given, LIMITS), standard)
    except DomainError:
        return None
    return None if checked.rejected else rows_of(checked)


def by_body(scanned: Scanned) -> list[list[dict[str, Any]] | None]:
    """The rows of each body; None where it is to be read carefully."""
    rows, at, found = scanned.records.to_pylist(), 0, []
    for count in scanned.counts:
        taken = rows[at : at + max(count, 0)]
        found.append(
            None
            if count == CAREFUL
            else [row | {"index": index} for index, row in enumerate(taken)]
        )
        at += max(count, 0)
    assert at == len(rows)
    return found


def agree(bodies: list[Body]) -> int:
    """Check a group of bodies against the careful way; how many were plain."""
    plain = [one for one in map(plain_body, bodies) if one is not None]
    if not plain:
        return 0
    found = by_body(reader().scan(plain))
    for one, rows in zip(plain, found, strict=True):
        if rows is not None:
            assert rows == carefully(one.body), one.body.content
    return sum(rows is not None for rows in found)


tidy_values = st.one_of(
    st.integers(-(10**20), 10**20),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(st.characters(codec="utf-8", exclude_characters='"\\'), max_size=6),
    st.sampled_from([True, False, None, "12.5", "1e3", "-0.000000001", 0.1, 10**17, "0x1"]),
    st.lists(st.one_of(st.integers(), st.just({"a": 1})), max_size=3),
    st.dictionaries(st.sampled_from(["a", "b", "tokens"]), st.integers(), max_size=3),
)
tidy_events = st.fixed_dictionaries(
    {
        "id": st.text(st.characters(codec="utf-8"), min_size=1, max_size=10),
        "source": st.sampled_from(["gateway", "s" * 256, "s" * 257, "é" * 128]),
        "type": st.sampled_from(["t", "other", "llm.completion"]),
        "subject": st.just("acme"),
    },
    optional={
        "specversion": st.sampled_from(["1.0", "1.0", "1.0", "0.3", None]),
        "time": st.sampled_from([TIME, TIME, "2026-11-03T10:15:00+01:00", "2026-02-29", None,
                                 "2026-02-28T23:59:59.999999Z", "2099-01-01T00:00:00Z",
                                 "2026-11-03T09:15:00.1234567Z", "1999-12-31T23:59:59Z"]),
        "data": st.dictionaries(st.sampled_from(["tokens", "model", "n"]), tidy_values, max_size=3),
        "datacontenttype": st.sampled_from(["application/json", None, 5]),
        "traceparent": st.sampled_from(["00-1", 7, None, {"a": 1}]),
    },
)  # fmt: skip


def written(found: list[dict[str, Any]], choose: random.Random) -> Body:
    """Events as one of the forms a sender may choose."""
    separators = choose.choice([(",", ":"), (", ", ": ")])
    texts = [json.dumps(one, ensure_ascii=False, separators=separators) for one in found]
    form = choose.choice([JSON, BATCH, LINES, ONE])
    if form == LINES:
        return body("\n".join(texts) + choose.choice(["", "\n", "\r\n", "\n\n"]), LINES)
    if form == ONE or (form == JSON and len(texts) == 1):
        return body(texts[0], form)
    return body("[" + separators[0].join(texts) + "]", form)


@settings(max_examples=250, deadline=None)
@given(
    groups=st.lists(st.lists(tidy_events, min_size=1, max_size=3), min_size=1, max_size=5),
    seed=st.integers(0, 2**32),
)
def test_tidy_bodies_are_read_as_carefully(groups, seed):
    """Bodies as libraries write them, several in a group."""
    choose = random.Random(seed)
    agree([written(group, choose) for group in groups])


@settings(max_examples=150, deadline=None)
@given(texts=st.lists(spelled_events(), min_size=1, max_size=6), space=spaces)
def test_untidy_bodies_are_read_as_carefully(texts, space):
    """Bodies spelled in every way that JSON allows, and some that it does not."""
    lines = [text.replace("\n", " ").replace("\r", " ") for text in texts]
    agree(
        [
            body("[" + f"{space},".join(texts) + "]"),
            body("\n".join(lines), LINES),
            *(body(text, ONE) for text in texts),
        ]
    )


@settings(max_examples=400, deadline=None)
@given(seed=st.integers(0, 2**32))
@example(seed=0)
def test_mutated_bodies_never_mislead(seed):
    """Bytes changed, dropped, doubled: between two intact bodies, which stay intact."""
    choose = random.Random(seed)
    whole = json.dumps([event(id=f"e{n}", data={"tokens": n, "x": [1, {"a": "b"}]}) for n in "12"])
    broken = bytearray(whole.encode())
    for _ in range(choose.randint(1, 3)):
        place = choose.randrange(len(broken))
        match choose.randrange(4):
            case 0:
                broken[place] = choose.randrange(256)
            case 1:
                del broken[place : place + choose.randint(1, 9)]
            case 2:
                broken[place:place] = broken[place : place + choose.randint(1, 40)]
            case _:
                broken[place:place] = choose.choice([b'"', b"}", b"{", b",", b":", b"\\", b"\n"])
    first, last = body(whole), body(whole.replace("e1", "e3"))
    assert agree([first, body(bytes(broken)), last]) >= 2


def test_usual_bodies_are_plain():
    """What clients send does not go the slow way."""
    usual = [event(id=f"é{n}", data={"tokens": n, "region": "eu", "ok": True}) for n in range(3)]
    for separators in ((",", ":"), (", ", ": ")):
        texts = [json.dumps(one, ensure_ascii=False, separators=separators) for one in usual]
        bodies = [
            body("[" + ",".join(texts) + "]"),
            body("[ " + " , ".join(texts) + " ]", BATCH),
            body("\n".join(texts) + "\n", LINES),
            body("\r\n".join(texts), LINES),
            body(texts[0], ONE),
            body("[]"),
        ]
        assert agree(bodies) == len(bodies)


@pytest.mark.parametrize(
    ("data", "plain"),
    [
        ('{"tokens":1}', True),
        ('{"tokens":"17.25"}', True),
        ('{"tokens":null}', True),
        ("{}", True),
        ('{"tokens":123456789012345678}', False),
        ('{"tokens":"abc"}', False),
        ('{"tokens":[1]}', False),
        ('{"tokens":1e3}', False),
        ('{"other":{"deep":[1,2,{"a":"b"}]},"tokens":5}', True),
        ('{"tokens":1,"tokens":2}', False),
        ('{"tokens":1,"tokens":1}', False),
        ('{"a":{"b":1,"b":2}}', False),
        ('{"a":{"b":1},"b":2}', True),
        ('{"a":' * 30 + "1" + "}" * 30, False),
        ('{"tokens":01}', False),
        ('{"tokens":-}', False),
        ('{"tokens":1.}', False),
        ('{"tokens":.5}', False),
        ('{"tokens":truE}', False),
        ('{"":1}', False),
        ('{"x":"a\\nb"}', False),
        ('{"x":"a\tb"}', False),
    ],
)
def test_what_is_plain(data: str, plain: bool):
    """A value no meter may refuse, strict JSON, every key once."""
    attributes = '"id":"1","source":"s","type":"t","subject":"acme"'
    only = body("{" + attributes + ',"data":' + data + "}")
    assert agree([only]) == int(plain)


def test_every_body_is_answered_for_itself():
    """Broken bodies among good ones, a body cut off, and one with too many events."""
    good = json.dumps([event()])
    many = json.dumps([event(id=f"e{n}") for n in range(21)])
    bodies = [good, good[:-1], good[:-2], many, "[]", "[{}]", good, "{" + "[" * 9, good + good]
    found = by_body(reader().scan([Plain(body=body(text), lines=False) for text in bodies]))
    assert [None if rows is None else len(rows) for rows in found] == [
        1, None, None, None, 0, None, 1, None, None,
    ]  # fmt: skip


@pytest.mark.parametrize("source", ['"tallyman"', r'"\u0074allyman"'])
def test_nobody_else_records_as_the_service(source: str):
    """Its source is refused whichever way a body is read, and however it is spelled."""
    text = json.dumps([event(), event(id="e2", source="?")]).replace('"?"', source)
    checked = reader().read(body(text))
    assert [(one.index, one.code.value) for one in checked.rejected] == [(1, "invalid_field")]
    assert checked.records["id"].to_pylist() == [event()["id"]]


def test_a_careful_body_is_answered_with_its_reasons():
    """Reading one body whole falls back, and tells what the careful decoder tells."""
    checked = reader().read(body(json.dumps([event(), event(subject="")])))
    assert isinstance(checked, Checked)
    assert [one.code.value for one in checked.rejected] == ["invalid_field"]
    assert len(checked) == 1


column_events = st.lists(
    st.fixed_dictionaries(
        {
            "id": st.sampled_from(["a", "b", "é", "x" * 256]),
            "source": st.sampled_from(["s", "gateway"]),
            "type": st.sampled_from(["t", "llm.completion"]),
            "subject": st.one_of(st.just("acme"), st.sampled_from(["", "x" * 257, "n\0", None])),
            "time": st.sampled_from([None, NOW, NOW - 1, NOW + 10**9, NOW + 10**10, 5]),
            "data": st.sampled_from(
                ['{"tokens":5}', "{}", None, '{"tokens":"x"}', '{"a":"\\n"}', "[]", '{"a":1,"a":2}',
                 '{"tokens":1.25,"b":{"c":[1,2]}}', '{"tokens":1', ' {"a":1}', '{"a":1} x'],
            ),
        }
    ),
    min_size=1,
    max_size=4,
)  # fmt: skip


@settings(max_examples=200, deadline=None)
@given(
    found=column_events,
    form=st.sampled_from(["text", "typed", "dictionary", "chunks"]),
    parquet=st.booleans(),
    valid=st.booleans(),
)
def test_columns_are_read_as_carefully(found, form, parquet, valid):
    """An Arrow stream or a Parquet file, read plainly or not, says what the careful way says."""
    if valid:
        found = [row | {"subject": "acme", "time": NOW, "data": '{"tokens":5}'} for row in found]
    strings = {name: pa.array([row[name] for row in found], pa.string()) for name in found[0]
               if name not in {"time", "data"}}  # fmt: skip
    times = pa.array([row["time"] for row in found], pa.timestamp("us", "UTC"))
    table = pa.table({**strings, "time": times})
    texts = [row["data"] for row in found]
    if form == "typed":
        table = table.append_column("data.tokens", pa.array(range(len(found)), pa.int64()))
        table = table.append_column("data.share", pa.array([0.1] * len(found), pa.float64()))
    else:
        table = table.append_column("data", pa.array(texts, pa.large_string()))
    if form == "dictionary":
        table = table.set_column(
            table.schema.get_field_index("source"),
            "source",
            table.column("source").dictionary_encode(),
        )
    if form == "chunks":
        table = pa.concat_tables([table, table])
    sink = io.BytesIO()
    if parquet:
        pq.write_table(table, sink)
    else:
        with pa.ipc.new_stream(sink, table.schema) as stream:
            stream.write_table(table, max_chunksize=2)
    media = "application/vnd.apache." + ("parquet" if parquet else "arrow.stream")
    given_body = body(sink.getvalue(), media)
    standard = Standard(rules=rules(TOKENS), limits=LIMITS, now_us=NOW)
    expected = validate(decode(given_body, LIMITS), standard)
    told = reader().read(given_body)
    assert told.rejected == expected.rejected
    assert rows_of(told) == rows_of(expected)


def test_usual_columns_are_plain(monkeypatch):
    """What clients send does not go the slow way."""
    monkeypatch.setattr("ingest.scan.validate", None)
    rows = [{"id": f"e{n}", "source": "s", "type": "t", "subject": "a"} for n in range(5)]
    for extra in ({"data.tokens": 5, "data.model": "m"}, {"data": '{"tokens": 5}'}, {}):
        sink = io.BytesIO()
        table = pa.Table.from_pylist([row | extra for row in rows])
        with pa.ipc.new_stream(sink, table.schema) as stream:
            stream.write_table(table)
        arrow = body(sink.getvalue(), "application/vnd.apache.arrow.stream")
        assert len(reader().read(arrow)) == 5


def test_a_group_tells_each_body_its_own():
    """Plain bodies, refused events, broken bodies and copies in one group."""
    texts = [
        json.dumps([event()]),
        json.dumps([event(id=None)]),
        json.dumps([event(id=""), event(id="e2")]),
        json.dumps([event(), event(id="e3"), event(id="e2", data={"tokens": 6})]),
        json.dumps([event(id="e4")])[:-1],
        "[]",
    ]
    jobs = [EventsJob(plain=Plain(body=body(text), lines=False)) for text in texts]
    group = Group(index=MemoryIndex(), reader=MemoryLog(), bodies=reader())
    group.add(jobs)
    told = [
        (one.accepted, one.duplicates, [(each.index, each.code.value) for each in one.rejected])
        if isinstance(one, Outcome)
        else type(one).__name__
        for one in (job.outcome for job in jobs)
    ]
    assert told == [
        (1, 0, []),
        (0, 0, [(0, "missing_field")]),
        (0, 0, [(0, "invalid_field"), (1, "conflict")]),  # plain bodies come first in a group
        (2, 1, []),
        "UnreadableBody",
        (0, 0, []),
    ]
