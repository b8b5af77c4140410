"""Realistic events, and the requests that carry them. Every identity is made once."""

from __future__ import annotations

import io
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

MODELS = ("gpt-4", "gpt-4-mini", "claude-x", "llama-3-70b", "mistral-l")
REGIONS = ("eu", "us", "ap")
CUSTOMERS = 10_000
ID_BYTES = 12

CATALOG = {
    "meters": {
        "tokens": {
            "event_type": "llm.completion",
            "aggregation": "sum",
            "value": "data.tokens",
            "dimensions": {"model": "data.model", "region": "data.region"},
        },
        "requests": {
            "event_type": "llm.completion",
            "aggregation": "count",
            "dimensions": {"model": "data.model"},
        },
    },
}
"""What is metered while events come in: two facts an event."""

_DATA = '{"model":"{}","region":"{}","tokens":{},"prompt_tokens":{},"user":"u-{}"}'
_EVENT = (
    '{"specversion":"1.0","id":"{}","source":"gateway","type":"llm.completion",'
    '"subject":"{}","time":"{}","data":{}}'
)


def make_events(count: int, *, seed: int, data: str = "data") -> pl.DataFrame:
    """``count`` events received about now: id, source, type, subject, time, ``data`` as JSON text.

    Ids are 96 random bits in hex, so two seeds have none in common.
    """
    rng = np.random.default_rng(seed)
    ids = np.frombuffer(rng.bytes(ID_BYTES * count), f"V{ID_BYTES}").tolist()
    now_us = time.time_ns() // 1_000
    frame = pl.DataFrame(
        {
            "id": pl.Series(ids, dtype=pl.Binary).bin.encode("hex"),
            "subject": rng.zipf(1.3, count) % CUSTOMERS,
            "time": now_us - rng.integers(0, 60_000_000, count),
            "model": pl.Series(MODELS)[rng.integers(0, len(MODELS), count)],
            "region": pl.Series(REGIONS)[rng.integers(0, len(REGIONS), count)],
            "tokens": rng.integers(1, 8_000, count),
            "prompt": rng.integers(1, 4_000, count),
            "user": rng.integers(0, 100_000, count),
        }
    )
    return frame.select(
        id=pl.format("req-{}", "id"),
        source=pl.lit("gateway"),
        type=pl.lit("llm.completion"),
        subject=pl.format("cust-{}", "subject"),
        time=pl.from_epoch("time", time_unit="us").dt.replace_time_zone("UTC"),
        data=_filled(_DATA, "model", "region", "tokens", "prompt", "user"),
    ).rename({"data": data})


def _filled(template: str, *columns: str) -> pl.Expr:
    """``pl.format`` for a template that has braces of its own."""
    literals = template.split("{}")
    parts: list[pl.Expr] = [pl.lit(literals[0])]
    for column, literal in zip(columns, literals[1:], strict=True):
        parts += [pl.col(column).cast(pl.String), pl.lit(literal)]
    return pl.concat_str(parts)


def json_bodies(events: pl.DataFrame, *, batch: int) -> list[bytes]:
    """The events as JSON arrays of ``batch``, or as single objects where it is 1."""
    stamp = pl.col("time").dt.strftime("%Y-%m-%dT%H:%M:%S%.3fZ")
    texts = events.with_columns(time=stamp).select(
        text=_filled(_EVENT, "id", "subject", "time", "data")
    )["text"]
    if batch == 1:
        return [text.encode() for text in texts.to_list()]
    every = texts.to_list()
    return [f"[{','.join(every[at : at + batch])}]".encode() for at in range(0, len(every), batch)]


def arrow_bodies(events: pl.DataFrame, *, batch: int) -> list[bytes]:
    """The events as Arrow streams of ``batch`` rows each."""
    bodies = []
    for part in events.iter_slices(batch):
        out = io.BytesIO()
        part.rechunk().write_ipc_stream(out, compat_level=pl.CompatLevel.oldest())
        bodies.append(out.getvalue())
    return bodies


@dataclass(frozen=True, slots=True, kw_only=True)
class Requests:
    """A file the generator sends, and what it holds."""

    path: Path
    requests: int
    events: int
    body_bytes: int


def write_requests(
    path: Path, bodies: Sequence[bytes], *, events: int, key: str, content_type: str
) -> Requests:
    """Write whole HTTP requests with ``bodies`` into a file for the generator."""
    head = (
        "POST /v1/events HTTP/1.1\r\nHost: bench\r\nAccept: application/json\r\n"
        f"Authorization: Bearer {key}\r\nContent-Type: {content_type}\r\nContent-Length: "
    ).encode()
    heads = [b"%s%d\r\n\r\n" % (head, len(body)) for body in bodies]
    sizes = [len(a) + len(b) for a, b in zip(heads, bodies, strict=True)]
    offsets = np.concatenate([[0], np.cumsum(sizes)]).astype("<u8")
    with path.open("wb") as file:
        file.write(np.array([len(bodies)], "<u8").tobytes())
        file.write(offsets.tobytes())
        file.writelines(_flattened(heads, bodies))
    return Requests(
        path=path, requests=len(bodies), events=events, body_bytes=sum(map(len, bodies))
    )


def _flattened(heads: Iterable[bytes], bodies: Iterable[bytes]) -> Iterable[bytes]:
    for head, body in zip(heads, bodies, strict=True):
        yield head
        yield body
