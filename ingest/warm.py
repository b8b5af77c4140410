"""Compile the kernels before they are needed: the first event must not wait for a compiler.

    python -m ingest.warm

Compiled code is kept beside the modules (or where ``NUMBA_CACHE_DIR`` says), so this takes half a
minute once and a fraction of a second from then on.
"""

from __future__ import annotations

import numpy as np
import polars as pl
import pyarrow as pa

from catalog.clock import FixedClock
from ingest.batch import Body, IngestLimits
from ingest.dedupe import identities_of
from ingest.kernels import identities as tables
from ingest.scan import BodyReader, Plain
from ingest.tokens import find_tokens, number, objects, text
from ingest.values import IngestRules

_EVENT = b'{"id":"i","source":"s","type":"t","subject":"s","data":{"n":[1]}}'


def warm_up() -> None:
    """Call every kernel once, with arguments of the types it is always called with."""
    reader = BodyReader(limits=IngestLimits(), rules=IngestRules, clock=FixedClock(0))
    body = Body(content=_EVENT, content_type="application/json")
    records = reader.scan([Plain(body=body, lines=False)]).records
    reader.read(Body(content=_arrow(), content_type="application/vnd.apache.arrow.stream"))
    ids = identities_of(records, key=np.array([1, 2], np.uint64))
    ids.first()
    seq, content = np.zeros(1, np.int64), np.zeros(1, np.uint64)
    table = np.zeros((4, 4), np.uint64)
    tables.add(ids.low, ids.high, np.ones(1, np.int64), ids.content, table)
    tables.find(ids.low, ids.high, seq, content, table)
    tables.sorted_part(table, 0, 4, np.zeros((1, 4), np.uint64))
    rows, run = np.zeros(2, np.int64), np.zeros(2, np.int64)
    pairs, words = np.zeros(1 << 12, np.uint64), np.zeros(1, np.uint64)
    filters = (np.array([words.ctypes.data], np.int64), np.ones(1, np.uint64))
    tables.bloom_hits(ids.low, ids.high, seq, *filters, pairs, rows, run)
    mapped = [np.frombuffer(bytes(8), kind) for kind in ("<u8", "<u8", "<u8", "<u4")]
    fence = np.zeros(2, np.intp)
    tables.find_sorted(ids.low, ids.high, rows[:1], seq, content, (*mapped, fence), 1)
    warm_extraction()


def warm_extraction() -> None:
    """The same for those that read facts from events: all that a process of readers calls."""
    for found in find_tokens(pl.Series(['{"n":1}', "[]"]), ["data.n"]).values():
        text(found), number(found), objects({"n": found})


def _arrow() -> bytes:
    table = pa.table({name: ["x"] for name in ("id", "source", "type", "subject")})
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as stream:
        stream.write_table(table)
    return bytes(sink.getvalue())


if __name__ == "__main__":
    warm_up()
