"""A node that has taken 50 million events already: its index, and a log that ends where it does."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa

from bench.dedupe.identities import identities
from bench.dedupe.retained import copied, retained
from bench.dedupe.stores import RETAINED_DAYS
from bench.registry import Context
from catalog.clock import FixedClock, Micros
from catalog.events import RecordKind
from catalog.ids import NodeId, Seq
from ingest.batch import APPENDED, to_records
from storage.log.identity_index import DAY_US
from storage.log.layout import INDEX_NAME, segment_name
from storage.log.node_log import NodeLog
from storage.log.sealed import Manifest, encode_manifest


def attach_retained(context: Context, directory: Path, *, node: str) -> int:
    """Make ``directory`` a node's log behind 50 million events; answers its last seq.

    The sealed segment of all events but the last is a manifest without its Parquet file: the
    gateway reads no more of it, for the index covers what is in it. Nothing else may read this.
    """
    kept = retained(context, "ours")
    directory.mkdir(parents=True)
    copied(kept.path, directory / INDEX_NAME)
    _forge_segment(directory, NodeId(node), kept.count - 1, kept.last_received_at - 1)
    log = NodeLog.open(directory, node=NodeId(node), clock=FixedClock(kept.last_received_at))
    log.append(_last_event(kept.count - 1))
    log.sync()
    log.close()
    return kept.count


def _forge_segment(directory: Path, node: NodeId, last_seq: int, last_received_at: int) -> None:
    path = directory / f"{segment_name(1, last_seq)}.parquet"
    manifest = Manifest(
        node=node,
        first_seq=Seq(1),
        last_seq=Seq(last_seq),
        first_received_at=Micros(last_received_at - RETAINED_DAYS * DAY_US),
        last_received_at=Micros(last_received_at),
        first_time=None,
        last_time=None,
        counts=(("event", last_seq),),
        sha256="",
        bytes=0,
        path=path,
    )
    path.with_suffix(".json").write_bytes(encode_manifest(manifest))


def _last_event(number: int) -> pa.RecordBatch:
    identity = identities(np.array([number], np.uint64))
    event = {
        "kind": RecordKind.EVENT,
        "source": identity.source[0].as_py(),
        "id": identity.id[0].as_py(),
        "type": "llm.completion",
        "subject": "cust-1",
        "time_given": False,
        "data": "{}",
    }
    return to_records(pl.DataFrame([event], schema=APPENDED))
