"""Arrow and Parquet bodies: the same events as in JSON, and hostile bytes that stay harmless."""

from __future__ import annotations

import io
import json
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from catalog.clock import to_micros
from ingest.batch import Body, Decoded, IngestLimits, TooManyEvents, UnreadableBody
from ingest.decode import decode
from ingest.validate import validate
from tests.unit.ingest.fakes import event, rows_of, standard

ARROW, PARQUET = "application/vnd.apache.arrow.stream", "application/vnd.apache.parquet"
FORMS = [ARROW, PARQUET]


def packed(table: pa.Table, form: str, **options: Any) -> bytes:
    """A table as a body."""
    sink = io.BytesIO()
    if form == PARQUET:
        pq.write_table(table, sink, **options)
    else:
        with pa.ipc.new_stream(
            sink, table.schema, options=pa.ipc.IpcWriteOptions(**options)
        ) as out:
            out.write_table(table)
    return sink.getvalue()


def table(count: int = 3, **columns: Any) -> pa.Table:
    """Events with further or other columns; a column that is None is left out."""
    usual = {
        "id": [f"e{n}" for n in range(count)],
        "source": ["s"] * count,
        "type": ["t"] * count,
        "subject": ["acme"] * count,
    }
    chosen = {name: column for name, column in (usual | columns).items() if column is not None}
    return pa.table(chosen)


def read(content: bytes, form: str, **limits: int) -> Decoded:
    """Decode a columnar body."""
    return decode(Body(content=content, content_type=form), IngestLimits(**limits))


def codes(decoded: Decoded) -> list[tuple[int, str]]:
    """(index, code) of every rejection."""
    return [(rejection.index, rejection.code.value) for rejection in decoded.rejected]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("shape", ["struct", "text", "columns", "polars", "dictionary"])
def test_columnar_bodies_say_what_json_says(form, shape):
    """However data is laid out, the same events come out as from JSON."""
    rows = [event(id=f"e{n}", data={"model": f'm"{n}', "tokens": n}) for n in range(5)]
    expected = decode(Body(content=json.dumps(rows).encode(), content_type="application/json"))
    frame = pl.DataFrame(rows).with_columns(pl.col("time").str.to_datetime(time_zone="UTC"))
    if shape in {"text", "dictionary"}:
        frame = frame.with_columns(data=pl.Series([json.dumps(row["data"]) for row in rows]))
    if shape == "columns":
        frame = frame.unnest("data").rename({"model": "data.model", "tokens": "data.tokens"})
    arrow = frame.to_arrow()
    if shape == "dictionary":
        arrow = pa.table({name: arrow[name].dictionary_encode() for name in arrow.column_names if name != "time"}).append_column("time", arrow["time"])  # fmt: skip # noqa: E501
    content = packed(arrow, form)
    if shape == "polars":
        sink = io.BytesIO()
        frame.write_parquet(sink) if form == PARQUET else frame.write_ipc_stream(sink)
        content = sink.getvalue()
    found = rows_of(validate(read(content, form), standard()))
    wanted = rows_of(validate(expected, standard()))
    same = [{k: row[k] for k in ("id", "subject", "time", "time_given")} for row in wanted]
    assert [{k: row[k] for k in same[0]} for row in found] == same
    assert [json.loads(row["data"]) for row in found] == [row["data"] for row in rows]


@pytest.mark.parametrize("form", FORMS)
def test_times_are_exact_or_invalid(form):
    """Every unit and zone is an instant; a fraction of a microsecond is refused, not cut."""
    micros = 1_762_164_900_120_000
    given = {
        "s": (pa.timestamp("s"), micros // 10**6, micros // 10**6 * 10**6),
        "ms": (pa.timestamp("ms"), micros // 1000, micros),
        "us": (pa.timestamp("us", "Europe/Berlin"), micros + 1, micros + 1),
        "ns": (pa.timestamp("ns", "UTC"), micros * 1000, micros),
        "ns+1": (pa.timestamp("ns"), micros * 1000 + 1, None),
        "far": (pa.timestamp("us"), 2**62, None),
        "text": (pa.string(), "2025-11-03T10:15:00.120+00:00", micros),
        "bare": (pa.string(), "2025-11-03T10:15:00.120", None),
        "date": (pa.date32(), 20_000, None),
        "number": (pa.int64(), micros, None),
        "struct": (pa.struct([("t", pa.int64())]), {"t": 1}, None),
    }
    for name, (kind, value, expected) in given.items():
        if form == PARQUET and name == "s":
            continue  # Parquet has no seconds
        body = packed(table(2, time=pa.array([value, None], kind)), form)
        checked = validate(read(body, form), standard())
        times = [row["time"] and to_micros(row["time"]) for row in rows_of(checked)]
        assert times == ([None] if expected is None else [expected, None]), name
        reasons = [(rejection.index, rejection.code.value) for rejection in checked.rejected]
        assert reasons == ([(0, "invalid_time")] if expected is None else []), name


def test_typed_data_becomes_exact_json():
    """Each type has one spelling in JSON; what is null is absent."""
    moment = datetime(2026, 11, 3, 10, 15, 0, 7, tzinfo=UTC)
    data = {
        "int": pa.array([2**63 - 1], pa.int64()),
        "uint": pa.array([2**64 - 1], pa.uint64()),
        "float": pa.array([0.1]),
        "nan": pa.array([float("nan")]),
        "decimal": pa.array([Decimal("12345678901234567.123456789")], pa.decimal128(38, 9)),
        "bool": pa.array([True]),
        "text": pa.array(['é "q" \\ \n\x01']),
        "none": pa.array([None], pa.int64()),
        "null": pa.nulls(1),
        "at": pa.array([moment], pa.timestamp("us", "UTC")),
        "list": pa.array([[1, None, 3]]),
        "o.p": pa.array([1]),
        "o.q": pa.array([None], pa.string()),
        "empty.x": pa.array([None], pa.string()),
        "struct": pa.array([{"a": "b", "c": None}]),
    }
    body = packed(table(1, **{f"data.{name}": column for name, column in data.items()}), ARROW)
    kept = read(body, ARROW).events
    assert json.loads(kept.data[0], parse_float=str) == {
        "int": 2**63 - 1,
        "uint": 2**64 - 1,
        "float": "0.1",
        "nan": "NaN",
        "decimal": "12345678901234567.123456789",
        "bool": True,
        "text": 'é "q" \\ \n\x01',
        "at": "2026-11-03T10:15:00.000007Z",
        "list": [1, None, 3],
        "o": {"p": 1},
        "struct": {"a": "b"},
    }


@pytest.mark.parametrize("form", FORMS)
def test_rows_are_rejected_one_by_one(form):
    """A row without what an event needs is rejected by its index; its neighbours stand."""
    texts = ["{}", '{"a":1,"a":2}', "[]", "{", None, "null", '{"a":{"b":[1]}}', '{"a":[1', "2]},{}"]
    columns = table(9, id=["a", "b", "c", "d", "e", "f", "g", "h", "i"], data=texts)
    decoded = read(packed(columns, form), form)
    assert codes(decoded) == [
        (1, "invalid_json"), (2, "invalid_field"), (3, "invalid_json"),
        (7, "invalid_json"), (8, "invalid_json"),
    ]  # fmt: skip
    assert decoded.events.data == ["{}", "{}", "{}", '{"a":{"b":[1]}}']
    flawed = table(3, subject=["x", None, "z"], specversion=["1.0", "1.0", "0.3"])
    assert codes(read(packed(flawed, form), form)) == [(1, "missing_field"), (2, "invalid_field")]
    assert codes(read(packed(table(2, type=None), form), form)) == [(0, "missing_field"), (1, "missing_field")]  # fmt: skip # noqa: E501
    assert codes(read(packed(table(1, id=[5]), form), form)) == [(0, "invalid_field")]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    "columns",
    [
        {"data": [1, 2, 3]},
        {"data": ["{}"] * 3, "data.x": [1, 2, 3]},
        {"data.x": [1, 2, 3], "data.x.y": [1, 2, 3]},
        {"data.x": pa.array([b"1", b"2", b"3"], pa.binary())},
        {"data.x": pa.array([1, 2, 3], pa.time64("us"))},
    ],
)
def test_columns_that_cannot_be_data(form, columns):
    """A body whose columns contradict each other, or are no JSON, is refused whole."""
    with pytest.raises(UnreadableBody):
        read(packed(table(3, **columns), form), form)


def test_columns_nobody_reads_may_be_anything():
    """Extensions are passed over, whatever their type."""
    odd = table(1, blob=pa.array([b"x"], pa.binary()), span=pa.array([1], pa.duration("s")))
    assert read(packed(odd, ARROW), ARROW).received == 1


def test_two_columns_of_one_name():
    """Which of them counts would be a guess."""
    twice = pa.Table.from_arrays([pa.array(["a"])] * 2, names=["id", "id"])
    with pytest.raises(UnreadableBody):
        read(packed(twice, ARROW), ARROW)
    fields = pa.StructArray.from_arrays([pa.array([1])] * 2, names=["n", "n"])
    with pytest.raises(UnreadableBody):
        read(packed(table(1, data=fields), ARROW), ARROW)


def test_a_second_stream_is_not_lost():
    """Two streams in one body: reading only the first would lose events in silence."""
    one = packed(table(1), ARROW)
    with pytest.raises(UnreadableBody):
        read(one + one, ARROW)


@pytest.mark.parametrize("form", FORMS)
def test_too_many_rows(form):
    """The limit counts rows, however few bytes they take."""
    with pytest.raises(TooManyEvents):
        read(packed(table(11), form), form, events_max=10)


BIG = 200_000


@pytest.mark.parametrize(
    ("form", "options"),
    [
        (ARROW, {"compression": "zstd"}),
        (ARROW, {"compression": "lz4"}),
        (PARQUET, {"compression": "zstd", "use_dictionary": False}),
        (PARQUET, {"compression": "zstd", "use_dictionary": True}),
    ],
)
def test_compressed_columns_inflate_within_the_limit(form, options):
    """What a body says it will be is checked before it is."""
    body = packed(table(10, data=['{"a":"' + "x" * BIG + '"}'] * 10), form, **options)
    assert len(body) < BIG
    with pytest.raises(UnreadableBody, match="inflates"):
        read(body, form, inflated_bytes_max=5 * BIG)
    assert read(body, form, inflated_bytes_max=11 * BIG).received == 10


@pytest.mark.parametrize("form", FORMS)
def test_what_nobody_reads_must_not_inflate_either(form):
    """A column that is passed over is inflated all the same, so its size is asked first."""
    blob = pa.array([b"x" * BIG] * 10, pa.binary())
    options = {"use_dictionary": False} if form == PARQUET else {}
    body = packed(table(10, blob=blob), form, compression="zstd", **options)
    with pytest.raises(UnreadableBody, match="inflates"):
        read(body, form, inflated_bytes_max=5 * BIG)


@pytest.mark.parametrize("kind", ["dictionary", "view"])
def test_repeated_text_counts_as_often_as_it_stands(kind):
    """A few bytes may stand for gigabytes in a dictionary or behind views."""
    text = pa.array(["x" * BIG])
    if kind == "dictionary":
        column = pa.DictionaryArray.from_arrays(pa.array([0] * 1000, pa.int32()), text)
    else:
        view = text.cast(pa.string_view())
        buffers = view.buffers()
        repeated = pa.py_buffer(buffers[1].to_pybytes() * 1000)
        column = pa.Array.from_buffers(pa.string_view(), 1000, [None, repeated, *buffers[2:]])
    body = packed(table(1000, **{"data.x": column}), ARROW)
    assert len(body) < 2 * BIG
    with pytest.raises(UnreadableBody, match="inflates"):
        read(body, ARROW)


def test_offsets_are_not_trusted():
    """An offset beyond the buffer is refused before anything follows it."""
    content = packed(table(3), ARROW)
    offsets = b"".join(n.to_bytes(4, "little") for n in (0, 2, 4, 6))
    assert offsets in content
    broken = content.replace(offsets, offsets[:12] + (10**6).to_bytes(4, "little"))
    with pytest.raises(UnreadableBody):
        read(broken, ARROW)


def test_text_that_is_not_utf8():
    """Arrow does not look; we do."""
    content = packed(table(1, id=["@@@"]), ARROW)
    with pytest.raises(UnreadableBody):
        read(content.replace(b"@@@", b"\xff\xfe\xfd"), ARROW)
