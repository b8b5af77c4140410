"""A realistic month from a seed: skewed customers, several meters, retries, late arrivals."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

MONTH_START_US = 1_767_225_600_000_000  # 2026-01-01T00:00:00Z
MODELS = ("small", "medium", "large")
REGIONS = ("eu", "us", "ap")


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """How much of what. ``retried`` and ``late`` are parts per thousand of the events."""

    seed: int = 2026
    events: int = 400_000
    customers: int = 250
    retried: int = 20
    late: int = 5
    batch_rows: int = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Month:
    """What will be sent, as frames of events: ``on_time`` (retries mixed in) and ``late``."""

    shape: Shape
    on_time: pl.DataFrame
    late: pl.DataFrame

    @property
    def retries(self) -> int:
        """How many copies ``on_time`` holds beyond the first."""
        return self.on_time.height + self.late.height - self.shape.events

    def tokens(self) -> int:
        """What the tokens meter must come to, counted apart from the service."""
        unique = pl.concat([self.on_time, self.late]).unique("id")
        return int(unique.filter(pl.col("type") == "llm.completion")["tokens"].sum())


def customer_name(index: int) -> str:
    """The id of the index-th customer, biggest first."""
    return f"customer-{index:03d}"


def generate(shape: Shape) -> Month:
    """Draw the month. The same shape gives the same events, ids included."""
    rng = np.random.default_rng(shape.seed)
    count = shape.events
    ranks = rng.zipf(1.35, size=count * 2)
    ranks = np.resize(ranks[ranks <= shape.customers], count)
    hours = rng.beta(2.2, 2.0, size=count) * 24
    days = rng.integers(0, 31, size=count)
    times = MONTH_START_US + days * 86_400_000_000 + (hours * 3_600_000_000).astype(np.int64)
    frame = pl.DataFrame(
        {
            "time": np.sort(times),
            "customer": ranks - 1,
            "egress": rng.random(count) < 0.12,
            "model": rng.choice(3, size=count, p=[0.6, 0.3, 0.1]),
            "region": rng.choice(3, size=count, p=[0.5, 0.4, 0.1]),
            "tokens": (rng.lognormal(7.0, 1.1, size=count)).astype(np.int64) + 1,
            "milli_gb": rng.integers(1, 40_000, size=count),
        }
    ).with_row_index("number")
    return _arrange(_as_events(frame), shape, rng)


def _as_events(frame: pl.DataFrame) -> pl.DataFrame:
    names = pl.Series([customer_name(i) for i in range(1_000)])
    tokens = pl.concat_str(
        pl.lit('{"model":"'),
        pl.lit(pl.Series(MODELS)).gather(pl.col("model")),
        pl.lit('","region":"'),
        pl.lit(pl.Series(REGIONS)).gather(pl.col("region")),
        pl.lit('","tokens":'),
        pl.col("tokens").cast(pl.String),
        pl.lit("}"),
    )
    gigabytes = pl.col("milli_gb").cast(pl.Decimal(18, 3)) / 1000
    egress = pl.concat_str(pl.lit('{"gb":"'), gigabytes.cast(pl.String), pl.lit('"}'))
    return frame.select(
        pl.concat_str(pl.lit("req-"), pl.col("number").cast(pl.String)).alias("id"),
        pl.lit("gateway-eu").alias("source"),
        pl.when("egress")
        .then(pl.lit("cdn.egress"))
        .otherwise(pl.lit("llm.completion"))
        .alias("type"),
        pl.lit(names).gather(pl.col("customer")).alias("subject"),
        pl.col("time").cast(pl.Datetime("us", "UTC")).alias("time"),
        pl.when("egress").then(egress).otherwise(tokens).alias("data"),
        pl.when("egress").then(0).otherwise(pl.col("tokens")).alias("tokens"),
    )


def _arrange(events: pl.DataFrame, shape: Shape, rng: np.random.Generator) -> Month:
    """Order events as they arrive: late ones at the end, retries a while after the first try."""
    is_late = pl.Series(rng.random(events.height) < shape.late / 1_000)
    late = events.filter(is_late)
    fresh = events.filter(~is_late).with_row_index("place").cast({"place": pl.Float64})
    retried = fresh.filter(pl.Series(rng.random(fresh.height) < shape.retried / 1_000))
    delay = rng.exponential(800, size=retried.height) + 0.5
    retried = retried.with_columns(place=pl.col("place") + pl.Series(delay))
    on_time = pl.concat([fresh, retried]).sort("place", maintain_order=True).drop("place")
    return Month(shape=shape, on_time=on_time, late=late)


def bodies(events: pl.DataFrame, *, batch_rows: int) -> Iterator[tuple[bytes, int]]:
    """The events as CloudEvents batches (JSON), each with its number of events."""
    lines = events.select(
        pl.concat_str(
            pl.lit('{"specversion":"1.0","id":"'),
            pl.col("id"),
            pl.lit('","source":"'),
            pl.col("source"),
            pl.lit('","type":"'),
            pl.col("type"),
            pl.lit('","subject":"'),
            pl.col("subject"),
            pl.lit('","time":"'),
            pl.col("time").dt.strftime("%Y-%m-%dT%H:%M:%S%.6fZ"),
            pl.lit('","data":'),
            pl.col("data"),
            pl.lit("}"),
        ).alias("line")
    )["line"]
    for offset in range(0, lines.len(), batch_rows):
        batch = lines.slice(offset, batch_rows)
        yield ("[" + ",".join(batch.to_list()) + "]").encode(), batch.len()


def customers_document(shape: Shape) -> dict[str, Any]:
    """Customers and contracts: all on the standard pricebook, the two biggest with overrides."""
    customers: dict[str, Any] = {}
    contracts: dict[str, Any] = {}
    for index in range(shape.customers):
        name = customer_name(index)
        customers[name] = {"name": name.replace("-", " ").title(), "subjects": [name]}
        contracts[f"{name}-2026"] = {
            "customer": name,
            "pricebook": "standard",
            "start": "2026-01-01",
            "end": "2027-01-01",
        }
    contracts[f"{customer_name(0)}-2026"]["prices"] = [
        {"product": "tokens", "charge": {"model": "per_unit", "unit_price": "0.0000009"}}
    ]
    contracts[f"{customer_name(1)}-2026"]["prices"] = [
        {
            "product": "platform",
            "invoicing": {"timing": "advance", "every_months": "1", "anchor": "calendar"},
            "charge": {"model": "flat", "amount": "39.00"},
        }
    ]
    return {"customers": customers, "contracts": contracts}
