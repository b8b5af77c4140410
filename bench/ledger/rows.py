"""What is measured of the entitlement ledger."""

from __future__ import annotations

from bench.ledger.over_http import measure_against, measure_batch, measure_latency
from bench.ledger.port import measure_hot, measure_rebuild
from bench.ledger.requests import checks, consumes
from bench.registry import Goal, Row

TITLE = "Entitlements"
NOOP = "a no-op ASGI application"
LUA = "one Lua call a request in a minimal ASGI application (redis-py; not durable)"

ROWS = [
    Row(
        key="ledger/check-noop",
        title="check over HTTP, 64 connections",
        against=NOOP,
        goal=Goal(reach=0.45, stretch=0.65),
        measure=lambda context: measure_against(context, checks, "noop"),
    ),
    Row(
        key="ledger/check-lua",
        title="check over HTTP, 64 connections",
        against=LUA,
        goal=Goal(reach=2.5, stretch=4),
        measure=lambda context: measure_against(context, checks, "lua"),
    ),
    Row(
        key="ledger/consume-lua",
        title="durable consume over HTTP, 64 connections",
        against=LUA,
        goal=Goal(reach=1.7, stretch=2.4),
        measure=lambda context: measure_against(context, consumes, "lua"),
    ),
    Row(
        key="ledger/consume-p99",
        title="durable consume, 99th percentile at half load",
        against="nothing",
        goal=Goal(reach=5, stretch=2, at_most=True),
        measure=lambda context: measure_latency(context, consumes),
    ),
    Row(
        key="ledger/batch-check",
        title="a decision alone and in a batch check of 1,000, cost",
        against="the same in a batch",
        goal=Goal(reach=10, stretch=20),
        measure=measure_batch,
    ),
    Row(
        key="ledger/hot-account",
        title="one hot account, reserve and settle, at the ledger port",
        against="the same scripts, pipelined by a bare client",
        goal=Goal(reach=0.5, stretch=0.8),
        measure=measure_hot,
    ),
    Row(
        key="ledger/rebuild",
        title="rebuild after FLUSHALL",
        against="the clock",
        goal=Goal(reach=1_000_000, stretch=5_000_000),
        measure=measure_rebuild,
    ),
]
