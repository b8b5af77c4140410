"""Fees that an amendment leaves unbilled: warned of exactly where nothing is billed."""

from __future__ import annotations

from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import polars as pl
import pytest

from api.editing import Editor
from api.models.catalog import ApplyRequest
from catalog.clock import FixedClock, to_micros
from catalog.events import FACTS
from catalog.ids import ContractId
from catalog.periods import PeriodSpec
from rating.deferred import fees_deferred
from rating.pipeline import rate
from storage.memory.facts import MemoryFactSource
from storage.sql.database import open_database
from storage.sql.statements import StatementStore
from tests.catalogs import catalog_of

MONTHLY, YEARLY = ({"timing": "advance", "every_months": months} for months in (1, 12))
ARREARS = {"timing": "arrears", "every_months": 12}
YEARS = PeriodSpec(text="", first=date(2026, 1, 1), until=date(2028, 1, 1))


def fee(invoicing: dict[str, Any], **more: Any) -> dict[str, Any]:
    """A price of ten a period."""
    charge = {"model": "flat", "amount": "10"}
    return {"product": "fee", "charge": charge, "invoicing": invoicing} | more


def document(before: dict[str, Any], since: str | None, after: dict[str, Any]) -> dict[str, Any]:
    """A contract from January whose fee is another one since."""
    amendments = [] if since is None else [{"effective_from": since, "prices": [after]}]
    contract = {
        "customer": "acme",
        "currency": "USD",
        "invoicing": MONTHLY,
        "start": "2026-01-01",
        "prices": [before],
        "amendments": amendments,
    }
    return {
        "products": {"fee": {"name": "Fee"}},
        "customers": {"acme": {"name": "Acme", "subjects": ["acme"]}},
        "contracts": {"k": contract},
    }


@pytest.mark.parametrize(
    ("before", "since", "after", "gap"),
    [
        (fee(MONTHLY), "2026-04-01", fee(YEARLY), ("2026-04-01", "2027-01-01")),
        (fee(MONTHLY), "2026-04-15", fee(YEARLY), ("2026-05-01", "2027-01-01")),
        (fee(MONTHLY), "2027-01-01", fee(YEARLY), None),
        (fee(MONTHLY), "2026-04-01", fee(YEARLY, prorate="days"), None),
        (fee(MONTHLY), "2026-04-15", fee(MONTHLY, discount_percent="50"), None),
        (fee(YEARLY), "2026-04-01", fee(MONTHLY), None),
        (fee(MONTHLY), "2026-04-01", fee(ARREARS), None),
        (fee(MONTHLY), None, fee(YEARLY), None),
    ],
)
def test_a_warning_says_where_nothing_is_billed(before, since, after, gap):
    """And there is none where every day is in a billing period that is billed."""
    held = catalog_of(document(before, since, after))
    told = list(fees_deferred(held, [ContractId("k")]))
    assert len(told) == (0 if gap is None else 1)
    as_of = to_micros(datetime(2028, 1, 1, tzinfo=UTC))
    source = MemoryFactSource(FACTS.to_frame())
    billed = rate(held, period=YEARS, source=source, as_of=as_of).lines.sort("period_start")
    ends = pl.concat([pl.Series([date(2026, 1, 1)]), billed["period_end"].dt.date()]).cum_max()
    starts = billed["period_start"].dt.date()
    holes = [(str(e), str(s)) for e, s in zip(ends, starts, strict=False) if s > e]
    assert holes == ([] if gap is None else [gap])
    if gap is not None:
        assert f"fee from {gap[0]} to {gap[1]}" in told[0]


def test_apply_warns(tmp_path: Path):
    """In the preview and for good, and not again where nothing changes."""
    clock = FixedClock(to_micros(datetime(2026, 3, 1, tzinfo=UTC)))
    database = open_database(f"sqlite:///{tmp_path}/catalog.sqlite")
    store = StatementStore(database, clock, ZoneInfo("UTC"))
    editor = Editor(store, clock=clock, noted=fees_deferred)
    stated = document(fee(MONTHLY), "2026-04-01", fee(YEARLY))
    for dry_run, warnings in ((True, 1), (False, 1), (True, 0)):
        request = ApplyRequest(document=stated, dry_run=dry_run)
        assert len(editor.apply(request, actor=None)["warnings"]) == warnings
    database.close()
