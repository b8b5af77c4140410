"""Catalogs from their YAML form and facts from short tables, for tests of rating."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import polars as pl
import yaml

from catalog.changes import plan
from catalog.clock import EPOCH, Micros, to_micros
from catalog.events import FACTS
from catalog.grammar import parse_document
from catalog.ids import MeterId
from catalog.periods import PeriodSpec
from catalog.snapshot import Catalog
from rating.plan import Accounted, plan_lines
from rating.terms import Terms
from storage.memory.facts import MemoryFactSource

LATER = Micros(to_micros(EPOCH) + 4_000_000_000_000_000)
"""An ``as_of`` by which everything in a test has been received (the year 2096)."""


def catalog_of(text: str, *, timezone: str = "UTC") -> Catalog:
    """The catalog a YAML document makes, read through the public grammar; scalars are text."""
    tree = yaml.load(text, Loader=yaml.BaseLoader)
    return plan(Catalog(timezone=ZoneInfo(timezone)), parse_document(tree)).catalog


def at(text: str) -> Micros:
    """An instant: RFC 3339, UTC where it names no offset."""
    moment = datetime.fromisoformat(text)
    return to_micros(moment if moment.tzinfo else moment.replace(tzinfo=EPOCH.tzinfo))


@dataclass
class Usage:
    """Facts in the making: as if these events had been sent and read by the catalog's meters."""

    catalog: Catalog
    rows: list[dict[str, object]] = field(default_factory=list)

    def add(
        self,
        meter: str,
        subject: str,
        time: str | datetime,
        value: str | int | Decimal | None = None,
        **dimensions: str,
    ) -> Usage:
        """One event at ``time`` (UTC), received a second later."""
        spec = self.catalog.meters[MeterId(meter)].last.fact_spec
        moment = datetime.fromisoformat(time) if isinstance(time, str) else time
        moment = moment if moment.tzinfo else moment.replace(tzinfo=EPOCH.tzinfo)
        self.rows.append(
            {
                "node": "n1",
                "seq": len({row["seq"] for row in self.rows}) + 1,
                "spec": spec.id,
                "subject": subject,
                "time": moment,
                "received_at": moment + timedelta(seconds=1),
                "value": None if value is None or spec.as_text else Decimal(value),
                "text": str(value) if spec.as_text else None,
                "dimensions": dimensions_text(dimensions),
            }
        )
        return self

    def also(self, path: str, value: str | int | Decimal | None) -> Usage:
        """What the last event says at another path, as a dynamic price of the meter reads it."""
        last = self.rows[-1]
        meter = next(
            chain.last
            for chain in self.catalog.meters.values()
            if chain.last.fact_spec.id == last["spec"]
        )
        found = None if value is None else Decimal(value)
        self.rows.append(last | {"spec": meter.reading(path).id, "value": found, "text": None})
        return self

    def source(self, voids: pl.DataFrame | None = None) -> MemoryFactSource:
        """A fact source that holds them."""
        return MemoryFactSource(pl.DataFrame(self.rows, schema=FACTS, orient="row"), voids)


def dimensions_text(dimensions: Mapping[str, str]) -> str:
    """Dimensions as FACTS write them."""
    return json.dumps(dimensions, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def terms_of(charge: str | dict[str, Any], **price: Any) -> Terms:
    """The Terms of one metered price with ``charge`` (YAML or a tree) and more fields."""
    if isinstance(charge, str):
        charge = yaml.load(charge, Loader=yaml.BaseLoader)
    fields = json.dumps({"product": "p", "charge": charge, **price})
    catalog = catalog_of(f"""
      meters: {{m: {{event_type: t, aggregation: count}}}}
      products: {{p: {{name: p, meter: m}}}}
      pricebooks:
        b: {{currency: USD, invoicing: {{timing: arrears, every_months: 1}}, prices: [{fields}]}}
      customers: {{c: {{name: c, subjects: []}}}}
      contracts: {{k: {{customer: c, pricebook: b, start: "2026-01-01"}}}}
    """)
    spec = PeriodSpec.parse("2026-01")
    (plan_of_it,) = plan_lines(catalog, Accounted(spec, LATER))
    return plan_of_it.terms


def amounts(lines: pl.DataFrame, *columns: str) -> list[tuple[object, ...]]:
    """The named columns (default product and amount) of LINES as rows, amounts as plain text."""
    chosen = columns or ("product", "amount")
    rows = lines.select(chosen).rows()
    return [tuple(plain(cell) if isinstance(cell, Decimal) else cell for cell in r) for r in rows]


def plain(number: Decimal) -> str:
    """A decimal without trailing zeros."""
    text = f"{number:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
