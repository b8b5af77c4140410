"""``python -m bench.capacity``: what an event costs in bytes and processor time, for planning.

Posts events in batches to a service of its own, waits until every reader has them, and divides.
Processor time is the processes' own, so a busy machine does not change it much; nothing here is a
speed.
"""

from __future__ import annotations

import random
import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import httpx
import typer

from bench.gate import BenchFailed, expect
from bench.soak.parts import parts_of
from bench.traffic.__main__ import Started, own_service
from bench.traffic.business import document
from bench.traffic.events import CONTENT_TYPE, batch_body

CUSTOMERS = 1_000
FACTS_AN_EVENT = 2
LAG_MAX = 20
"""Heartbeats count as records: readers are never quite level."""

DRAIN_S_MAX = 900.0
_LAG = re.compile(
    r'^tallyman_reader_lag_records\{(?![^}]*reader="sealer")[^}]*\} (\S+)$', re.MULTILINE
)
"""What is not sealed yet is no lag: the file that is being written never is."""

STORES: Mapping[str, tuple[str, ...]] = {
    "log, sealed": ("nodes/*/segment-*",),
    "log, hot": ("nodes/*/hot-*",),
    "identity index": ("nodes/*/index/**/*",),
    "facts": ("facts/**/*",),
    "cells": ("cells/**/*",),
    "ClickHouse": ("clickhouse/**/*",),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Spent:
    """Processor seconds and memory of one process."""

    cpu_s: float
    rss_mib: float


def main(
    *,
    events: Annotated[int, typer.Option(help="How many.")] = 300_000,
    batch: Annotated[int, typer.Option(help="In a body.")] = 500,
) -> None:
    """Print a line for each store and process."""
    settings = {"TALLYMAN_LOG__HOT_BYTES_MAX": str(16 * 2**20)}
    with own_service(settings=settings) as service:
        with _client(service) as client:
            client.post("/v1/catalog", json={"document": document(CUSTOMERS)}).raise_for_status()
            before = dict(_spent(service))
            sent = _post(client, events, batch)
            _drain(client)
            after = dict(_spent(service))
        time.sleep(5)  # the last closed file is sealed
        stores = {name: _size(service.data, patterns) for name, patterns in STORES.items()}
        sealed = _sealed_share(service.data)
    _print(events, sent, stores, sealed, before, after)


def _client(service: Started) -> httpx.Client:
    headers = {"authorization": f"Bearer {service.key}"}
    return httpx.Client(base_url=service.url, headers=headers, timeout=120)


def _post(client: httpx.Client, events: int, batch: int) -> int:
    """Post them, one body at a time; answers the bytes sent."""
    rng, sent = random.Random(1), 0
    for _ in range(events // batch):
        body = batch_body(batch, run="capacity", customers=CUSTOMERS, rng=rng)
        answer = client.post("/v1/events", content=body, headers={"content-type": CONTENT_TYPE})
        expect("accepted", seen=answer.raise_for_status().json()["accepted"], wanted=batch)
        sent += len(body)
    return sent


def _drain(client: httpx.Client) -> None:
    deadline_s = time.monotonic() + DRAIN_S_MAX
    while True:
        lags = [float(lag) for lag in _LAG.findall(client.get("/metrics").text)]
        if lags and max(lags) <= LAG_MAX:
            return
        if time.monotonic() > deadline_s:
            raise BenchFailed(f"the readers are behind: {lags}")
        time.sleep(0.5)


def _spent(service: Started) -> Iterator[tuple[str, Spent]]:
    for name, process in parts_of(service.process.pid).items():
        times = process.cpu_times()
        rss_mib = process.memory_info().rss / 2**20
        yield name, Spent(cpu_s=times.user + times.system, rss_mib=rss_mib)


def _size(data: Path, patterns: tuple[str, ...]) -> int:
    """Bytes of the disk's blocks; a file with two names counts once."""
    files = {
        (stat.st_dev, stat.st_ino): stat.st_blocks * 512
        for pattern in patterns
        for path in data.glob(pattern)
        if path.is_file() and (stat := path.stat())
    }
    return sum(files.values())


def _sealed_share(data: Path) -> float:
    """How much of the log was in sealed segments, by events."""
    import pyarrow.parquet as pq  # noqa: PLC0415

    return sum(pq.read_metadata(path).num_rows for path in data.glob("nodes/n*/segment-*.parquet"))


def _print(
    events: int,
    sent: int,
    stores: Mapping[str, int],
    sealed: float,
    before: Mapping[str, Spent],
    after: Mapping[str, Spent],
) -> None:
    print(f"{events:,} events of {sent / events:.0f} bytes, {FACTS_AN_EVENT} facts each")
    for name, size in stores.items():
        many = {"log, sealed": sealed, "log, hot": events - sealed}.get(name, events)
        each = f"{size / many:8.1f} bytes an event" if many > 0 else "       -"
        print(f"{name:16}{each}  ({size / 2**20:,.1f} MiB, {many:,.0f} events)")
    for name, spent in after.items():
        cpu_us = (spent.cpu_s - before[name].cpu_s) / events * 1e6
        print(f"{name:16}{cpu_us:8.1f} µs of processor an event  ({spent.rss_mib:,.0f} MiB)")


if __name__ == "__main__":
    typer.run(main)
