"""Whatever bytes come, every decoder answers: with events, rejections, or one of four errors."""

from __future__ import annotations

import contextlib
import io
import json
import random

import polars as pl
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ingest.batch import (
    Body,
    BodyTooLarge,
    Decoded,
    EmptyBody,
    IngestLimits,
    TooManyEvents,
    UnreadableBody,
)
from ingest.decode import decode
from ingest.inflate import inflate
from ingest.validate import validate
from tests.unit.ingest.fakes import event, rows_of, standard

ROWS = [event(id=f"e{n}", data={"model": "é", "tokens": n, "o": {"p": [1.5]}}) for n in range(4)]
FRAME = pl.DataFrame(ROWS)


def arrow(compression: str | None = None) -> bytes:
    """The rows as an Arrow stream."""
    sink = io.BytesIO()
    table = FRAME.to_arrow()
    options = pa.ipc.IpcWriteOptions(compression=compression)
    with pa.ipc.new_stream(sink, table.schema, options=options) as out:
        out.write_table(table)
    return sink.getvalue()


def parquet() -> bytes:
    """The rows as a Parquet file."""
    sink = io.BytesIO()
    FRAME.write_parquet(sink)
    return sink.getvalue()


ARROW, PARQUET = "application/vnd.apache.arrow.stream", "application/vnd.apache.parquet"
BODIES = {
    "array": ("application/json", json.dumps(ROWS).encode()),
    "escaped": ("application/json", json.dumps(ROWS, ensure_ascii=False, indent=1).encode()),
    "one": ("application/cloudevents+json", json.dumps(ROWS[0]).encode()),
    "lines": ("application/x-ndjson", "\n".join(map(json.dumps, ROWS)).encode()),
    "arrow": (ARROW, arrow()),
    "arrow zstd": (ARROW, arrow("zstd")),
    "parquet": (PARQUET, parquet()),
}


def answers(media: str, content: bytes) -> Decoded | None:
    """Decode and validate; whatever comes out accounts for every event."""
    try:
        decoded = decode(Body(content=content, content_type=media))
    except (UnreadableBody, EmptyBody, TooManyEvents):
        return None
    checked = validate(decoded, standard())
    indexes = [*checked.index, *(rejection.index for rejection in checked.rejected)]
    assert sorted(indexes) == list(range(decoded.received))
    for row in rows_of(checked):
        assert isinstance(json.loads(row["data"]), dict)
    return decoded


def mutated(content: bytes, seed: int) -> bytes:
    """A body with a few bytes changed, dropped, doubled or moved."""
    choose = random.Random(seed)
    changed = bytearray(content)
    for _ in range(choose.randint(1, 6)):
        place, size = choose.randrange(len(changed)), choose.choice([1, 1, 1, 4, 8, 30])
        match choose.randrange(5):
            case 0:
                changed[place] = choose.randrange(256)
            case 1:
                del changed[place : place + size]
            case 2:
                changed[place:place] = changed[place : place + size]
            case 3:
                changed[place : place + size] = bytes([choose.choice([0, 255, 127])]) * size
            case 4:
                changed[place] ^= 1 << choose.randrange(8)
        changed = changed or bytearray(b"[")
    return bytes(changed)


@pytest.mark.parametrize("name", BODIES)
def test_the_bodies_to_mutate_are_good(name):
    """Or the tests below would only ever see refusals."""
    media, content = BODIES[name]
    decoded = answers(media, content)
    assert decoded is not None
    assert (decoded.received, decoded.rejected) == (1 if name == "one" else 4, [])


@pytest.mark.parametrize("name", BODIES)
def test_mutated_bodies(name):
    """Almost right is where parsers break."""
    media, content = BODIES[name]
    for seed in range(400):
        answers(media, mutated(content, seed))


@pytest.mark.parametrize("name", BODIES)
def test_cut_bodies(name):
    """A body that ends anywhere is whole, refused, or lines of which the last is rejected."""
    media, content = BODIES[name]
    for end in range(0, len(content), 7):
        answers(media, content[:end])


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    media=st.sampled_from([media for media, _ in BODIES.values()]),
    content=st.one_of(
        st.binary(max_size=200),
        st.text('[]{}",:\\ \n0123456789eE+-.truefalsn\ud800\x00', max_size=60).map(
            lambda text: text.encode(errors="surrogatepass")
        ),
    ),
)
def test_random_bytes(media, content):
    """Nothing at all right about them."""
    answers(media, content)


@settings(max_examples=200, deadline=None)
@given(encoding=st.sampled_from(["gzip", "zstd"]), content=st.binary(max_size=100))
def test_random_encodings(encoding, content):
    """No bytes break the inflaters."""
    with contextlib.suppress(UnreadableBody, BodyTooLarge):
        inflate(content, encoding, IngestLimits())
